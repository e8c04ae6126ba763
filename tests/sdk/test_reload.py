from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from podium.sdk import reload
from podium.sdk.host import AgentHost
from podium.sdk.reload import Reloader, Source
from podium.v1.session_pb2 import LeaseRef
from tests.sdk.fakes import FakeRouter, settings, spec
from tests.support.waiting import eventually

AGENT = """
import asyncio
from pathlib import Path

from podium.sdk.agent import Agent
from podium.sdk.context import Context
from {package}words import WORD

agent = Agent("worker", agent_id="a1", capacity=2)

@agent.handles("work")
async def work(payload: str, task: Context) -> str:
    if payload == "wait":
        while not (Path(__file__).parent / "go").exists():
            await asyncio.sleep(0.01)
    return f"{{WORD}} {version}"
"""


class Program:
    """A program on disk, with a module of its own beside it."""

    def __init__(self, folder: Path, package: str) -> None:
        self.folder = folder / package.rstrip(".") if package else folder
        self.folder.mkdir(exist_ok=True)
        self.package = package
        self.main = self.folder / "reloaded_main.py"
        self.words = self.folder / "reloaded_words.py"
        self.target = f"{package}reloaded_main:agent"
        self.write(version=1)
        self.words.write_text("WORD = 'old'\n")

    def write(self, version: int) -> None:
        text = AGENT.format(package=f"{self.package}reloaded_", version=version)
        self.main.write_text(text)

    def go(self) -> None:
        """Lets the handler go on that is to wait."""
        (self.folder / "go").touch()


@pytest.fixture(params=["", "reloaded_package."])
def program(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Program]:
    monkeypatch.syspath_prepend(str(tmp_path))
    yield Program(tmp_path, request.param)
    for name in [name for name in sys.modules if name.startswith("reloaded_")]:
        del sys.modules[name]


def answer(source: Source, *, again: bool) -> str:
    (agent,) = source.load_again() if again else source.load()
    handler = agent.handlers["work"]
    with contextlib.closing(handler.function("", None)) as coroutine:
        try:
            coroutine.send(None)
        except StopIteration as end:
            return str(end.value)
    raise AssertionError("it waits")


def test_a_change_of_the_module_or_of_one_beside_it_is_seen_and_loaded(program: Program) -> None:
    source = Source(program.target)
    assert answer(source, again=False) == "old 1"
    assert not source.changed()

    program.write(version=2)
    assert source.changed()
    assert answer(source, again=True) == "old 2"
    assert not source.changed()

    program.words.write_text("WORD = 'newer'\n")
    assert source.changed()
    assert answer(source, again=True) == "newer 2"


def test_code_that_cannot_be_imported_leaves_the_modules_as_they_were(program: Program) -> None:
    source = Source(program.target)
    source.load()
    module = sys.modules[program.target.partition(":")[0]]

    program.main.write_text("def broken(:\n")
    with pytest.raises(SyntaxError):
        source.load_again()

    assert sys.modules[program.target.partition(":")[0]] is module
    assert not source.changed()
    program.write(version=3)
    assert source.changed()
    assert answer(source, again=True) == "old 3"


@pytest.mark.parametrize("target", ["nothing", "a:", ":b"])
def test_a_target_names_a_module_and_an_agent(target: str) -> None:
    with pytest.raises(ValueError, match="is not MODULE:AGENT"):
        Source(target)


def test_a_module_without_the_agent_is_told() -> None:
    with pytest.raises(ValueError, match=r"tests\.sdk\.pooled has no agent called 'nobody'"):
        Source("tests.sdk.pooled:nobody").load()


async def test_new_code_takes_the_next_task_on_the_same_session(
    router: FakeRouter, program: Program
) -> None:
    source = Source(program.target)
    address: str = router.address  # type: ignore[attr-defined]  # set by the fixture
    host = AgentHost(source.load(), settings=settings(routing=address), grace_s=5)

    async with host:
        watching = asyncio.create_task(Reloader([source], host, poll_s=0.01).run())
        router.assign("a1", "t1", spec=spec(data=b"wait"))
        await eventually(lambda: router.frames("ack"))
        program.write(version=2)
        await eventually(lambda: not source.changed())
        program.go()
        router.assign("a1", "t2", spec=spec())
        await eventually(lambda: len(router.frames("result")) == 2)
        watching.cancel()

    said = {f.result.lease.task_id: f.result.success.data for f in router.frames("result")}
    assert said == {"t1": b"old 1", "t2": b"old 2"}
    assert len(router.streams) == 1


async def test_what_it_can_do_now_is_said_without_losing_a_lease(
    router: FakeRouter, program: Program
) -> None:
    source = Source(program.target)
    address: str = router.address  # type: ignore[attr-defined]  # set by the fixture
    host = AgentHost(source.load(), settings=settings(routing=address), grace_s=5)

    async with host:
        watching = asyncio.create_task(Reloader([source], host, poll_s=0.01).run())
        router.assign("a1", "t1", spec=spec(data=b"wait"))
        await eventually(lambda: router.frames("ack"))
        text = program.main.read_text()
        program.main.write_text(text.replace('handles("work")', 'handles("more")'))
        await eventually(lambda: len(router.frames("hello")) == 2)
        program.go()
        await eventually(lambda: len(router.frames("result")) == 1)
        watching.cancel()

    first, second = (frame.hello for frame in router.frames("hello"))
    assert [skill.name for skill in second.capabilities] == ["more"]
    assert second.instance_id == first.instance_id
    assert list(second.in_flight) == [LeaseRef(task_id="t1", lease_epoch=1)]
    assert second.resume_token == "token-1"


def test_packages_below_the_module_are_its_own_and_installed_ones_are_not(
    program: Program, tmp_path: Path
) -> None:
    deep = program.folder / "reloaded_below" / "deep.py"
    installed = program.folder / ".venv" / "site-packages" / "reloaded_installed.py"
    for file, text in ((deep, "WORD = 'deep'\n"), (installed, "WORD = 'installed'\n")):
        file.parent.mkdir(parents=True)
        file.write_text(text)
    text = program.main.read_text()
    below = f"from {program.package}reloaded_below.deep import WORD"
    program.main.write_text(
        text.replace(f"from {program.package}reloaded_words import WORD", below)
        + f"\nimport sys\nsys.path.append({str(installed.parent)!r})\nimport reloaded_installed\n"
    )
    source = Source(program.target)
    assert answer(source, again=False) == "deep 1"

    installed.write_text("WORD = 'upgraded'\n")
    assert not source.changed()
    deep.write_text("WORD = 'deeper'\n")
    assert source.changed()
    assert answer(source, again=True) == "deeper 1"


OPENING = """
from podium.sdk.agent import Agent

agent = Agent("worker", agent_id="a1", capacity={capacity})
log = __import__("reloaded_log").LOG

@agent.lifespan
async def opened():
    log.append("opens {version}")
    yield
    log.append("closes {version}")

@agent.handles("work")
async def work(payload: str) -> str:
    if payload == "wait":
        await __import__("reloaded_log").GO.wait()
    return "{version}"

@agent.handles("apart", pool="process")
def apart(payload: str) -> str:
    return "{version}"
"""


async def test_what_was_open_is_closed_when_the_last_task_that_began_with_it_has_ended(
    router: FakeRouter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    shared = ModuleType("reloaded_log")
    events, shared.GO = list[str](), asyncio.Event()  # type: ignore[attr-defined]  # made here
    shared.LOG = events  # type: ignore[attr-defined]  # made here
    monkeypatch.setitem(sys.modules, "reloaded_log", shared)
    main = tmp_path / "reloaded_open.py"
    main.write_text(OPENING.format(version=1, capacity=2))
    source = Source("reloaded_open:agent")
    address: str = router.address  # type: ignore[attr-defined]  # set by the fixture
    host = AgentHost(source.load(), settings=settings(routing=address), grace_s=5)

    async with host:
        router.assign("a1", "t1", spec=spec(data=b"wait"))
        await eventually(lambda: router.frames("ack"))
        for version in (2, 3):
            main.write_text(OPENING.format(version=version, capacity=2))
            await host.replace(source.load_again())
        await eventually(lambda: "closes 2" in events)
        assert "closes 1" not in events, "a task still uses it"
        shared.GO.set()  # type: ignore[attr-defined]  # made here
        await eventually(lambda: "closes 1" in events)
        assert "closes 3" not in events
    monkeypatch.delitem(sys.modules, "reloaded_open")

    opened = [event for event in events if event.startswith("opens")]
    assert opened == ["opens 1", "opens 2", "opens 3"]
    assert events[-1] == "closes 3"


async def test_new_code_reaches_the_processes_of_the_pool(
    router: FakeRouter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "reloaded_log.py").write_text("LOG = []\n")
    main = tmp_path / "reloaded_pooled.py"
    main.write_text(OPENING.format(version=1, capacity=2))
    source = Source("reloaded_pooled:agent")
    address: str = router.address  # type: ignore[attr-defined]  # set by the fixture
    host = AgentHost(source.load(), settings=settings(routing=address), grace_s=5)

    async with host:
        for version in (1, 2):
            main.write_text(OPENING.format(version=version, capacity=2))
            await host.replace(source.load_again())
            router.assign("a1", f"t{version}", spec=spec("apart", data=b"x"))
            await eventually(lambda: len(router.frames("result")) == version)  # noqa: B023 - awaited
    for name in ("reloaded_pooled", "reloaded_log"):
        monkeypatch.delitem(sys.modules, name)

    said = {f.result.lease.task_id: f.result.success.data for f in router.frames("result")}
    assert said == {"t1": b"1", "t2": b"2"}
    assert not (tmp_path / "__pycache__").exists(), "what it holds may be taken for a later edit's"


async def test_broken_code_changes_nothing_and_another_agent_cannot_take_over(
    router: FakeRouter, program: Program, caplog: pytest.LogCaptureFixture
) -> None:
    source = Source(program.target)
    address: str = router.address  # type: ignore[attr-defined]  # set by the fixture
    host = AgentHost(source.load(), settings=settings(routing=address), grace_s=5)

    async with host:
        watching = asyncio.create_task(Reloader([source], host, poll_s=0.01).run())
        for broken in ("def broken(:\n", program.main.read_text().replace('"a1"', '"a2"')):
            caplog.clear()
            program.main.write_text(broken)
            await eventually(lambda: "is not reloaded; the code before goes on" in caplog.text)
        router.assign("a1", "t1", spec=spec())
        await eventually(lambda: router.frames("result"))
        watching.cancel()

    assert "this host has no agent a2: start it anew" in caplog.text
    assert router.frames("result")[0].result.success.data == b"old 1"


async def test_code_that_asks_to_exit_ends_no_agent(
    router: FakeRouter, program: Program, caplog: pytest.LogCaptureFixture
) -> None:
    source = Source(program.target)
    address: str = router.address  # type: ignore[attr-defined]  # set by the fixture
    host = AgentHost(source.load(), settings=settings(routing=address), grace_s=5)
    text = program.main.read_text()
    caplog.set_level("INFO", logger="podium.sdk.agent")
    exits = "raise SystemExit('set KEY')\n"
    opens = f"\n@agent.lifespan\nasync def opened():\n    {exits}    yield\n"

    async with host:
        watching = asyncio.create_task(Reloader([source], host, poll_s=0.01).run())
        for broken in (exits + text, text + opens):
            caplog.clear()
            program.main.write_text(broken)
            await eventually(lambda: "is not reloaded; the code before goes on" in caplog.text)
            assert "set KEY" in caplog.text
        program.write(version=2)
        await eventually(lambda: f"{program.target} is reloaded" in caplog.text)
        router.assign("a1", "t1", spec=spec())
        await eventually(lambda: router.frames("result"))
        watching.cancel()

    assert router.frames("result")[0].result.success.data == b"old 2"


@pytest.mark.parametrize("broken", ["WORD = (\n", None], ids=["broken", "not there yet"])
def test_a_new_module_that_cannot_be_imported_is_seen_when_it_is_mended(
    program: Program, broken: str | None
) -> None:
    source = Source(program.target)
    source.load()
    added = program.folder / "reloaded_added.py"
    unrelated = program.folder / "unrelated.py"
    unrelated.write_text("")
    if broken:
        added.write_text(broken)
    text = program.main.read_text()
    program.main.write_text(text.replace("reloaded_words import", "reloaded_added import"))
    assert source.changed()
    with pytest.raises((SyntaxError, ImportError)):
        source.load_again()
    assert not source.changed()

    added.write_text("WORD = 'mended'\n")
    assert source.changed()
    assert answer(source, again=True) == "mended 1"
    unrelated.write_text("changed = True\n")
    assert not source.changed(), "it is imported by nothing"


async def test_a_lifespan_that_hangs_is_left_when_the_code_changes_again(
    router: FakeRouter,
    program: Program,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level("INFO", logger="podium.sdk.agent")
    monkeypatch.setattr(reload, "OPENING_S", 0.02)
    source = Source(program.target)
    address: str = router.address  # type: ignore[attr-defined]  # set by the fixture
    host = AgentHost(source.load(), settings=settings(routing=address), grace_s=5)
    hangs = "    await __import__('asyncio').Event().wait()\n"

    async with host:
        watching = asyncio.create_task(Reloader([source], host, poll_s=0.01).run())
        text = program.main.read_text()
        program.main.write_text(f"{text}\n@agent.lifespan\nasync def opened():\n{hangs}    yield\n")
        await eventually(lambda: "still opens; the code before goes on" in caplog.text)
        program.write(version=2)
        await eventually(lambda: "has changed while it opened" in caplog.text)
        await eventually(lambda: f"{program.target} is reloaded" in caplog.text)
        router.assign("a1", "t1", spec=spec())
        await eventually(lambda: router.frames("result"))
        watching.cancel()

    assert router.frames("result")[0].result.success.data == b"old 2"

"""The web client in Node: alone, as a package, and against a real suite whose bridges go away."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.browser.balancer import Balancer
from tests.browser.conftest import Suite
from tests.browser.submitter import Submitter
from tests.browser.test_assets import WEB, npm
from tests.support.ports import free_port
from tests.support.processes import Process

PROGRAMS = WEB / "test" / "programs"
Run = Callable[..., Process]


@pytest.fixture(scope="module")
def package() -> Path:
    if shutil.which("npm") is None:
        pytest.skip("There is no npm: the package cannot be built here.")
    if not (WEB / "node_modules" / ".package-lock.json").exists():
        npm("npm", "ci", "--no-audit", "--no-fund", folder=WEB)
    npm("npm", "run", "package", folder=WEB)
    return WEB


@pytest.fixture
def node(package: Path, tmp_path: Path) -> Iterator[Run]:
    """Runs one of the programs."""
    started: list[Process] = []

    def run(program: str, *arguments: str, spelling: str = "json") -> Process:
        # Node before 22 has a WebSocket behind this flag.
        command = ["node", "--experimental-websocket", "--no-warnings", str(PROGRAMS / program)]
        log = tmp_path / f"{program}-{len(started)}.log"
        started.append(Process([*command, *arguments], {**os.environ, "SPELLING": spelling}, log))
        return started[-1]

    yield run
    for process in started:
        process.kill()


@pytest.fixture
def client(suite: Suite) -> Iterator[Submitter]:
    with Submitter(suite.environ) as submitter:
        yield submitter


@pytest.fixture
def second(suite: Suite) -> Iterator[tuple[Process, int]]:
    """Another bridge of the same suite."""
    port = free_port()
    environ = {**suite.environ, "PODIUM_EDGE_PORT": str(port)}
    edge = suite.processes.python("-m", "services.edge", environ=environ)
    edge.wait_for("listening on")
    yield edge, port
    edge.kill()


def seqs(follower: Process) -> list[int]:
    return [int(seq) for seq in re.findall(r"^(\d+) task:", follower.output(), re.MULTILINE)]


@pytest.mark.timeout(120)
def test_its_own_tests_pass(package: Path) -> None:
    npm("npm", "test", folder=package)


@pytest.mark.timeout(120)
def test_the_package_holds_the_module_and_types_that_a_strict_program_accepts(
    package: Path, tmp_path: Path
) -> None:
    listed = subprocess.run(
        ["npm", "pack", "--dry-run", "--json"], cwd=package, capture_output=True, check=True
    )
    files = {each["path"] for each in json.loads(listed.stdout)[0]["files"]}
    program = tmp_path / "program.mts"
    program.write_text(
        'import { connect, type Agent } from "podium-web";\n'
        'import { binary } from "podium-web/binary";\n'
        'const podium = connect({ url: "ws://127.0.0.1:7700/ws", spelling: binary });\n'
        'const task = await podium.submit({ type: "text.count", payload: "one two" });\n'
        "for await (const { name, event } of task.events()) console.log(name, event.agentId);\n"
        'const agent: Agent = podium.agent({ agentId: "a", capabilities: [], handle: () => 1 });\n'
        "agent.drain();\n"
    )
    modules = tmp_path / "node_modules"
    modules.mkdir()
    (modules / "podium-web").symlink_to(package)

    npm(
        *[str(package / "node_modules" / ".bin" / "tsc"), "--noEmit", "--strict"],
        *["--module", "nodenext", "--target", "es2022", "--lib", "es2022,dom", "--types", ""],
        str(program),
        folder=tmp_path,
    )

    assert {"dist/podium.js", "dist/podium.d.ts", "package.json"} <= files
    assert {"dist/binary.js", "dist/binary.d.ts"} <= files
    assert not [each for each in files if each.startswith(("src/", "test/"))]


@pytest.mark.timeout(120)
def test_no_event_is_lost_while_bridges_come_and_go(
    suite: Suite, node: Run, client: Submitter
) -> None:
    follower = node("follow.mjs", suite.ws)
    follower.wait_for("^# open", within_s=30)
    suite.agent("flow-1", "text.echo")
    handles = []

    for round_, how in enumerate((signal.SIGTERM, signal.SIGKILL, signal.SIGTERM), 1):
        handles += [client.submit("text.echo", f"{how.name}") for _ in range(40)]
        suite.services["edge"].signal(how)
        suite.services["edge"].wait()
        handles += [client.submit("text.echo", f"after {how.name}") for _ in range(40)]
        suite.start("edge")
        follower.wait_for("(?s)" + "# open.*" * round_ + "# open", within_s=30)
    for handle in handles:
        client.result(handle)
    follower.wait_for(rf"task:completed {handles[-1].task_id}$", within_s=30)

    found = seqs(follower)
    completed = set(re.findall(r"task:completed (\S+)$", follower.output(), re.MULTILINE))
    assert found == list(range(found[0], found[-1] + 1))
    assert {handle.task_id for handle in handles} <= completed


@pytest.mark.timeout(120)
def test_an_agent_keeps_its_task_while_the_bridge_restarts(
    suite: Suite, node: Run, client: Submitter
) -> None:
    agent = node("work.mjs", suite.ws, "keeper-1", "node.keep")
    handle = client.submit("node.keep", "one")
    agent.wait_for("^began one attempt 1", within_s=30)

    assert suite.services["edge"].stop() == 0
    suite.start("edge")
    suite.ready()
    agent.wait_for("(?s)state ready.*state connecting.*state ready", within_s=30)
    agent.signal(signal.SIGUSR2)

    assert client.result(handle) == "one by keeper-1"
    assert agent.output().count("began") == 1
    assert client.attempts(handle) == 1


@pytest.mark.timeout(120)
def test_client_and_agent_speak_binary_as_they_speak_json(
    suite: Suite, node: Run, client: Submitter
) -> None:
    followers = [node("follow.mjs", suite.ws, spelling=each) for each in ("json", "binary")]
    for follower in followers:
        follower.wait_for("^# open", within_s=30)
    agent = node("work.mjs", suite.ws, "binary-1", "node.binary", spelling="binary")
    agent.wait_for("^state ready", within_s=30)
    handle = client.submit("node.binary", "three")
    agent.wait_for("^began three attempt 1", within_s=30)
    agent.signal(signal.SIGUSR2)

    assert client.result(handle) == "three by binary-1"
    for follower in followers:
        follower.wait_for(rf"task:completed {handle.task_id}$", within_s=30)
    told = [
        re.findall(rf"^\d+ task:\w+ {handle.task_id}$", follower.output(), re.MULTILINE)
        for follower in followers
    ]
    assert told[0] == told[1] != []


@pytest.mark.timeout(120)
def test_behind_a_balancer_one_bridge_takes_over_from_the_other(
    suite: Suite, node: Run, client: Submitter, second: tuple[Process, int]
) -> None:
    other, port = second
    balancer = Balancer(port, suite.port)
    url = f"ws://127.0.0.1:{balancer.port}/ws"
    follower = node("follow.mjs", url)
    follower.wait_for("^# open", within_s=30)
    suite_side = node("work.mjs", url, "spare-1", "node.none")
    suite_side.wait_for("^state ready", within_s=30)
    agent = node("work.mjs", url, "mover-1", "node.move")
    agent.wait_for("^state ready", within_s=30)
    assert balancer.passed[:3] == [port, suite.port, port]
    handle = client.submit("node.move", "two")
    agent.wait_for("^began two attempt 1", within_s=30)

    other.kill()
    agent.wait_for("(?s)state connecting.*state ready", within_s=30)
    agent.signal(signal.SIGUSR2)

    assert client.result(handle) == "two by mover-1"
    assert client.attempts(handle) == 1
    follower.wait_for(rf"task:completed {handle.task_id}$", within_s=30)
    found = seqs(follower)
    assert found == list(range(found[0], found[-1] + 1))
    balancer.close()

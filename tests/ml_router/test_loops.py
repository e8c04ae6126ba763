from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from services.kernel.clock import ManualClock
from services.kernel.errors import NotFound
from services.ml_router.adapters.snapshots import SnapshotDirectory
from services.ml_router.core.learner import Learner
from services.ml_router.core.model import Tuning
from services.ml_router.core.versions import Mode, Policy
from services.ml_router.loops import Learning, Pace
from tests.ml_router.worlds import feed, outcomes, success
from tests.support.waiting import eventually

PACE = Pace(update_s=1.0, push_interval_s=5.0, checkpoint_s=60.0)


class Desk:
    """A learning loop over a directory, on a clock of its own."""

    def __init__(self, directory: Path) -> None:
        self.clock = ManualClock()
        self.learner = Learner()
        self.directory = directory
        self.learning = self.started()

    def started(self) -> Learning:
        self.learner = Learner()
        learning = Learning(
            self.learner,
            SnapshotDirectory(self.directory),
            policy=Policy(),
            tuning=Tuning(),
            pace=PACE,
            clock=self.clock,
        )
        learning.follow(lambda: f"after-{self.learner.event_seq}")
        return learning

    def learn(self, agent_id: str, share: float = 1.0, count: int = 20) -> None:
        feed(self.learner, *outcomes(agent_id, share, count))

    async def kept(self, agent_id: str, share: float = 1.0) -> str:
        """Learns something, keeps it, and returns the version."""
        self.learn(agent_id, share)
        await self.clock.advance(1.0)
        await self.learning.checkpoint()
        return self.learning.listed()[0].version

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.learning.run())
        try:
            await self.clock.sleepers()
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path / "models")


async def test_what_was_learned_is_pushed_within_a_second(desk: Desk) -> None:
    async with desk.running():
        told, before = desk.learning.revision, desk.learning.current.version
        desk.learn("a")
        await desk.clock.advance(1.0)

        assert desk.learning.revision == told + 1
        assert desk.learning.current.version > before
        assert desk.learning.current.agent_ids == ("a",)


async def test_the_same_model_is_told_again_when_nothing_is_learned(desk: Desk) -> None:
    async with desk.running():
        version = desk.learning.current.version
        watcher = asyncio.create_task(desk.learning.changed(desk.learning.revision))
        await desk.clock.advance(4.5)
        assert not watcher.done()
        await desk.clock.advance(1.0)

        await asyncio.wait_for(watcher, 5)
        assert desk.learning.current.version == version


async def test_versions_are_kept_at_intervals_and_only_when_something_was_learned(
    desk: Desk,
) -> None:
    async with desk.running():
        desk.learn("a")
        for _ in range(61):
            await desk.clock.advance(1.0)
        # Written by a thread, which a manual clock does not wait for.
        await eventually(lambda: len(SnapshotDirectory(desk.directory).list()) == 1)
        for _ in range(120):
            await desk.clock.advance(1.0)

        assert len(SnapshotDirectory(desk.directory).list()) == 1


async def test_events_that_teach_nothing_make_no_version(desk: Desk) -> None:
    await desk.kept("a")
    desk.learner.advance(desk.learner.event_seq + 1)
    await desk.learning.checkpoint()

    assert len(SnapshotDirectory(desk.directory).list()) == 1
    assert len(desk.learning.listed()) == 1


async def test_a_restart_continues_where_the_last_checkpoint_stood(desk: Desk) -> None:
    version = await desk.kept("a", 0.5)
    known = success(desk.learning.current, "a")

    again = desk.started()

    assert again.restored_cursor == "after-20"
    assert desk.learner.event_seq == 20
    assert success(again.current, "a") == known
    assert again.current.version > version


async def test_a_restart_passes_over_a_damaged_checkpoint(desk: Desk) -> None:
    await desk.kept("a")
    last = await desk.kept("b")
    (desk.directory / f"{last}.model").write_bytes(b"what is this")

    again = desk.started()

    assert again.restored_cursor == "after-20"
    assert again.current.agent_ids == ("a",)


async def test_a_roll_back_stays_until_the_mode_is_set(desk: Desk) -> None:
    first = await desk.kept("a", 1.0)
    await desk.kept("a", 0.0)
    good = desk.learning.current

    assert await desk.learning.roll_back("") == first
    assert desk.learning.current.version == first
    assert success(desk.learning.current, "a") > success(good, "a")
    desk.learn("a", 0.0)
    desk.learning.update()
    assert desk.learning.current.version == first

    await desk.learning.set_mode(Mode.LIVE, 0.0)
    assert desk.learning.current.version > good.version


async def test_mode_and_roll_back_outlive_a_restart(desk: Desk) -> None:
    first = await desk.kept("a", 1.0)
    await desk.kept("a", 0.0)
    await desk.learning.set_mode(Mode.CANARY, 0.25)
    await desk.learning.roll_back(first)

    again = desk.started()

    assert again.policy == Policy(Mode.CANARY, 0.25, first)
    assert again.current.version == first


async def test_a_roll_back_to_a_damaged_version_is_refused_in_a_sentence(desk: Desk) -> None:
    first = await desk.kept("a")
    await desk.kept("b")
    current = desk.learning.current.version
    (desk.directory / f"{first}.model").write_bytes(b"what is this")

    with pytest.raises(NotFound, match="is damaged: its checksum differs") as caught:
        await desk.learning.roll_back(first)

    assert caught.value.reason == "MODEL_NOT_FOUND"
    assert desk.learning.current.version == current


async def test_a_version_that_was_rolled_back_to_and_is_gone_gives_way_to_the_newest(
    desk: Desk,
) -> None:
    first = await desk.kept("a")
    await desk.kept("b")
    await desk.learning.roll_back(first)
    (desk.directory / f"{first}.model").unlink()

    again = desk.started()

    assert again.policy.pinned == ""
    assert again.current.agent_ids == ("a", "b")


async def test_a_disk_that_takes_nothing_costs_versions_and_not_learning(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    desk.directory.parent.joinpath("models").write_text("a file where the directory would be")
    desk.learn("a")
    await desk.learning.checkpoint()
    await desk.learning.set_mode(Mode.OFF, 0.0)

    assert desk.learning.current.agent_ids == ("a",)
    assert desk.learning.policy.mode is Mode.OFF
    assert "could not be kept on disk" in caplog.text


async def test_another_log_is_learned_from_anew(desk: Desk) -> None:
    desk.learn("a")
    desk.learning.update()
    desk.learning.begin_anew()
    desk.learn("b")
    desk.learning.update()

    assert desk.learning.current.agent_ids == ("b",)
    assert desk.learner.event_seq == 20

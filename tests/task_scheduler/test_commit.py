from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from services.kernel.clock import ManualClock
from services.kernel.errors import ResourceExhausted, Unavailable
from services.task_scheduler.adapters.codec import ProtoCodec
from services.task_scheduler.adapters.memory import MemoryJournal
from services.task_scheduler.core import dependents
from services.task_scheduler.core.admission import Draft
from services.task_scheduler.core.event import RateLimit, Terms
from services.task_scheduler.core.limits import Limits
from services.task_scheduler.core.orders import Grant
from services.task_scheduler.core.scheduler import Scheduler
from services.task_scheduler.core.states import Kind, State
from services.task_scheduler.loops.commit import Committer
from services.task_scheduler.loops.recovery import event_batch
from services.task_scheduler.ports import Commit, Group, StorageFailed
from tests.support.waiting import eventually
from tests.task_scheduler.rig import created


class SlowJournal(MemoryJournal):
    """Syncs when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.syncing: list[Group] = []
        self.gate: asyncio.Future[None] | None = None
        self.full = False

    def hold(self) -> None:
        self.gate = asyncio.get_running_loop().create_future()

    def sync(self) -> None:
        assert self.gate is not None
        self.gate.set_result(None)
        self.gate = None

    def fail(self) -> None:
        assert self.gate is not None
        self.gate.set_exception(StorageFailed("the disk is gone"))
        self.gate = None

    async def append(self, group: Group) -> None:
        self.syncing.append(group)
        if self.gate is not None:
            await self.gate
        await super().append(group)

    def short_of_space(self) -> bool:
        return self.full


class Desk:
    def __init__(self, journal: SlowJournal, clock: ManualClock) -> None:
        self.core = Scheduler(Limits(), random.Random(1).random)
        self.clock = clock
        self.journal = journal
        self.committer = Committer(self.core, journal, ProtoCodec(), clock)
        self.commits: list[Commit] = []
        self.committer.listen(self.commits.append)

    def submit(self, count: int = 1, urgent_len: int = 0, **options: object) -> list[str]:
        drafts = [Draft(created(**options)) for _ in range(count)]
        admitted = self.core.admission.submit(drafts, self.clock.now())
        self.committer.wake(urgent_len)
        return [one.task_id for one in admitted]

    def route(self) -> None:
        self.core.dispatch.open("r1", [], self.clock.now())
        self.core.dispatch.credit("r1", 1, ["work"], 1_000, 1)
        self.committer.wake()

    @property
    def released(self) -> list[Kind]:
        return [one.event.kind for commit in self.commits for one in commit.sealed]


@asynccontextmanager
async def started(journal: SlowJournal | None = None) -> AsyncIterator[Desk]:
    journal = journal or SlowJournal()
    await journal.open()
    desk = Desk(journal, ManualClock())
    running = asyncio.create_task(desk.committer.run())
    try:
        await eventually(lambda: not desk.committer.waits_for)
        await desk.committer.settled()
        yield desk
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def turns(count: int = 10) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_nothing_leaves_before_it_is_durable() -> None:
    async with started() as desk:
        desk.commits.clear()
        desk.route()
        await eventually(lambda: desk.commits)
        desk.commits.clear()
        desk.journal.hold()
        desk.submit()
        waiting = asyncio.create_task(desk.committer.settled())
        await turns()

        assert desk.journal.syncing
        assert not waiting.done()
        assert desk.commits == []

        desk.journal.sync()
        await waiting
        assert desk.released == [Kind.CREATED, Kind.QUEUED, Kind.ASSIGNED]
        assert isinstance(desk.commits[0].orders[0][1], Grant)


async def test_a_grant_shares_the_commit_of_its_submit() -> None:
    async with started() as desk:
        desk.route()
        await desk.committer.settled()
        before = desk.committer.commits
        desk.submit()
        await desk.committer.settled()

        assert desk.committer.commits == before + 1


async def test_a_timer_that_comes_too_early_lets_nobody_wait_for_ever() -> None:
    rate = Terms(rate_limits=(RateLimit("api", 1, 40),))
    async with started() as desk:
        desk.route()
        desk.submit(2, terms=rate)
        await eventually(lambda: desk.released.count(Kind.ASSIGNED) == 1)
        before = desk.committer.commits
        # The loop's time passes, the scheduler's does not.
        await asyncio.sleep(0.06)
        assert desk.released.count(Kind.ASSIGNED) == 1

        await desk.clock.advance(0.04)
        await eventually(lambda: desk.released.count(Kind.ASSIGNED) == 2)
        assert desk.committer.commits == before + 1


async def test_what_happens_while_a_commit_syncs_shares_the_next_one() -> None:
    async with started() as desk:
        desk.journal.hold()
        desk.submit()
        await turns()
        first = desk.committer.commits
        for _ in range(5):
            desk.submit(3)
            await turns()
        waiting = [asyncio.create_task(desk.committer.settled()) for _ in range(5)]
        await turns()
        desk.journal.sync()
        await asyncio.gather(*waiting)

        assert desk.committer.commits == first + 2
        assert len(event_batch(desk.journal.syncing[-1].frames)) == 30


async def test_an_answer_about_what_is_not_yet_durable_waits_too() -> None:
    async with started() as desk:
        desk.journal.hold()
        desk.submit()
        await turns()
        # No event of its own: it only says what it has seen.
        reading = asyncio.create_task(desk.committer.settled())
        await turns()
        assert not reading.done()

        desk.journal.sync()
        await reading


async def test_when_all_is_durable_nothing_waits() -> None:
    async with started() as desk:
        before = desk.committer.commits
        await desk.committer.settled()

        assert desk.committer.commits == before


async def test_an_order_without_an_event_leaves_after_the_commits_before_it() -> None:
    async with started() as desk:
        desk.journal.hold()
        desk.submit()
        await turns()
        desk.route()
        await turns()
        assert desk.commits[1:] == []

        desk.journal.sync()
        await desk.committer.settled()
        orders = [type(order).__name__ for commit in desk.commits for _, order in commit.orders]
        assert orders == ["Welcome", "Grant"]


async def test_when_the_journal_fails_nothing_is_promised_any_more() -> None:
    journal = SlowJournal()
    await journal.open()
    desk = Desk(journal, ManualClock())
    running = asyncio.create_task(desk.committer.run())
    await eventually(lambda: not desk.committer.waits_for)
    await desk.committer.settled()
    desk.commits.clear()
    journal.hold()
    desk.submit()
    waiting = asyncio.create_task(desk.committer.settled())
    await turns()

    journal.fail()

    with pytest.raises(Unavailable):
        await waiting
    with pytest.raises(StorageFailed):
        await running
    with pytest.raises(Unavailable):
        desk.committer.check()
    assert desk.commits == []
    assert "failed" in desk.committer.waits_for


async def test_when_time_stands_still_the_process_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    journal = SlowJournal()
    await journal.open()
    desk = Desk(journal, ManualClock())
    running = asyncio.create_task(desk.committer.run())
    await eventually(lambda: not desk.committer.waits_for)

    def broken(now: object) -> None:
        raise AssertionError("a fault in the core")

    monkeypatch.setattr(desk.core, "tick", broken)
    # The tick sleeps on the clock before it does anything.
    await turns()
    await desk.clock.advance(1.0)

    with pytest.raises(AssertionError, match="a fault in the core"):
        await asyncio.wait_for(running, 5)
    with pytest.raises(Unavailable):
        desk.committer.check()


async def test_until_the_log_is_replayed_nothing_is_answered() -> None:
    desk = Desk(SlowJournal(), ManualClock())

    with pytest.raises(Unavailable) as refused:
        desk.committer.check()

    assert refused.value.reason == "STARTING"
    assert refused.value.retry_after_s
    assert "owns the log" in desk.committer.waits_for


async def test_a_full_disk_takes_nothing_new_in_and_carries_out_the_rest() -> None:
    async with started() as desk:
        desk.journal.full = True

        with pytest.raises(ResourceExhausted) as refused:
            desk.committer.check(submitting=True)

        assert refused.value.reason == "STORAGE_FULL"
        desk.committer.check()


async def test_a_drain_takes_nothing_in_and_ends_when_all_is_durable() -> None:
    async with started() as desk:
        desk.journal.hold()
        desk.submit()
        draining = asyncio.create_task(desk.committer.drain())
        await turns()

        with pytest.raises(Unavailable) as refused:
            desk.committer.check(submitting=True)
        assert refused.value.reason == "DRAINING"
        assert not draining.done()
        desk.journal.sync()
        await draining


async def test_a_restart_goes_on_where_the_log_ends() -> None:
    journal = SlowJournal()
    async with started(journal) as desk:
        ids = desk.submit(3)
        await desk.committer.settled()
        seq = desk.committer.durable_seq
    async with started(journal) as again:
        assert list(again.core.book.tasks) == ids
        assert again.committer.first_seq == seq
        assert again.committer.durable_seq > seq
        assert again.released == [Kind.EPOCH_BEGUN]


async def test_time_does_its_work_without_anybody_asking() -> None:
    async with started() as desk:
        due_ms = desk.clock.now().wall_ms + 2_000
        task_id = desk.submit(terms=Terms(not_before_ms=due_ms))[0]
        task = desk.core.book.tasks[task_id]
        await desk.committer.settled()
        await desk.clock.sleepers()

        await desk.clock.advance(2.1)
        await desk.committer.settled()

        assert task.state is State.QUEUED
        assert desk.released[-1] is Kind.QUEUED


async def test_a_listener_hears_where_the_log_stood_before_the_first_commit() -> None:
    journal = SlowJournal()
    async with started(journal) as desk:
        desk.submit()
        await desk.committer.settled()
        seq = desk.committer.durable_seq
    heard: list[int] = []
    await journal.open()
    desk = Desk(journal, ManualClock())
    desk.committer.listen(lambda commit: heard.append(-1), begin=heard.append)
    running = asyncio.create_task(desk.committer.run())
    await eventually(lambda: len(heard) == 2)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    assert heard == [seq, -1]


async def test_more_grants_than_fit_in_a_step_follow_in_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("services.task_scheduler.core.dispatch.GRANTS_PER_STEP_MAX", 10)
    monkeypatch.setattr("services.task_scheduler.core.scheduler.GRANTS_PER_STEP_MAX", 10)
    async with started() as desk:
        desk.submit(25)
        desk.route()

        def granted() -> Sequence[object]:
            return [o for c in desk.commits for _, o in c.orders if isinstance(o, Grant)]

        await eventually(lambda: len(granted()) == 25)


async def test_a_snapshot_waits_until_all_is_done_that_follows_from_the_end_of_a_task(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dependents, "FOLLOWED_LEN_MAX", 2)
    async with started() as desk:
        (first,) = desk.submit()
        desk.submit(7, depends_on=[first])
        await desk.committer.settled()
        commits = desk.committer.commits
        desk.core.control.cancel(desk.core.book.tasks[first], "", desk.clock.now())

        picture = await desk.committer.picture()
        await desk.committer.settled()

        assert desk.core.book.counts[State.FAILED] == 7
        assert desk.committer.commits - commits == 4
        assert picture.seq == desk.core.book.seq


async def test_an_urgent_task_ends_the_wait_for_more_and_a_mass_of_them_does_not() -> None:
    async with started() as desk:
        desk.submit(500)
        await eventually(lambda: desk.committer.durable_seq == desk.core.book.seq)
        commits = desk.committer.commits
        # The clock stands still: the step that 1,000 events began does not end by itself at once.
        desk.submit()
        await turns(3)
        assert desk.committer.commits == commits

        desk.submit(urgent_len=1)
        await turns(3)
        assert desk.committer.commits == commits + 1
        desk.submit(500, urgent_len=500)
        await eventually(lambda: desk.committer.durable_seq == desk.core.book.seq)
        commits = desk.committer.commits

        desk.submit(urgent_len=1)
        await turns(3)
        assert desk.committer.commits == commits

"""Runs TaskScheduler: `python -m services.task_scheduler`; with `log`, looks at its log."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from services.kernel import telemetry
from services.kernel.clock import Clock
from services.kernel.errors import FailedPrecondition
from services.kernel.options import Dial
from services.kernel.serving import Assembled, ServiceSpec, main
from services.task_scheduler.adapters import log_command
from services.task_scheduler.adapters.calendar import Calendar
from services.task_scheduler.adapters.codec import ProtoCodec
from services.task_scheduler.adapters.failpoints import Failpoints
from services.task_scheduler.adapters.memory import MemoryJournal
from services.task_scheduler.adapters.messages import redated
from services.task_scheduler.adapters.observe import Observer, expose
from services.task_scheduler.adapters.sqlite import SqliteJournal
from services.task_scheduler.config import Settings
from services.task_scheduler.core.limits import Limits
from services.task_scheduler.core.scheduler import Scheduler
from services.task_scheduler.loops.audit import Audit
from services.task_scheduler.loops.commit import Committer
from services.task_scheduler.loops.ownership import Ownership
from services.task_scheduler.loops.snapshots import Keeper, Retention
from services.task_scheduler.loops.unit import Unit
from services.task_scheduler.ports import Store
from services.task_scheduler.servicer.drafts import Defaults
from services.task_scheduler.servicer.encoded import add_to_server
from services.task_scheduler.servicer.feed import Feed
from services.task_scheduler.servicer.front import Front
from services.task_scheduler.servicer.links import Links
from services.task_scheduler.servicer.relay import Relay
from services.task_scheduler.servicer.service import POLICY, SERVICE_NAME, TaskScheduler


@asynccontextmanager
async def assemble(settings: Settings, dial: Dial, clock: Clock) -> AsyncIterator[Assembled]:
    """Put TaskScheduler together; its only peers are its own replicas."""
    together = shared if settings.journal == "postgres" else alone
    async with (
        telemetry.started("task_scheduler", settings) as observed,
        together(Parts(settings, clock, observed), dial) as assembled,
    ):
        yield assembled


class Parts:
    """What the units of all partitions are made of."""

    def __init__(self, settings: Settings, clock: Clock, observed: telemetry.Telemetry) -> None:
        self.settings = settings
        self.clock = clock
        self.observed = observed
        self.failpoint = Failpoints(settings.failpoints)
        self._calendar = Calendar()
        self._observer = Observer(observed.metrics)

    def unit(
        self, journal: Store, *, partition: int = 0, count: int = 1, page_key: bytes = b""
    ) -> Unit:
        """Return what serves a partition on its journal."""
        settings, clock, calendar = self.settings, self.clock, self._calendar
        limits = limits_of(settings, count)
        core = Scheduler(
            limits, random.Random().random, partition, calendar=calendar, redate=redated
        )
        codec = ProtoCodec(partition)
        committer = Committer(core, journal, codec, clock, self.failpoint)
        feed = Feed(settings.tail_bytes_max // count)
        links = Links(committer)
        committer.listen(links.deliver)
        committer.listen(feed.publish, begin=feed.begin)
        committer.listen(self._observer)
        servicer = TaskScheduler(
            committer,
            codec,
            feed,
            links,
            clock,
            self.observed.tracer,
            Defaults(settings.max_retries),
            calendar,
            partition=partition,
            page_key=page_key,
        )
        keeper = Keeper(committer, journal, codec, clock, retention_of(settings, count))
        audit = Audit(committer, clock, settings.log_check_s)
        ends = (servicer.submissions.close, feed.close, links.close)
        return Unit(servicer, committer, journal, (keeper.run, audit.run), ends)


@asynccontextmanager
async def alone(parts: Parts, dial: Dial) -> AsyncIterator[Assembled]:
    """Put the only scheduler of a log together: it has one partition, and for all of its life."""
    journal = journal_of(parts.settings, parts.failpoint)
    await journal.open()
    unit = parts.unit(journal)
    committer = unit.committer
    expose(parts.observed.metrics, parts.clock, lambda: [committer.core], lambda: committer.damage)
    loops = [asyncio.create_task(unit.run())]
    try:
        yield Assembled(
            register=lambda server: add_to_server(unit.servicer, server),
            service_names=(SERVICE_NAME,),
            ready=lambda: committer.waits_for,
            drain=unit.drain,
            telemetry=parts.observed,
            policy=POLICY,
            loops=loops,
        )
    finally:
        await ended(loops)
        await unit.close()


@asynccontextmanager
async def shared(parts: Parts, dial: Dial) -> AsyncIterator[Assembled]:
    """Put one of the replicas together that share the partitions of a database.

    Raises:
        FailedPrecondition: EXTRA_MISSING or SHARED_KEYS_SPLIT, and what `Database.open` raises.
    """
    try:
        from services.task_scheduler.adapters.database import Database  # noqa: PLC0415  # an extra
        from services.task_scheduler.adapters.postgres import (  # noqa: PLC0415  # an extra
            PostgresJournal,
        )
        from services.task_scheduler.adapters.replicas import (  # noqa: PLC0415  # an extra
            PostgresReplicas,
        )
    except ModuleNotFoundError as missing:
        raise FailedPrecondition(
            "EXTRA_MISSING",
            f"PODIUM_JOURNAL=postgres needs the package {missing.name}: "
            "install Podium with the extra `scale`",
        ) from None
    settings, clock = parts.settings, parts.clock
    address: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    database = Database(
        settings.postgres_url,
        password_file=settings.postgres_password_file,
        partitions=settings.partitions,
    )
    await database.open()
    count, ttl_s = database.partitions, settings.owner_lease_s

    async def take(partition: int) -> Unit | None:
        journal = PostgresJournal(
            database,
            clock=clock,
            address=address,
            lease_ttl_s=ttl_s,
            partition=partition,
            failpoint=parts.failpoint,
        )
        await journal.open()
        if await journal.take():
            key = database.page_key
            return parts.unit(journal, partition=partition, count=count, page_key=key)
        await journal.close()
        return None

    try:
        check_shared_keys(settings, count)
        replicas = PostgresReplicas(database, address, ttl_s, clock)
        ownership = Ownership(count, replicas, take, address.result, clock)
        relay = Relay(ownership, dial)
        front = Front(relay, database.page_key)
        expose(parts.observed.metrics, clock, ownership.cores, lambda: ownership.damage)
        loops = [asyncio.create_task(ownership.run())]

        try:
            yield Assembled(
                register=lambda server: add_to_server(front, server),
                bound=lambda port: address.set_result(settings.advertised(port)),
                service_names=(SERVICE_NAME,),
                ready=lambda: ownership.waits_for,
                drain=lambda: hand_over(ownership, front),
                telemetry=parts.observed,
                policy=POLICY,
                loops=loops,
            )
        finally:
            await ended(loops)
            await replicas.leave()
            await relay.close()
    finally:
        await database.close()


async def hand_over(ownership: Ownership, front: Front) -> None:
    """Let other replicas take over while open calls here still end."""
    try:
        await ownership.drain()
    finally:
        # Also where that took too long: who submits here has to know.
        front.submissions.close()


def check_shared_keys(settings: Settings, count: int) -> None:
    """Refuse a limit that no partition can keep alone.

    Raises:
        FailedPrecondition: SHARED_KEYS_SPLIT.
    """
    shared = {
        "PODIUM_SHARED_CONCURRENCY_LIMITS": settings.shared_concurrency_limits,
        "PODIUM_SHARED_RATE_LIMITS": settings.shared_rate_limits,
    }
    name = next((name for name, value in shared.items() if value), "")
    if count > 1 and name:
        raise FailedPrecondition(
            "SHARED_KEYS_SPLIT",
            f"{name} counts the tasks of all tenants together, and the "
            f"database has them in {count} partitions that each count their own: give limits for "
            f"each tenant ({name.replace('SHARED_', '')}), or use a database with "
            "PODIUM_PARTITIONS=1",
            metadata={"partitions": str(count)},
        )


async def ended(loops: Sequence[asyncio.Task[None]]) -> None:
    """End loops and return when they have."""
    for loop in loops:
        loop.cancel()
    await asyncio.gather(*loops, return_exceptions=True)


def journal_of(settings: Settings, failpoint: Failpoints) -> Store:
    """Return the journal that the settings name, when it is one that a scheduler has alone."""
    if settings.journal == "memory":
        return MemoryJournal()
    return SqliteJournal(
        settings.data_dir, reserve_bytes=settings.reserve_bytes, failpoint=failpoint
    )


def retention_of(settings: Settings, count: int) -> Retention:
    """Return what is kept of the log of one of several partitions."""
    log_bytes_max = settings.log_bytes_max // count
    return Retention(settings.snapshot_events, settings.log_retention_s, log_bytes_max)


def limits_of(settings: Settings, count: int = 1) -> Limits:
    """Return the limits of one of several partitions: one process may come to own them all."""
    return Limits(
        open_tasks_max=max(1, settings.open_tasks_max // count),
        open_bytes_max=max(1, settings.open_bytes_max // count),
        ended_len_max=max(1, settings.ended_tasks_max // count),
        ended_bytes_max=max(1, settings.ended_bytes_max // count),
        dead_len_max=max(1, settings.dead_tasks_max // count),
        dead_bytes_max=max(1, settings.dead_bytes_max // count),
        request_ids_len_max=max(1, settings.request_ids_max // count),
        retry_ids_len_max=max(1, settings.retry_ids_max // count),
        lease_ttl_s=settings.lease_ttl_s,
        router_grace_s=settings.router_grace_s,
        ageing_s=settings.ageing_s,
        tenant_weights=dict(settings.tenant_weights),
        tenant_open_tasks_max=dict(settings.tenant_open_tasks),
        tenant_submits_per_s=dict(settings.tenant_submits_per_s),
        concurrency_limits=dict(settings.concurrency_limits),
        shared_concurrency_limits=dict(settings.shared_concurrency_limits),
        rate_limits=dict(settings.rate_limits),
        shared_rate_limits=dict(settings.shared_rate_limits),
        rate_keys_len_max=max(1, settings.rate_keys_max // count),
        lineage_depth_max=settings.lineage_depth_max,
        lineage_tasks_max=settings.lineage_tasks_max,
        schedules_len_max=settings.schedules_max,
        log_watches_max=settings.log_watches_max,
        task_watches_max=settings.task_watches_max,
    )


SERVICE = ServiceSpec(
    name="task_scheduler",
    settings=Settings,
    summary="Owns tasks from submit to their end: queue, leases, retries, the event log.",
    assemble=assemble,
)

if __name__ == "__main__":
    sys.exit(log_command.main(sys.argv[2:]) if sys.argv[1:2] == ["log"] else main(SERVICE))

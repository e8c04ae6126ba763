"""Runs TaskScheduler: `python -m services.task_scheduler`; with `log`, looks at its log."""

from __future__ import annotations

import asyncio
import gc
import random
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from services.kernel import telemetry
from services.kernel.clock import Clock
from services.kernel.errors import FailedPrecondition
from services.kernel.options import Dial
from services.kernel.serving import Assembled, ServiceSpec, main
from services.task_scheduler.adapters import log
from services.task_scheduler.adapters.calendar import Calendar
from services.task_scheduler.adapters.codec import ProtoCodec
from services.task_scheduler.adapters.failpoints import Failpoints
from services.task_scheduler.adapters.memory import MemoryJournal
from services.task_scheduler.adapters.observe import Observer, expose
from services.task_scheduler.adapters.sqlite import SqliteJournal
from services.task_scheduler.config import Settings
from services.task_scheduler.core.limits import Limits
from services.task_scheduler.core.scheduler import Scheduler
from services.task_scheduler.loops.audit import Audit
from services.task_scheduler.loops.commit import Committer
from services.task_scheduler.loops.snapshots import Keeper, Retention
from services.task_scheduler.ports import Store
from services.task_scheduler.servicer.drafts import Defaults
from services.task_scheduler.servicer.encoded import add_to_server
from services.task_scheduler.servicer.feed import Feed
from services.task_scheduler.servicer.forward import Forwarding
from services.task_scheduler.servicer.links import Links
from services.task_scheduler.servicer.service import POLICY, SERVICE_NAME, TaskScheduler


@asynccontextmanager
async def assemble(settings: Settings, dial: Dial, clock: Clock) -> AsyncIterator[Assembled]:
    """Put TaskScheduler together; its only peers are its own replicas."""
    # A task lives in memory until long after it ended, and none is part of a cycle: looking for
    # cycles after every 700 new objects took a fifth of the time per task.
    gc.set_threshold(50_000, 20, 100)
    failpoint = Failpoints(settings.failpoints)
    address: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    journal = journal_of(settings, failpoint, clock, address)
    await journal.open()
    try:
        async with telemetry.started("task_scheduler", settings) as observed:
            calendar = Calendar()
            core = Scheduler(limits_of(settings), random.Random().random, calendar=calendar)
            codec = ProtoCodec()
            committer = Committer(core, journal, codec, clock, failpoint)
            feed = Feed(settings.tail_bytes_max)
            links = Links(committer)
            committer.listen(links.deliver)
            committer.listen(feed.publish, begin=feed.begin)
            committer.listen(Observer(observed, clock))
            expose(observed.metrics, core, lambda: committer.damage)
            servicer = TaskScheduler(
                committer,
                codec,
                feed,
                links,
                clock,
                observed.tracer,
                Defaults(settings.max_retries),
                calendar,
            )

            forwarding = Forwarding(lambda: committer.owner_address, dial)
            keeper = Keeper(committer, journal, codec, clock, retention_of(settings))
            audit = Audit(committer, clock, settings.log_check_s)
            work = (committer.run(), keeper.run(), audit.run())
            loops = [asyncio.create_task(each) for each in work]

            async def drain() -> None:
                await committer.drain()
                feed.close()
                links.close()
                if settings.journal == "postgres":
                    # Another replica takes over while open calls here still end.
                    await ended(loops)
                    await journal.close()

            try:
                yield Assembled(
                    register=lambda server: add_to_server(servicer, server, forwarding),
                    bound=lambda port: address.set_result(settings.advertised(port)),
                    service_names=(SERVICE_NAME,),
                    ready=lambda: committer.waits_for,
                    drain=drain,
                    telemetry=observed,
                    policy=POLICY,
                    loops=loops,
                )
            finally:
                await ended(loops)
                await forwarding.close()
    finally:
        await journal.close()


async def ended(loops: Sequence[asyncio.Task[None]]) -> None:
    """End loops and return when they have."""
    for loop in loops:
        loop.cancel()
    await asyncio.gather(*loops, return_exceptions=True)


def journal_of(
    settings: Settings, failpoint: Failpoints, clock: Clock, address: asyncio.Future[str]
) -> Store:
    """Return the journal that the settings name."""
    if settings.journal == "memory":
        return MemoryJournal()
    if settings.journal == "postgres":
        return postgres_of(settings, failpoint, clock, address)
    return SqliteJournal(
        settings.data_dir, reserve_bytes=settings.reserve_bytes, failpoint=failpoint
    )


def postgres_of(
    settings: Settings, failpoint: Failpoints, clock: Clock, address: asyncio.Future[str]
) -> Store:
    """Return the journal in PostgreSQL.

    Raises:
        FailedPrecondition: EXTRA_MISSING.
    """
    try:
        from services.task_scheduler.adapters.postgres import (  # noqa: PLC0415  # an extra
            PostgresJournal,
        )
    except ModuleNotFoundError as missing:
        raise FailedPrecondition(
            "EXTRA_MISSING",
            f"PODIUM_JOURNAL=postgres needs the package {missing.name}: "
            "install Podium with the extra `scale`",
        ) from None
    return PostgresJournal(
        settings.postgres_url,
        clock=clock,
        address=address,
        password_file=settings.postgres_password_file,
        lease_ttl_s=settings.owner_lease_s,
        failpoint=failpoint,
    )


def retention_of(settings: Settings) -> Retention:
    """Return what is kept of the log."""
    return Retention(settings.snapshot_events, settings.log_retention_s, settings.log_bytes_max)


def limits_of(settings: Settings) -> Limits:
    """Return the core's limits."""
    return Limits(
        open_tasks_max=settings.open_tasks_max,
        open_bytes_max=settings.open_bytes_max,
        ended_len_max=settings.ended_tasks_max,
        ended_bytes_max=settings.ended_bytes_max,
        dead_len_max=settings.ended_tasks_max,
        request_ids_len_max=settings.request_ids_max,
        lease_ttl_s=settings.lease_ttl_s,
        router_grace_s=settings.router_grace_s,
        ageing_s=settings.ageing_s,
        tenant_weights=dict(settings.tenant_weights),
        tenant_open_tasks_max=dict(settings.tenant_open_tasks),
        tenant_submits_per_s=dict(settings.tenant_submits_per_s),
        concurrency_limits=dict(settings.concurrency_limits),
        shared_concurrency_limits=dict(settings.shared_concurrency_limits),
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
    sys.exit(log.main(sys.argv[2:]) if sys.argv[1:2] == ["log"] else main(SERVICE))

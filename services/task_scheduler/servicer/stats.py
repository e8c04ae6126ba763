"""What GetQueueStats tells."""

from __future__ import annotations

from podium.v1 import task_scheduler_pb2
from services.task_scheduler.core import catalog
from services.task_scheduler.core.book import Book
from services.task_scheduler.core.scheduler import Scheduler
from services.task_scheduler.servicer.views import state_message

ROWS_LEN_MAX = 1_000

Response = task_scheduler_pb2.GetQueueStatsResponse


def queue_stats(core: Scheduler, now_s: float, tenant: str | None) -> Response:
    """Return what waits and runs; of tenants and their keys, only what `tenant` may see."""
    book = core.book
    response = Response(
        router_count=core.dispatch.router_count,
        dead_letter_bytes=book.dead.size_bytes,
        dead_letters_dropped_count=book.dead.dropped,
    )
    for state, count in catalog.counts(book):
        response.states.add(state=state_message(state), count=count)
    for depth in catalog.priorities(book, now_s):
        row = response.priorities.add(priority=depth.priority, count=depth.depth)
        row.oldest_age.FromMilliseconds(round(depth.oldest_age_s * 1000))
    for need in catalog.requirements(book, ROWS_LEN_MAX):
        response.requirements.add(
            required_capabilities=need.capabilities,
            count=need.depth,
            schedulable=need.schedulable,
            granted_count=need.granted,
        )
    for one in catalog.tenants(book, ROWS_LEN_MAX, tenant):
        response.tenants.add(
            tenant=one.name,
            weight=one.weight,
            open_count=one.open_tasks,
            waiting_count=one.waiting,
            used_agent_seconds=one.used_s,
        )
    _add_keys(response, book, tenant)
    for pause in book.queue.pauses:
        if tenant is None or pause.scope.tenant in ("", tenant):
            response.pauses.add(
                tenant=pause.scope.tenant, type=pause.scope.task_type, reason=pause.reason
            )
    return response


def _add_keys(response: Response, book: Book, tenant: str | None) -> None:
    for key in catalog.concurrency_keys(book, ROWS_LEN_MAX, tenant):
        response.concurrency_keys.add(
            key=key.name,
            tenant=key.tenant,
            limit=min(key.limits),
            limit_max=max(key.limits),
            running_count=key.running,
            waiting_count=key.waiting,
        )
    for rate in catalog.rate_keys(book, ROWS_LEN_MAX, tenant):
        row = response.rate_keys.add(
            key=rate.name,
            tenant=rate.tenant,
            limit=min(rate.limits),
            limit_max=max(rate.limits),
            started_count=rate.started(),
            waiting_count=rate.waiting,
        )
        row.period.FromMilliseconds(rate.period_ms)
        if rate.next_ms():
            row.next_time.FromMilliseconds(rate.next_ms())

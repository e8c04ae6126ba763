"""Positions over several partitions: pages and cursors that go on while partitions move."""

from __future__ import annotations

import signal
from collections import Counter

from podium.v1 import event_pb2, task_scheduler_pb2
from podium.v1.task_pb2 import Task, TaskFilter
from tests.support.waiting import eventually
from tests.system.test_partitions import (
    COUNT,
    TENANTS,
    Following,
    Start,
    even,
    in_order,
    owners,
    start,
    submitted,
)
from tests.system.test_takeover import Replica
from tests.task_scheduler.serving import spec
from tests.task_scheduler.test_recovery import whole_log

__all__ = ["start"]  # a fixture

pb = task_scheduler_pb2
DEAD = TaskFilter(states=[Task.STATE_FAILED])
MANY = 1_030
"""More than one call takes of a partition."""
FEW = 7


async def killed_off(replica: Replica, partition: int, count: int) -> list[str]:
    """Lets tasks of a partition's tenant die: one fails, and the others depend on it."""
    first = await submitted(replica, TENANTS[partition])
    async with replica.router("work", partition=partition) as router:
        await router.fail(await router.grant())
    ids = [first]
    while (left := min(1_000, count - len(ids))) > 0:
        tenant = TENANTS[partition]
        batch = [spec("other", tenant=tenant, depends_on=[first]) for _ in range(left)]
        ids += await replica.submit(*batch)
    return ids


async def dead_letters(*replicas: Replica, page_size: int = 1_000) -> list[Task]:
    """Returns all dead letters, page by page, each asked of another replica."""
    found: list[Task] = []
    request = pb.ListTasksRequest(filter=DEAD, page_size=page_size)
    turn = 0
    while True:
        page = await replicas[turn % len(replicas)].stub.ListTasks(request)
        found += page.tasks
        request.page_token, turn = page.next_page_token, turn + 1
        if not request.page_token:
            return found


async def test_dead_letters_of_all_partitions_are_paged_in_the_order_of_their_deaths(
    start: Start,
) -> None:
    first, second = await start(), await start()
    await even(first, 2)
    dead: list[str] = []
    # In turn, so that neighbours lie in different partitions.
    for number in (*range(COUNT), *range(COUNT)):
        dead += await killed_off(first, number, FEW)

    found = await dead_letters(first, second, page_size=5)

    assert Counter(task.task_id for task in found) == Counter(dead)
    deaths = [task.end_time.ToNanoseconds() for task in found]
    assert deaths == sorted(deaths, reverse=True)


async def test_all_that_a_filter_means_are_requeued_once_while_partitions_move(
    start: Start,
) -> None:
    first = await start()
    counts = [MANY if number < 2 else FEW for number in range(COUNT)]
    dead = [
        task_id
        for number, count in enumerate(counts)
        for task_id in await killed_off(first, number, count)
    ]
    request = pb.RequeueTasksRequest(filter=DEAD, ignore_dependencies=True)
    answer = await first.stub.RequeueTasks(request)
    revived = list(answer.task_ids)
    assert len(revived) == 2 * 1_000 + 2 * FEW

    # Half of the partitions are with another replica when it goes on, and the first one is gone
    # before the end: the token means the same to all.
    second = await start()
    await even(second, 2)
    request.page_token = answer.next_page_token
    answer = await second.stub.RequeueTasks(request)
    revived += answer.task_ids
    first.process.signal(signal.SIGTERM)
    await even(second, 1)
    while answer.next_page_token:
        request.page_token = answer.next_page_token
        answer = await second.stub.RequeueTasks(request)
        revived += answer.task_ids

    assert Counter(revived) == Counter(dead)
    assert await dead_letters(second) == []


async def test_followers_go_on_with_whoever_answers_while_partitions_are_given_away_and_back(
    start: Start,
) -> None:
    first = await start()
    early = Following(first)
    ids = [await submitted(first, tenant) for tenant in TENANTS for _ in range(3)]
    await eventually(lambda: {event.task_id for event in early.seen} >= set(ids))
    second = await start()
    await even(first, 2)
    ids += [await submitted(first, tenant) for tenant in TENANTS]
    await eventually(lambda: {event.task_id for event in early.seen} >= set(ids))
    # One goes on at another replica, from a position in each of the logs.
    early.task.cancel()
    late = Following(second, early.cursor)
    first.process.signal(signal.SIGTERM)
    await even(second, 1)
    ids += [await submitted(second, tenant) for tenant in TENANTS]
    await eventually(lambda: {event.task_id for event in late.seen} >= set(ids[-COUNT:]))
    whole = await whole_log(second)
    await eventually(lambda: len(early.seen) + len(late.seen) == len(whole))
    late.task.cancel()

    seen = early.seen + late.seen
    in_order(seen)
    assert Counter(map(position, seen)) == Counter(map(position, whole))
    assert {one.owner_address for one in await owners(second)} == {f"127.0.0.1:{second.port}"}


def position(event: event_pb2.Event) -> tuple[int, int, str]:
    return event.partition, event.seq, event.task_id

"""Answers of several partitions made into one: pages, statistics, lists of ids."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from heapq import merge
from typing import Any, NamedTuple

from podium.v1 import task_scheduler_pb2
from podium.v1.task_pb2 import Task
from services.kernel.pages import decode_token, encode_token
from services.task_scheduler.servicer.stats import ROWS_LEN_MAX

Requeued = task_scheduler_pb2.RequeueTasksResponse
Stats = task_scheduler_pb2.GetQueueStatsResponse
END = "-"
"""Position of a partition of which nothing is left."""


class Part(NamedTuple):
    """A page of one partition."""

    items: Sequence[Any]
    position: str
    """Where it began."""
    after: str
    """Where the next one begins; `END` at the end."""


def positions_in(text: str, partitions: Iterable[int]) -> dict[int, str]:
    """Return where each partition's next page begins; empty for the first ones."""
    positions = dict.fromkeys(partitions, "" if not text else END)
    for pair in filter(None, text.split(",")):
        partition, _, position = pair.partition(":")
        positions[int(partition)] = position
    return positions


class Tokens:
    """Page tokens of several partitions in one.

    Args:
        arguments: What they are bound to, the same here and at the partitions.
        key: Secret of page tokens.
    """

    def __init__(self, arguments: bytes, key: bytes) -> None:
        self._arguments = arguments
        self._key = key

    def of(self, token: str, partitions: Iterable[int]) -> dict[int, str]:
        """Return the token of each partition of which something is left.

        Raises:
            InvalidArgument: PAGE_TOKEN_INVALID.
        """
        positions = positions_in(decode_token(token, self._arguments, self._key), partitions)
        return {
            number: encode_token(position, self._arguments, self._key) if position else ""
            for number, position in positions.items()
            if position != END
        }

    def after(self, partitions: Sequence[int], tokens: Sequence[str]) -> str:
        """Return the token that goes on with those that partitions gave; empty at the end."""
        left = [
            f"{number}:{decode_token(token, self._arguments, self._key)}"
            for number, token in zip(partitions, tokens, strict=True)
            if token
        ]
        return encode_token(",".join(left), self._arguments, self._key) if left else ""


def _ids(answers: Sequence[Any]) -> list[str]:
    return [task_id for answer in answers for task_id in answer.task_ids]


def canceled(answers: Sequence[Any]) -> Any:
    """Return what was canceled in all partitions."""
    return task_scheduler_pb2.CancelTasksResponse(
        task_ids=_ids(answers), descendant_count=sum(one.descendant_count for one in answers)
    )


def paused(answers: Sequence[Any]) -> Any:
    """Return what was paused in all partitions."""
    return task_scheduler_pb2.PauseTasksResponse(task_ids=_ids(answers))


def resumed(answers: Sequence[Any]) -> Any:
    """Return what was resumed in all partitions."""
    return task_scheduler_pb2.ResumeTasksResponse(task_ids=_ids(answers))


def requeued(answers: Sequence[Requeued]) -> Requeued:
    """Return what was requeued in all partitions."""
    whole = Requeued(task_ids=_ids(answers))
    rows: dict[str, task_scheduler_pb2.RequeueRefusal] = {}
    for answer in answers:
        for row in answer.refusals:
            known = rows.setdefault(row.reason, row)
            if known is not row:
                known.count += row.count
    whole.refusals.extend(rows.values())
    return whole


def page_of(
    parts: Mapping[int, Part],
    size: int,
    order: Callable[[Any], Any],
    position_of: Callable[[Any], str],
    *,
    descending: bool,
) -> tuple[list[Any], str]:
    """Return the first items of all parts in order, and where the next page begins.

    Args:
        parts: A page of each partition that has one, each in order.
        size: How many items, at most.
        order: Gives what items are ordered by.
        position_of: Gives the position behind an item.
        descending: Whether the largest come first.
    """
    tagged = [[(item, number) for item in part.items] for number, part in parts.items()]
    every = merge(*tagged, key=lambda pair: order(pair[0]), reverse=descending)
    taken: dict[int, list[Any]] = {number: [] for number in parts}
    items: list[Any] = []
    for item, number in every:
        if len(items) == size:
            break
        items.append(item)
        taken[number].append(item)
    left = []
    for number, part in parts.items():
        mine = taken[number]
        if len(mine) == len(part.items):
            position = part.after
        else:
            position = position_of(mine[-1]) if mine else part.position
        if position != END:
            left.append(f"{number}:{position}")
    return items, ",".join(left)


def task_order(*, dead: bool) -> Callable[[Task], Any]:
    """Return what tasks are listed by: when they were made, dead letters when they died."""
    if dead:
        return lambda task: (task.end_time.seconds, task.end_time.nanos)
    return lambda task: task.task_id[3:]


def stats_of(parts: Sequence[Stats]) -> Stats:
    """Return the statistics of all partitions together."""
    whole = Stats()
    for part in parts:
        whole.durable_seq += part.durable_seq
        whole.event_count += part.event_count
        whole.commit_count += part.commit_count
        whole.log_checked_seq += part.log_checked_seq
        # A router has a stream to each partition.
        whole.router_count = max(whole.router_count, part.router_count)
        whole.dead_letter_bytes += part.dead_letter_bytes
        whole.dead_letters_dropped_count += part.dead_letters_dropped_count
        whole.log_damage = whole.log_damage or part.log_damage
        whole.tenants.extend(part.tenants)
        whole.concurrency_keys.extend(part.concurrency_keys)
        whole.rate_keys.extend(part.rate_keys)
    _add_states(whole, parts)
    _add_priorities(whole, parts)
    _add_requirements(whole, parts)
    pauses = {(p.tenant, p.type): p for part in parts for p in part.pauses}
    whole.pauses.extend(pauses.values())
    _cut(whole.tenants, lambda one: (-one.open_count, one.tenant))
    _cut(whole.concurrency_keys, lambda one: (-one.waiting_count, one.tenant, one.key))
    _cut(whole.rate_keys, lambda one: (-one.waiting_count, one.tenant, one.key))
    return whole


def _add_states(whole: Stats, parts: Sequence[Stats]) -> None:
    counts: dict[int, int] = {}
    for part in parts:
        for row in part.states:
            counts[row.state] = counts.get(row.state, 0) + row.count
    for state in sorted(counts):
        whole.states.add(state=Task.State.Name(state), count=counts[state])


def _add_priorities(whole: Stats, parts: Sequence[Stats]) -> None:
    rows: dict[int, Any] = {}
    for part in parts:
        for row in part.priorities:
            known = rows.get(row.priority)
            if known is None:
                rows[row.priority] = row
                continue
            known.count += row.count
            if row.oldest_age.ToNanoseconds() > known.oldest_age.ToNanoseconds():
                known.oldest_age.CopyFrom(row.oldest_age)
    whole.priorities.extend(rows[priority] for priority in sorted(rows, reverse=True))


def _add_requirements(whole: Stats, parts: Sequence[Stats]) -> None:
    rows: dict[tuple[str, ...], Any] = {}
    for part in parts:
        for row in part.requirements:
            known = rows.setdefault(tuple(row.required_capabilities), row)
            if known is not row:
                known.count += row.count
                known.granted_count += row.granted_count
                known.schedulable = known.schedulable or row.schedulable
    ordered = sorted(rows.items(), key=lambda pair: (-pair[1].count, pair[0]))
    whole.requirements.extend(row for _, row in ordered[:ROWS_LEN_MAX])


def _cut(rows: Any, order: Callable[[Any], Any]) -> None:
    kept = sorted(rows, key=order)[:ROWS_LEN_MAX]
    del rows[:]
    rows.extend(kept)

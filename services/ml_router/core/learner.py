"""Learns success rates and service times per agent and task type, one outcome at a time.

What is kept are sums that fade: each new outcome weakens the ones before it, so that an agent that
turns bad is noticed within dozens of its outcomes. Three levels lend each other strength: the fleet
per task type, the agent over all types, and the agent on the type; `services.ml_router.core.model`
turns the sums into means. The sums are the state: the same events in the same order give the same
bits, whether they were read at one go or continued from a snapshot.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import NamedTuple

agents_len_max = 2_048
task_types_len_max = 256
open_tasks_len_max = 100_000

schema = 1
"""Meaning of the sums; another number on disk is not read."""

# An outcome counts half after so many later ones of the same agent. 140 keeps the most of a steady
# fleet's evidence while a failing agent is still found out within some 30 of its outcomes.
_success_half_life = 140.0
# Service times wander more than success rates and need less evidence for the same certainty.
_service_half_life = 50.0
_fleet_half_life = 4_000.0

_fade = 0.5 ** (1.0 / _success_half_life)
_service_fade = 0.5 ** (1.0 / _service_half_life)
_fleet_fade = 0.5 ** (1.0 / _fleet_half_life)

# One measured time counts at most as so many times what was expected: a task that hung for an hour
# must not outweigh a thousand that did not.
_surprise_max = 20.0
# Expected times below this are taken as this, for the same end: where the first few were over
# before the clock moved, all that follow would count as 0 for ever.
_expected_ms_min = 1.0

prior_success = 0.9
prior_success_weight = 2.0
prior_service_ms = 1_000.0
prior_service_weight = 0.5

TYPE_SUMS = ("successes", "outcomes", "time_ms", "times")
AGENT_SUMS = ("successes", "outcomes", "expected", "pace", "times")
CELL_SUMS = ("successes", "outcomes", "expected", "time_ms", "times")


class Outcome(NamedTuple):
    """How an attempt ended: with a result, or by the agent's fault."""

    task_type: str
    agent_id: str
    success: bool
    run_ms: float | None
    """From start to outcome; None when it is not known."""
    size: float = 1.0
    """Amount of work of the task relative to others of its type, above 0."""


@dataclass
class Sums:
    """The learner's whole state: names, sums, counters. Arrays hold 64-bit floats."""

    agent_ids: list[str]
    task_types: list[str]
    columns: int
    """Columns of the cell arrays; at least as many as task types."""
    types: dict[str, array[float]]
    agents: dict[str, array[float]]
    cells: dict[str, array[float]]
    """Row by row: agent x column."""
    agent_seqs: array[int]
    """Last event of each agent, to find the one that was quiet longest."""
    fleet: array[float]
    """Successes and outcomes over everything."""
    sizes: dict[str, float]
    """Sizes of open tasks that have one, oldest first."""
    event_seq: int = 0
    """Events that were passed: the position in the log, of several partitions the sum."""
    outcome_count: int = 0
    positions: dict[int, int] = field(default_factory=dict)
    """Position in the log of each partition."""

    def copy(self) -> Sums:
        """Return the state as it is now, to be written elsewhere while learning goes on."""
        return deepcopy(self)


def empty() -> Sums:
    """Return the state before the first event."""
    return Sums(
        agent_ids=[],
        task_types=[],
        columns=8,
        types={name: array("d") for name in TYPE_SUMS},
        agents={name: array("d") for name in AGENT_SUMS},
        cells={name: array("d") for name in CELL_SUMS},
        agent_seqs=array("q"),
        fleet=array("d", (0.0, 0.0)),
        sizes={},
    )


class Learner:
    """Folds events into sums. Those of a partition must come in order; repeats are skipped."""

    def __init__(self) -> None:
        self.reset(empty())

    def reset(self, sums: Sums) -> None:
        """Continue from `sums`, which the learner owns from now on."""
        self.sums = sums
        self._rows = _index(sums.agent_ids)
        self._columns = _index(sums.task_types)

    @property
    def event_seq(self) -> int:
        """Sequence number of the last event that was taken in; of several partitions the sum."""
        return self.sums.event_seq

    def advance(self, seq: int, partition: int = 0) -> bool:
        """Note that the event `seq` of a partition is taken in now; False if it already was."""
        positions = self.sums.positions
        before = positions.get(partition, 0)
        if seq <= before:
            return False
        self.sums.event_seq += seq - before
        positions[partition] = seq
        return True

    def open(self, task_id: str, size: float) -> None:
        """Remember the size of a task until it ends."""
        if size == 1.0 or not 0.0 < size < float("inf"):
            return
        sizes = self.sums.sizes
        if len(sizes) >= open_tasks_len_max:
            del sizes[next(iter(sizes))]
        sizes[task_id] = size

    def size(self, task_id: str) -> float:
        """Return the size of an open task."""
        return self.sums.sizes.get(task_id, 1.0)

    def close(self, task_id: str) -> None:
        """Forget a task that has ended."""
        self.sums.sizes.pop(task_id, None)

    def learn(self, outcome: Outcome) -> None:
        """Fold one outcome into the sums."""
        sums = self.sums
        success = 1.0 if outcome.success else 0.0
        sums.outcome_count += 1
        fleet = sums.fleet
        fleet_mean = (fleet[0] + prior_success_weight * prior_success) / (
            fleet[1] + prior_success_weight
        )
        fleet[0] = fleet[0] * _fleet_fade + success
        fleet[1] = fleet[1] * _fleet_fade + 1.0
        column = self._column(outcome.task_type)
        if column is None:
            return
        row = self._row(outcome.agent_id)
        cell = row * sums.columns + column
        expected = self._expect(column, success, fleet_mean)
        for level, place in ((sums.agents, row), (sums.cells, cell)):
            level["successes"][place] = level["successes"][place] * _fade + success
            level["outcomes"][place] = level["outcomes"][place] * _fade + 1.0
            level["expected"][place] = level["expected"][place] * _fade + expected
        if outcome.success and outcome.run_ms is not None:
            self._learn_time(row, column, cell, outcome.run_ms / outcome.size)

    def _expect(self, column: int, success: float, fleet_mean: float) -> float:
        """Return what the fleet would have been expected to achieve, and learn for it."""
        successes, outcomes = self.sums.types["successes"], self.sums.types["outcomes"]
        expected = (successes[column] + prior_success_weight * fleet_mean) / (
            outcomes[column] + prior_success_weight
        )
        successes[column] = successes[column] * _fleet_fade + success
        outcomes[column] = outcomes[column] * _fleet_fade + 1.0
        return expected

    def _learn_time(self, row: int, column: int, cell: int, unit_ms: float) -> None:
        types, agents, cells = self.sums.types, self.sums.agents, self.sums.cells
        time_ms, times = types["time_ms"], types["times"]
        if times[column] >= 10.0:
            expected_ms = max(_expected_ms_min, time_ms[column] / times[column])
            unit_ms = min(unit_ms, _surprise_max * expected_ms)
        time_ms[column] = time_ms[column] * _fleet_fade + unit_ms
        times[column] = times[column] * _fleet_fade + 1.0
        # Above 0, since this outcome is in it, unless everything so far took no time at all.
        usual_ms = time_ms[column] / times[column]
        pace, times = agents["pace"], agents["times"]
        pace[row] = pace[row] * _service_fade + (unit_ms / usual_ms if usual_ms > 0.0 else 1.0)
        times[row] = times[row] * _service_fade + 1.0
        time_ms, times = cells["time_ms"], cells["times"]
        time_ms[cell] = time_ms[cell] * _service_fade + unit_ms
        times[cell] = times[cell] * _service_fade + 1.0

    def _column(self, task_type: str) -> int | None:
        """Return the column of a type, or None when there are too many."""
        column = self._columns.get(task_type)
        if column is not None:
            return column
        sums = self.sums
        column = len(sums.task_types)
        if column >= task_types_len_max:
            return None
        if column >= sums.columns:
            _widen(sums)
        sums.task_types.append(task_type)
        self._columns[task_type] = column
        for values in sums.types.values():
            values.append(0.0)
        return column

    def _row(self, agent_id: str) -> int:
        """Return the row of an agent, taking that of the one that was quiet longest when full."""
        sums = self.sums
        row = self._rows.get(agent_id)
        if row is None:
            row = len(sums.agent_ids)
            if row < agents_len_max:
                _lengthen(sums, agent_id)
            else:
                row = min(range(row), key=sums.agent_seqs.__getitem__)
                del self._rows[sums.agent_ids[row]]
                _clear(sums, row, agent_id)
            self._rows[agent_id] = row
        sums.agent_seqs[row] = sums.event_seq
        return row


def _index(names: Iterable[str]) -> dict[str, int]:
    return {name: position for position, name in enumerate(names)}


def _lengthen(sums: Sums, agent_id: str) -> None:
    sums.agent_ids.append(agent_id)
    sums.agent_seqs.append(0)
    for values in sums.agents.values():
        values.append(0.0)
    blank = array("d", bytes(8 * sums.columns))
    for values in sums.cells.values():
        values.extend(blank)


def _clear(sums: Sums, row: int, agent_id: str) -> None:
    sums.agent_ids[row] = agent_id
    for values in sums.agents.values():
        values[row] = 0.0
    begin = row * sums.columns
    for values in sums.cells.values():
        values[begin : begin + sums.columns] = array("d", bytes(8 * sums.columns))


def _widen(sums: Sums) -> None:
    """Double the columns of the cells."""
    old, new = sums.columns, sums.columns * 2
    margin = array("d", bytes(8 * (new - old)))
    widened: Mapping[str, array[float]] = {name: array("d") for name in CELL_SUMS}
    for name, values in sums.cells.items():
        for begin in range(0, len(values), old):
            widened[name].extend(values[begin : begin + old])
            widened[name].extend(margin)
    sums.cells = dict(widened)
    sums.columns = new

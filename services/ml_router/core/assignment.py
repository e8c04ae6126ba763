"""The best assignment of tasks to agents as a whole, not one by one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from services.ml_router.core.model import Matrix

Floats = npt.NDArray[np.float64]


def optimal_assignment(scores: Matrix) -> list[int]:
    """Return an agent for each task, with the greatest sum of scores.

    Each agent is used once while others are left. With more tasks than agents the tasks go in
    groups of as many as there are agents, in their order, which is that of their urgency.
    """
    tasks, agents = scores.shape
    if not agents:
        return [-1] * tasks
    if agents == 1:
        return [0] * tasks
    costs = -scores.astype(np.float64)
    chosen: list[int] = []
    for begin in range(0, tasks, agents):
        chosen.extend(_cheapest(costs[begin : begin + agents]))
    return chosen


def _cheapest(costs: Floats) -> list[int]:
    """Return a column for each row, all different, with the least sum (the Hungarian method).

    Rows enter one by one, each along the cheapest chain of displacements; potentials keep reduced
    costs at 0 or above. Needs at least as many columns as rows.
    """
    rows, columns = costs.shape
    row_potential = np.zeros(rows)
    column_potential = np.zeros(columns + 1)
    # Column `columns` stands for the row that enters.
    owner = np.full(columns + 1, -1, np.intp)
    for entering in range(rows):
        owner[columns] = entering
        least = np.full(columns, np.inf)
        before = np.full(columns, columns, np.intp)
        done = np.zeros(columns + 1, bool)
        column = columns
        while owner[column] >= 0:
            done[column] = True
            row = owner[column]
            reduced = costs[row] - row_potential[row] - column_potential[:-1]
            better = ~done[:-1] & (reduced < least)
            least[better] = reduced[better]
            before[better] = column
            nearest = int(np.where(done[:-1], np.inf, least).argmin())
            step = least[nearest]
            row_potential[owner[done]] += step
            column_potential[done] -= step
            least[~done[:-1]] -= step
            column = nearest
        while column != columns:
            owner[column] = owner[before[column]]
            column = int(before[column])
    result = [-1] * rows
    for column, row in enumerate(owner[:-1].tolist()):
        if row >= 0:
            result[row] = column
    return result

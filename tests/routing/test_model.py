from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from services.routing.core.model import UNSEEN_DEVIATION, Model, ModelFault
from tests.routing.floor import Floor, raw_model


def test_a_model_is_read_row_by_agent_and_column_by_type() -> None:
    floor = Floor()
    floor.agent("a1")
    floor.agent("a2")
    raw = raw_model(["a2", "a1"], ["x", "y"], service_ms=[[1, 2], [3, 4]], success=0.5)
    floor.router.learn(raw, floor.time)
    model = floor.board.model
    assert model is not None
    demand = floor.board.demands.of(["echo"], [])

    vectors = model.vectors(floor.board.fleet, demand, "y")

    assert vectors.service_ms.tolist() == [4.0, 2.0]
    assert vectors.loss_ms.tolist() == [500.0, 500.0]
    assert model.vectors(floor.board.fleet, demand, "y") is vectors


def test_agents_and_types_it_has_not_seen_are_like_the_fleet() -> None:
    floor = Floor()
    raw = raw_model(["a1"], ["x"], service_ms=1, fleet_service_ms=[70.0], fleet_success=[0.5])
    floor.router.learn(raw, floor.time)
    floor.agent("a1")
    floor.agent("new")
    model, demand = floor.board.model, floor.board.demands.of(["echo"], [])
    assert model is not None

    seen = model.vectors(floor.board.fleet, demand, "x")
    unseen = model.vectors(floor.board.fleet, demand, "other")

    assert seen.service_ms.tolist() == [1.0, 70.0]
    assert seen.success.tolist() == pytest.approx([0.9, 0.5])
    assert seen.spread_ms.tolist() == pytest.approx([0.0, UNSEEN_DEVIATION * 1_000])
    assert unseen.service_ms.tolist() == [50.0, 50.0]


def test_cost_is_worth_delay() -> None:
    floor = Floor()
    floor.agent("dear", cost=2.0)
    raw = raw_model(["dear"], ["echo"], success=1.0, cost_weight_ms=100.0)
    floor.router.learn(raw, floor.time)
    assert floor.board.model is not None

    vectors = floor.board.model.vectors(
        floor.board.fleet, floor.board.demands.of(["echo"], []), "echo"
    )

    assert vectors.loss_ms.tolist() == [200.0]


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"checksum": b"x"}, "checksum"),
        ({"mode": 9}, "mode"),
        ({"canary_fraction": 1.5}, "canary_fraction"),
        ({"canary_fraction": float("nan")}, "canary_fraction"),
        ({"exploration_fraction": 0.5}, "exploration_fraction"),
        ({"retry_penalty_ms": float("inf")}, "retry_penalty_ms"),
        ({"default_service_ms": -1.0}, "default_service_ms"),
        ({"fleet_success": [0.5, 0.5]}, "fleet_success"),
        ({"fleet_service_ms": [float("nan")]}, "fleet_service_ms"),
        ({"agent_ids": ["a1", "a1"]}, "twice"),
        ({"agent_ids": ["a1", "a2", "a3"]}, "bytes"),
    ],
)
def test_what_does_not_add_up_is_refused(wrong: dict[str, Any], why: str) -> None:
    with pytest.raises(ModelFault, match=why):
        Model(raw_model(["a1", "a2"], ["x"])._replace(**wrong))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -1.0])
@pytest.mark.parametrize("matrix", ["success", "service_ms", "deviation"])
def test_numbers_that_are_none_are_refused_wherever_they_are(matrix: str, value: float) -> None:
    given: dict[str, Any] = {matrix: [[1.0], [value]]}

    with pytest.raises(ModelFault):
        Model(raw_model(["a1", "a2"], ["x"], **given))

"""Settings of MLRouter."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from services.kernel.config import Common, setting
from services.kernel.parsers import (
    as_choice,
    as_fraction,
    as_port,
    as_replicas,
    as_seconds,
)


def as_number(low: float, high: float) -> Callable[[str], float]:
    """Return a parser of numbers from `low` to `high`."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise ValueError(f"must be a number from {low:g} to {high:g}")
        return value

    return parse


@dataclass(frozen=True)
class Settings(Common):
    """What can be set."""

    port: int = setting("PODIUM_ML_ROUTER_PORT", 7704, "gRPC port", parse=as_port)
    task_scheduler_address: str = setting(
        "PODIUM_TASK_SCHEDULER_ADDRESS",
        "127.0.0.1:7701",
        "host:port of TaskScheduler, whose event log is learned from",
        parse=as_replicas,
    )
    mode: str = setting(
        "PODIUM_ML_MODE",
        "live",
        "off, shadow, canary or live: how far the model decides until an operator says otherwise",
        parse=as_choice("off", "shadow", "canary", "live"),
    )
    canary_fraction: float = setting(
        "PODIUM_ML_CANARY_FRACTION",
        0.1,
        "share of tasks the model decides in mode canary",
        parse=as_fraction,
    )
    update_s: float = setting(
        "PODIUM_ML_UPDATE_S",
        1.0,
        "least time between two versions pushed to routers",
        parse=as_seconds,
    )
    push_interval_s: float = setting(
        "PODIUM_ML_PUSH_INTERVAL_S",
        5.0,
        "time after which the same model is pushed again; three missed ones make it stale",
        parse=as_seconds,
    )
    checkpoint_s: float = setting(
        "PODIUM_ML_CHECKPOINT_S",
        60.0,
        "time between two versions kept on disk",
        parse=as_seconds,
    )
    retry_penalty_factor: float = setting(
        "PODIUM_ML_RETRY_PENALTY_FACTOR",
        3.0,
        "cost of a failed attempt in mean service times; higher prefers reliable agents",
        parse=as_number(0.0, 1_000.0),
    )
    cost_weight_ms: float = setting(
        "PODIUM_ML_COST_WEIGHT_MS",
        0.0,
        "milliseconds of delay that one unit of an agent's cost is worth",
        parse=as_number(0.0, 1e9),
    )
    exploration_fraction: float = setting(
        "PODIUM_ML_EXPLORATION_FRACTION",
        0.02,
        "share of decisions that try an agent at random, 0 to 0.2",
        parse=as_number(0.0, 0.2),
    )

"""Runs MLRouter: `python -m services.ml_router`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from podium.v1.ml_router_pb2_grpc import add_MLRouterServiceServicer_to_server
from services.kernel import names, telemetry
from services.kernel.clock import Clock
from services.kernel.config import where
from services.kernel.follow import Follower
from services.kernel.serving import Assembled, Dial, ServiceSpec, main
from services.ml_router.adapters.decisions import DecisionLog
from services.ml_router.adapters.events import EventLog, Reader
from services.ml_router.adapters.snapshots import SnapshotDirectory
from services.ml_router.config import Settings
from services.ml_router.core.learner import Learner
from services.ml_router.core.model import Tuning
from services.ml_router.core.versions import Mode, Policy
from services.ml_router.loops import Learning, Pace
from services.ml_router.servicer import NAME, POLICY, MLRouterServicer


@asynccontextmanager
async def assemble(settings: Settings, dial: Dial, clock: Clock) -> AsyncIterator[Assembled]:
    """Put MLRouter together; it learns until the block ends."""
    learner, decisions = Learner(), DecisionLog()
    mode = Mode(settings.mode)
    learning = Learning(
        learner,
        SnapshotDirectory(settings.data_dir / "ml_router"),
        policy=Policy(mode, settings.canary_fraction if mode is Mode.CANARY else 0.0),
        tuning=Tuning(
            settings.retry_penalty_factor, settings.cost_weight_ms, settings.exploration_fraction
        ),
        pace=Pace(settings.update_s, settings.push_interval_s, settings.checkpoint_s),
        clock=clock,
    )
    channel = dial(settings.task_scheduler_address)
    follower = Follower(
        f"The event log of TaskScheduler at {where(settings, 'task_scheduler_address')}",
        EventLog(channel).open,
        Reader(learner, decisions).take,
        learning.begin_anew,
        clock=clock,
        cursor=learning.restored_cursor,
    )
    learning.follow(lambda: follower.cursor)
    servicer = MLRouterServicer(learning, decisions, push_interval_s=settings.push_interval_s)
    async with telemetry.started("ml_router", settings) as observed:
        observed.metrics.read_gauge(
            names.metric_model_version,
            "When the model in use was made, in seconds since the epoch.",
            lambda: learning.current.create_ms / 1e3,
        )
        observed.metrics.read_counter(
            names.metric_outcomes_learned,
            "Outcomes learned from.",
            lambda: learner.sums.outcome_count,
        )
        loops = [asyncio.create_task(follower.run()), asyncio.create_task(learning.run())]
        try:
            # Ready without a scheduler: the model it has is of use, and learning catches up later.
            yield Assembled(
                register=lambda server: add_MLRouterServiceServicer_to_server(servicer, server),
                service_names=(NAME,),
                drain=learning.drain,
                telemetry=observed,
                policy=POLICY,
                loops=loops,
            )
        finally:
            for loop in loops:
                loop.cancel()
            await asyncio.gather(*loops, return_exceptions=True)
            await channel.close()


SERVICE = ServiceSpec(
    name="ml_router",
    settings=Settings,
    summary="MLRouter: learns from outcomes and pushes models to routers.",
    assemble=assemble,
)

if __name__ == "__main__":
    sys.exit(main(SERVICE))

"""The stream from MLRouter: each new model, checked before it is used."""

from __future__ import annotations

import logging
from typing import Any

from podium.v1 import ml_router_pb2, ml_router_pb2_grpc
from services.kernel.options import Dial
from services.routing.adapters.desk import RouterDesk
from services.routing.core.model import RawModel

log = logging.getLogger("podium.routing.models")


class ModelLink:
    """Holds the stream from MLRouter; without it the formula decides."""

    peer = "MLRouter"

    def __init__(self, address: str, dial: Dial, desk: RouterDesk) -> None:
        self._channel = dial(address)
        self._desk = desk

    async def close(self) -> None:
        """Give the channel back."""
        await self._channel.close()

    async def serve(self) -> None:
        """Hold the stream until it ends."""
        desk = self._desk
        stub = ml_router_pb2_grpc.MLRouterServiceStub(self._channel)
        request = ml_router_pb2.WatchModelRequest(router_id=desk.router.board.router_id)
        call: Any = stub.WatchModel(request)
        try:
            async for response in call:
                fault = desk.router.learn(_raw(response.snapshot), desk.now())
                if fault:
                    log.warning(
                        "A model was rejected, the one before stays in use: %s.",
                        fault,
                        extra={"model_version": response.snapshot.model_version},
                    )
        finally:
            desk.router.model_gone(desk.now())
            call.cancel()


def _raw(snapshot: ml_router_pb2.ModelSnapshot) -> RawModel:
    return RawModel(
        version=snapshot.model_version,
        mode=snapshot.mode,
        canary_fraction=snapshot.canary_fraction,
        agent_ids=list(snapshot.agent_ids),
        task_types=list(snapshot.task_types),
        success_means=snapshot.success_means,
        success_deviations=snapshot.success_deviations,
        service_ms=snapshot.service_ms,
        evidence=snapshot.evidence,
        fleet_success=list(snapshot.fleet_success),
        fleet_service_ms=list(snapshot.fleet_service_ms),
        default_success=snapshot.default_success,
        default_service_ms=snapshot.default_service_ms,
        retry_penalty_ms=snapshot.retry_penalty_ms,
        cost_weight_ms=snapshot.cost_weight_ms,
        exploration_fraction=snapshot.exploration_fraction,
        push_interval_s=snapshot.push_interval.ToNanoseconds() / 1e9,
        checksum=snapshot.checksum,
    )

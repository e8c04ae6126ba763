"""RoutingService: sessions of agents, results from outside them, and who is connected."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc.aio

from podium.v1 import routing_pb2, routing_pb2_grpc, session_pb2
from services.kernel.auth import current_principal, current_recheck
from services.kernel.clock import Clock
from services.kernel.errors import PermissionDenied, Unauthenticated, Unavailable
from services.kernel.pages import decode_token, encode_token, page_size
from services.kernel.rules import Checker
from services.routing.core.session import Session
from services.routing.core.verdicts import check
from services.routing.ports import Desk, Line
from services.routing.servicer.checks import result_fault
from services.routing.servicer.listener import Listener, blame

SERVICE_NAME = "podium.v1.RoutingService"

POLICY = {
    f"/{SERVICE_NAME}/OpenSession": "agent",
    f"/{SERVICE_NAME}/ReportResult": "agent",
    f"/{SERVICE_NAME}/ListSessions": "reader",
}

Context = grpc.aio.ServicerContext[Any, Any]


class RoutingServicer(routing_pb2_grpc.RoutingServiceServicer):
    """Passes messages to the desk and back."""

    def __init__(self, desk: Desk, clock: Clock) -> None:
        self._desk = desk
        self._clock = clock
        self._page_key = secrets.token_bytes(16)
        self._rechecks: dict[Line, Callable[[], object]] = {}
        """Of the streams whose callers have shown a token."""

    def check_callers(self) -> None:
        """End the streams of those who would not be let in any more."""
        for line, recheck in tuple(self._rechecks.items()):
            try:
                recheck()
            except Unauthenticated as error:
                del self._rechecks[line]
                line.fail(error)

    async def OpenSession(  # type: ignore[override]  # writes itself, as gRPC allows
        self, request_iterator: AsyncIterator[routing_pb2.OpenSessionRequest], context: Context
    ) -> None:
        """Serve the stream of one agent or of many."""
        if self._desk.router.board.draining:
            raise Unavailable(
                "DRAINING", "This router drains; try again, here or elsewhere.", retry_after_s=1.0
            )
        line = self._desk.open_line()
        listener = Listener(self._desk, line.number, current_principal())
        reader = asyncio.create_task(self._read(line, listener, request_iterator))
        recheck = current_recheck()
        # A bridge speaks for many, and looks after the token of each of them itself.
        if recheck is not None and "service" not in current_principal().roles:
            self._rechecks[line] = recheck
        try:
            await line.send(context.write)
            if reader.done():
                # Ends the stream with what was wrong, if anything was.
                reader.result()
        finally:
            # First of all: a call may be cancelled once more while this waits for the reader, and
            # agents whose stream is not noted as gone would keep their tasks.
            self._desk.drop_line(line.number)
            self._rechecks.pop(line, None)
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)

    async def _read(
        self,
        line: Line,
        listener: Listener,
        requests: AsyncIterator[routing_pb2.OpenSessionRequest],
    ) -> None:
        try:
            async for request in requests:
                wait_s = listener.take(request.frames)
                if wait_s:
                    # Not reading is what slows an agent down.
                    await self._clock.sleep(wait_s)
        finally:
            # Frames decided in this turn, a Refusal among them, still leave before the end.
            await asyncio.sleep(0)
            line.close()

    async def ReportResult(
        self, request: routing_pb2.ReportResultRequest, context: Context
    ) -> routing_pb2.ReportResultResponse:
        """Take one result outside a stream and answer when it is settled."""
        result = request.result
        checker = Checker()
        checker.identifier("agent_id", request.agent_id)
        checker.identifier("result.lease.task_id", result.lease.task_id)
        checker.require("result.lease.lease_epoch", result.lease.lease_epoch >= 1, "is at least 1")
        outcome = result.WhichOneof("outcome")
        checker.require("result.outcome", outcome is not None, "is required")
        checker.done()
        principal = current_principal()
        own = principal.may("service") or request.agent_id == principal.subject
        if not own and not request.agent_id.startswith(f"{principal.subject}-"):
            raise PermissionDenied("AGENT_NOT_YOURS", "The caller may not speak for this agent.")
        desk = self._desk
        if not desk.router.board.is_up(result.lease.task_id):
            raise Unavailable(
                "SCHEDULER_UNREACHABLE",
                "The scheduler is not reached; repeat the result.",
                retry_after_s=1.0,
            )
        key = (result.lease.task_id, result.lease.lease_epoch)
        refused = result_fault(result, result.WhichOneof("outcome"))
        kind = blame(result, refused)
        desk.router.work.report(request.agent_id, key, result, kind, refused, desk.now())
        verdict = await desk.settlement(key)
        check(key, verdict)
        if refused:
            verdict = session_pb2.ResultAck.VERDICT_REFUSED
        return routing_pb2.ReportResultResponse(
            verdict=verdict,  # type: ignore[arg-type]  # numbers of the wire
        )

    async def ListSessions(
        self, request: routing_pb2.ListSessionsRequest, context: Context
    ) -> routing_pb2.ListSessionsResponse:
        """List the agents with sessions here by id."""
        size = page_size(request.page_size)
        after = decode_token(request.page_token, b"sessions", self._page_key)
        sessions = self._desk.router.board.sessions
        found = sorted(agent_id for agent_id in sessions if agent_id > after)
        page = [_session(sessions[agent_id]) for agent_id in found[:size]]
        token = ""
        if len(found) > size:
            token = encode_token(found[size - 1], b"sessions", self._page_key)
        return routing_pb2.ListSessionsResponse(sessions=page, next_page_token=token)


def _session(session: Session) -> routing_pb2.Session:
    return routing_pb2.Session(
        agent_id=session.agent_id,
        session_id=session.session_id,
        attached=session.stream is not None,
        in_flight_count=session.load,
        max_concurrency=session.max_concurrency,
        draining=session.draining,
    )

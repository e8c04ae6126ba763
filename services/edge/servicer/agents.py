"""Agents behind connections: their frames to Routing, and Routing's frames to them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence

from podium.v1.bridge_pb2 import BridgeResponse, RouterFrames
from podium.v1.session_pb2 import AgentFrame, Detached, Refusal, RouterFrame, Superseded
from services.edge.core.placement import place
from services.edge.core.speakers import Speaker, Speakers
from services.edge.ports import Sessions
from services.edge.servicer.introduction import check_hello, check_rights
from services.kernel import limits
from services.kernel.auth import Principal
from services.kernel.errors import (
    FailedPrecondition,
    InvalidArgument,
    PodiumError,
    ResourceExhausted,
    Unavailable,
)

log = logging.getLogger("podium.edge.agents")

transport = "websocket"
router_lost = "ROUTER_LOST"
no_fault_codes = frozenset({"UNAVAILABLE", "RESOURCE_EXHAUSTED"})
"""Of refusals that come of the state of Routing, or that Routing has counted itself."""

Tell = Callable[[int, BridgeResponse], None]
"""Gives an answer to a connection, or cuts it when it does not read."""
Strike = Callable[[int], None]
"""Counts a frame that Routing refused against its connection."""


class Agents:
    """The agents of all connections, and the streams they share: one to each Routing."""

    def __init__(
        self, routers: Sequence[Sessions], speakers: Speakers, tell: Tell, strike: Strike
    ) -> None:
        self._routers = {sessions.address: sessions for sessions in routers}
        self._draining: set[str] = set()
        self._speakers = speakers
        self._tell = tell
        self._strike = strike

    def speak(self, connection: int, principal: Principal, frames: Iterable[AgentFrame]) -> None:
        """Pass on frames of one connection, in order.

        Raises:
            PodiumError: A frame was refused; the frames before it were passed on.
        """
        passed: dict[str, list[AgentFrame]] = {}
        try:
            for index, frame in enumerate(frames):
                self._admit(connection, principal, frame, f"agent.frames[{index}]", passed)
        except PodiumError as error:
            # A connection may speak for several: it has to know which of them is meant.
            error.metadata = {**error.metadata, "agent_id": frame.agent_id[: limits.id_len_max]}
            raise
        finally:
            # The frames that one Routing does not get are no reason to keep another's.
            faults = [self._send(connection, router, batch) for router, batch in passed.items()]
            for fault in filter(None, faults):
                raise fault

    def deliver(self, router: str, frames: Sequence[RouterFrame]) -> None:
        """Hand frames of a Routing to the connections that speak for their agents."""
        batches: dict[int, list[RouterFrame]] = {}
        refused: list[int] = []
        ended: list[str] = []
        for frame in frames:
            for connection in self._meant(router, frame):
                batches.setdefault(connection, []).append(frame)
                if frame.HasField("refusal") and frame.refusal.code not in no_fault_codes:
                    refused.append(connection)
                if _ends_session(frame):
                    ended.append(frame.agent_id)
        for agent_id in ended:
            self._speakers.release(agent_id)
        for connection, batch in batches.items():
            self._tell(connection, BridgeResponse(agent=RouterFrames(frames=batch)))
        for connection in refused:
            self._strike(connection)
        if any(frame.HasField("drain") for frame in frames):
            self._move_away(router)

    def _meant(self, router: str, frame: RouterFrame) -> Iterable[int]:
        """Return the connections that a frame of a Routing is for."""
        if not frame.agent_id:
            # A draining stream is the bridge's, so it is the bridge that moves.
            return () if frame.HasField("drain") else self._speakers.through(router)
        speaker = self._speakers.of(frame.agent_id)
        if speaker is None or speaker.router != router or _meant_for_older(frame, speaker):
            return ()
        return (speaker.connection,)

    def gone(self, connection: int) -> None:
        """Tell Routing that the agents of a connection have lost it; their leases wait."""
        for router, agents in self._speakers.drop(connection).items():
            self._detach(router, agents, "The connection to the bridge is lost.")

    def lost(self, router: str, reason: str) -> None:
        """End all sessions at a Routing: its stream is gone."""
        self._draining.discard(router)
        self._end_all(router, reason)

    def _move_away(self, router: str) -> None:
        """Leave a Routing that drains: its agents say Hello at another, or when it is back."""
        log.info("Routing drains; its agents move", extra={"router": router})
        self._draining.add(router)
        for agents in self._speakers.through(router).values():
            self._detach(router, agents, "The agent moves to another Routing.")
        self._end_all(router, "Routing drains.")

    def _end_all(self, router: str, reason: str) -> None:
        """Ask all agents at a Routing to say Hello again, with their leases."""
        message = f"{reason} Say Hello again."
        refusal = Refusal(reason=router_lost, code="UNAVAILABLE", message=message, closing=True)
        for connection, agents in self._speakers.through(router).items():
            for agent_id in agents:
                self._speakers.release(agent_id)
            frames = [RouterFrame(agent_id=agent_id, refusal=refusal) for agent_id in agents]
            self._tell(connection, BridgeResponse(agent=RouterFrames(frames=frames)))

    def _detach(self, router: str, agents: Iterable[str], reason: str) -> None:
        lost = Detached(reason=reason)
        frames = [AgentFrame(agent_id=agent_id, detached=lost) for agent_id in agents]
        try:
            self._routers[router].send(frames)
        except Unavailable:
            log.debug("Routing is not there to learn that %d agents are gone", len(frames))

    def _admit(
        self,
        connection: int,
        principal: Principal,
        frame: AgentFrame,
        path: str,
        passed: dict[str, list[AgentFrame]],
    ) -> None:
        """Let a frame pass that neither ends the shared stream nor speaks for another's agent."""
        arm = frame.WhichOneof("frame")
        if arm is None:
            raise InvalidArgument("INVALID_FIELD", f"{path} says nothing: set one field of it.")
        if arm == "detached":
            raise InvalidArgument("INVALID_FIELD", f"{path}.detached is for bridges alone.")
        if arm == "hello":
            check_rights(principal, frame)
            self._hello(connection, frame, path, passed)
            return
        speaker = self._speakers.of(frame.agent_id)
        if speaker is None or speaker.connection != connection:
            check_rights(principal, frame)
            raise FailedPrecondition(
                "HELLO_REQUIRED",
                f"The agent {frame.agent_id!r} has no session on this connection: say Hello first.",
            )
        passed.setdefault(speaker.router, []).append(frame)
        if arm == "goodbye":
            self._speakers.release(frame.agent_id)

    def _hello(
        self, connection: int, frame: AgentFrame, path: str, passed: dict[str, list[AgentFrame]]
    ) -> None:
        if self._speakers.speaks(connection, frame.agent_id):
            raise FailedPrecondition(
                "HELLO_REPEATED", f"The agent {frame.agent_id!r} has said Hello already."
            )
        check_hello(frame, path)
        if self._speakers.full and self._speakers.of(frame.agent_id) is None:
            raise ResourceExhausted(
                "TOO_MANY_AGENTS", "This bridge has no place for another agent.", retry_after_s=5.0
            )
        frame.hello.transport = transport
        router = self._place(frame.agent_id)
        speaker = Speaker(connection, frame.hello.instance_id, router)
        before = self._speakers.bind(frame.agent_id, speaker)
        if before is not None:
            # To Routing the older connection is lost, whether or not it has broken yet.
            lost = Detached(reason="The agent has connected anew.")
            detached = AgentFrame(agent_id=frame.agent_id, detached=lost)
            passed.setdefault(before.router, []).append(detached)
            taken = RouterFrame(
                agent_id=frame.agent_id, superseded=Superseded(instance_id=speaker.instance_id)
            )
            self._tell(before.connection, BridgeResponse(agent=RouterFrames(frames=[taken])))
        passed.setdefault(router, []).append(frame)

    def _place(self, agent_id: str) -> str:
        attached = (name for name, sessions in self._routers.items() if sessions.attached)
        router = place(agent_id, (name for name in attached if name not in self._draining))
        if router is None:
            raise Unavailable(
                "ROUTING_UNREACHABLE",
                "Routing cannot be reached; say Hello again in a moment.",
                retry_after_s=1.0,
            )
        return router

    def _send(self, connection: int, router: str, frames: list[AgentFrame]) -> Unavailable | None:
        try:
            self._routers[router].send(frames)
        except Unavailable as error:
            # Half a conversation helps nobody: these agents begin anew.
            for frame in frames:
                if self._speakers.speaks(connection, frame.agent_id):
                    self._speakers.release(frame.agent_id)
            return error
        return None


def _meant_for_older(frame: RouterFrame, speaker: Speaker) -> bool:
    """Tell whether this is Routing's word to the instance that the present one has replaced."""
    return (
        frame.WhichOneof("frame") == "superseded"
        and frame.superseded.instance_id == speaker.instance_id
    )


def _ends_session(frame: RouterFrame) -> bool:
    arm = frame.WhichOneof("frame")
    return arm == "superseded" or (arm == "refusal" and frame.refusal.closing)

"""Agents behind connections: their frames to Routing, and Routing's frames to them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence

from podium.v1.bridge_pb2 import BridgeResponse, RouterFrames
from podium.v1.session_pb2 import AgentFrame, Detached, Refusal, RouterFrame, Superseded
from services.edge.core.placement import place
from services.edge.core.speakers import Lane, Speaker, Speakers
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
    """The agents of all connections, and the lanes they share: the streams to each Routing."""

    def __init__(
        self, lanes: Sequence[Sessions], speakers: Speakers, tell: Tell, strike: Strike
    ) -> None:
        self._lanes = {sessions.lane: sessions for sessions in lanes}
        self._draining: set[Lane] = set()
        self._speakers = speakers
        self._tell = tell
        self._strike = strike

    def speak(self, connection: int, principal: Principal, frames: Iterable[AgentFrame]) -> None:
        """Pass on frames of one connection, in order.

        Raises:
            PodiumError: A frame was refused; the frames before it were passed on.
        """
        passed: dict[Lane, list[AgentFrame]] = {}
        try:
            for index, frame in enumerate(frames):
                self._admit(connection, principal, frame, f"agent.frames[{index}]", passed)
        except PodiumError as error:
            # A connection may speak for several: it has to know which of them is meant.
            error.metadata = {**error.metadata, "agent_id": frame.agent_id[: limits.id_len_max]}
            raise
        finally:
            # The frames that one Routing does not get are no reason to keep another's.
            faults = [self._send(connection, lane, batch) for lane, batch in passed.items()]
            for fault in filter(None, faults):
                raise fault

    def deliver(self, lane: Lane, frames: Sequence[RouterFrame]) -> None:
        """Hand frames of a Routing to the connections that speak for their agents."""
        batches: dict[int, list[RouterFrame]] = {}
        refused: list[int] = []
        ended: list[str] = []
        for frame in frames:
            for connection in self._meant(lane, frame):
                batches.setdefault(connection, []).append(frame)
                if frame.HasField("refusal") and frame.refusal.code not in no_fault_codes:
                    refused.append(connection)
                if _ends_session(frame):
                    ended.append(frame.agent_id)
        for agent_id in ended:
            self._release(lane, agent_id)
        for connection, batch in batches.items():
            self._tell(connection, BridgeResponse(agent=RouterFrames(frames=batch)))
        for connection in refused:
            self._strike(connection)
        if any(frame.HasField("drain") for frame in frames):
            self._move_away(lane)

    def _meant(self, lane: Lane, frame: RouterFrame) -> Iterable[int]:
        """Return the connections that a frame of a Routing is for."""
        if not frame.agent_id:
            # A draining stream is the bridge's, so it is the bridge that moves.
            return () if frame.HasField("drain") else self._speakers.through(lane)
        speaker = self._speakers.at(lane, frame.agent_id)
        return () if speaker is None else (speaker.connection,)

    def _release(self, lane: Lane, agent_id: str) -> None:
        speaker = self._speakers.at(lane, agent_id)
        if speaker is not None:
            self._speakers.release(agent_id, speaker)

    def gone(self, connection: int) -> None:
        """Tell Routing that the agents of a connection have lost it; their leases wait."""
        for lane, agents in self._speakers.drop(connection).items():
            self._detach(lane, agents, "The connection to the bridge is lost.")

    def lost(self, lane: Lane, reason: str) -> None:
        """End all sessions on a lane: its stream is gone."""
        self._draining.discard(lane)
        self._end_all(lane, reason)

    def _move_away(self, lane: Lane) -> None:
        """Leave a Routing that drains: its agents say Hello at another, or when it is back."""
        log.info("Routing drains; its agents move", extra={"router": lane.router})
        self._draining.add(lane)
        for agents in self._speakers.through(lane).values():
            self._detach(lane, agents, "The agent moves to another Routing.")
        self._end_all(lane, "Routing drains.")

    def _end_all(self, lane: Lane, reason: str) -> None:
        """Ask all agents on a lane to say Hello again, with their leases."""
        message = f"{reason} Say Hello again."
        refusal = Refusal(reason=router_lost, code="UNAVAILABLE", message=message, closing=True)
        for connection, agents in self._speakers.through(lane).items():
            for agent_id in agents:
                self._release(lane, agent_id)
            frames = [RouterFrame(agent_id=agent_id, refusal=refusal) for agent_id in agents]
            self._tell(connection, BridgeResponse(agent=RouterFrames(frames=frames)))

    def _detach(self, lane: Lane, agents: Iterable[str], reason: str) -> None:
        lost = Detached(reason=reason)
        frames = [AgentFrame(agent_id=agent_id, detached=lost) for agent_id in agents]
        try:
            self._lanes[lane].send(frames)
        except Unavailable:
            log.debug("Routing is not there to learn that %d agents are gone", len(frames))

    def _admit(
        self,
        connection: int,
        principal: Principal,
        frame: AgentFrame,
        path: str,
        passed: dict[Lane, list[AgentFrame]],
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
        speaker = self._speakers.by(connection, frame.agent_id)
        if speaker is None:
            check_rights(principal, frame)
            raise FailedPrecondition(
                "HELLO_REQUIRED",
                f"The agent {frame.agent_id!r} has no session on this connection: say Hello first.",
            )
        passed.setdefault(speaker.lane, []).append(frame)
        if arm == "goodbye":
            self._speakers.release(frame.agent_id, speaker)

    def _hello(
        self, connection: int, frame: AgentFrame, path: str, passed: dict[Lane, list[AgentFrame]]
    ) -> None:
        agent_id, speakers = frame.agent_id, self._speakers
        if speakers.by(connection, agent_id) is not None:
            raise FailedPrecondition(
                "HELLO_REPEATED", f"The agent {agent_id!r} has said Hello already."
            )
        check_hello(frame, path)
        if speakers.full and not speakers.of(agent_id):
            raise ResourceExhausted(
                "TOO_MANY_AGENTS", "This bridge has no place for another agent.", retry_after_s=5.0
            )
        frame.hello.transport = transport
        before = self._itself(agent_id, frame.hello.instance_id)
        lane = self._place(agent_id, before)
        if before is not None:
            self._leave_behind(agent_id, before, passed)
        speakers.bind(agent_id, Speaker(connection, frame.hello.instance_id, lane))
        passed.setdefault(lane, []).append(frame)

    def _itself(self, agent_id: str, instance_id: str) -> Speaker | None:
        """Return the older connection of the very process that says Hello."""
        for speaker in self._speakers.of(agent_id):
            if speaker.instance_id == instance_id:
                return speaker
        return None

    def _leave_behind(
        self, agent_id: str, before: Speaker, passed: dict[Lane, list[AgentFrame]]
    ) -> None:
        """End what a process says on a connection that it has given up for a newer one.

        To Routing the older connection is lost, whether or not it has broken yet.
        """
        self._speakers.release(agent_id, before)
        lost = Detached(reason="The agent has connected anew.")
        passed.setdefault(before.lane, []).append(AgentFrame(agent_id=agent_id, detached=lost))
        over = Superseded(instance_id=before.instance_id)
        taken = RouterFrame(agent_id=agent_id, superseded=over)
        self._tell(before.connection, BridgeResponse(agent=RouterFrames(frames=[taken])))

    def _place(self, agent_id: str, before: Speaker | None) -> Lane:
        """Return the lane for a Hello: where it was before, or else one that nobody speaks on."""
        taken = {each.lane for each in self._speakers.of(agent_id) if each is not before}
        present = [lane for lane, sessions in self._lanes.items() if sessions.attached]
        mains = (lane for lane in present if lane.number == 0 and lane not in self._draining)
        router = place(agent_id, (lane.router for lane in mains))
        if router is None:
            raise Unavailable(
                "ROUTING_UNREACHABLE",
                "Routing cannot be reached; say Hello again in a moment.",
                retry_after_s=1.0,
            )
        free = [lane for lane in self._lanes if lane.router == router and lane not in taken]
        if before is not None and before.lane in free:
            return before.lane
        if not free:
            raise Unavailable(
                "HELLO_PENDING",
                f"Two instances of the agent {agent_id!r} have said Hello; say it in a moment.",
                retry_after_s=1.0,
            )
        return min(free)

    def _send(self, connection: int, lane: Lane, frames: list[AgentFrame]) -> Unavailable | None:
        try:
            self._lanes[lane].send(frames)
        except Unavailable as error:
            # Half a conversation helps nobody: these agents begin anew.
            for frame in frames:
                speaker = self._speakers.by(connection, frame.agent_id)
                if speaker is not None and speaker.lane == lane:
                    self._speakers.release(frame.agent_id, speaker)
            return error
        return None


def _ends_session(frame: RouterFrame) -> bool:
    arm = frame.WhichOneof("frame")
    return arm == "superseded" or (arm == "refusal" and frame.refusal.closing)

"""Agents behind connections: their frames to Routing, and Routing's frames to them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence

from podium.v1.bridge_pb2 import BridgeResponse, RouterFrames
from podium.v1.session_pb2 import AgentFrame, Detached, Refusal, RouterFrame, Superseded
from services.edge.core.speakers import Speaker, Speakers
from services.edge.ports import Sessions
from services.kernel import limits
from services.kernel.auth import Principal
from services.kernel.errors import (
    FailedPrecondition,
    InvalidArgument,
    PermissionDenied,
    ResourceExhausted,
    Unavailable,
)
from services.kernel.rules import Checker

log = logging.getLogger("podium.edge.agents")

transport = "websocket"
concurrency_max = 1_000
in_flight_len_max = 1_000
money_max = 1e12
router_lost = "ROUTER_LOST"

Tell = Callable[[int, BridgeResponse], None]
"""Gives an answer to a connection, or cuts it when it does not read."""
Strike = Callable[[int], None]
"""Counts a frame that Routing refused against its connection."""


class Agents:
    """The agents of all connections, and the stream they share."""

    def __init__(self, sessions: Sessions, speakers: Speakers, tell: Tell, strike: Strike) -> None:
        self._sessions = sessions
        self._speakers = speakers
        self._tell = tell
        self._strike = strike

    def speak(self, connection: int, principal: Principal, frames: Iterable[AgentFrame]) -> None:
        """Pass on frames of one connection, in order.

        Raises:
            PodiumError: A frame was refused; the frames before it were passed on.
        """
        passed: list[AgentFrame] = []
        try:
            for index, frame in enumerate(frames):
                self._admit(connection, principal, frame, f"agent.frames[{index}]", passed)
                passed.append(frame)
        finally:
            self._send(connection, passed)

    def deliver(self, frames: Sequence[RouterFrame]) -> None:
        """Hand frames of Routing to the connections that speak for their agents."""
        batches: dict[int, list[RouterFrame]] = {}
        ended: list[str] = []
        refused: list[int] = []
        for frame in frames:
            if not frame.agent_id:
                for connection in self._speakers.connections():
                    batches.setdefault(connection, []).append(frame)
                continue
            speaker = self._speakers.of(frame.agent_id)
            if speaker is None or _meant_for_older(frame, speaker):
                continue
            batches.setdefault(speaker.connection, []).append(frame)
            if _ends_session(frame):
                ended.append(frame.agent_id)
            if frame.HasField("refusal"):
                refused.append(speaker.connection)
        for agent_id in ended:
            self._speakers.release(agent_id)
        for connection, batch in batches.items():
            self._tell(connection, BridgeResponse(agent=RouterFrames(frames=batch)))
        for connection in refused:
            self._strike(connection)

    def gone(self, connection: int) -> None:
        """Tell Routing that the agents of a connection have lost it; their leases wait."""
        agents = self._speakers.drop(connection)
        if not agents:
            return
        lost = Detached(reason="The connection to the bridge is lost.")
        try:
            self._sessions.send([AgentFrame(agent_id=each, detached=lost) for each in agents])
        except Unavailable:
            log.debug("Routing is not there to learn that %d agents are gone", len(agents))

    def lost(self, reason: str) -> None:
        """End all sessions: the stream is gone. Agents say Hello again, with their leases."""
        for connection, agents in self._speakers.connections().items():
            self._speakers.drop(connection)
            refusal = Refusal(
                reason=router_lost, message=f"{reason} Say Hello again.", closing=True
            )
            frames = [RouterFrame(agent_id=agent_id, refusal=refusal) for agent_id in agents]
            self._tell(connection, BridgeResponse(agent=RouterFrames(frames=frames)))

    def _admit(
        self,
        connection: int,
        principal: Principal,
        frame: AgentFrame,
        path: str,
        passed: list[AgentFrame],
    ) -> None:
        """Check what would end the shared stream, or speak for somebody else's agent."""
        arm = frame.WhichOneof("frame")
        if arm is None:
            raise InvalidArgument("INVALID_FIELD", f"{path} says nothing: set one field of it.")
        if arm == "detached":
            raise InvalidArgument("INVALID_FIELD", f"{path}.detached is for bridges alone.")
        if arm == "hello":
            _check_rights(principal, frame)
            self._hello(connection, frame, path, passed)
        elif not self._speakers.speaks(connection, frame.agent_id):
            raise FailedPrecondition(
                "HELLO_REQUIRED",
                f"The agent {frame.agent_id!r} has no session on this connection: say Hello first.",
            )
        elif arm == "goodbye":
            self._speakers.release(frame.agent_id)

    def _hello(
        self, connection: int, frame: AgentFrame, path: str, passed: list[AgentFrame]
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
        speaker = Speaker(connection, frame.hello.instance_id)
        before = self._speakers.bind(frame.agent_id, speaker)
        if before is None:
            return
        # To Routing the older connection is lost, whether or not it has broken yet.
        lost = Detached(reason="The agent has connected anew.")
        passed.append(AgentFrame(agent_id=frame.agent_id, detached=lost))
        taken = RouterFrame(
            agent_id=frame.agent_id, superseded=Superseded(instance_id=speaker.instance_id)
        )
        self._tell(before.connection, BridgeResponse(agent=RouterFrames(frames=[taken])))

    def _send(self, connection: int, frames: list[AgentFrame]) -> None:
        if not frames:
            return
        try:
            self._sessions.send(frames)
        except Unavailable:
            # Half a conversation helps nobody: these agents begin anew.
            for frame in frames:
                if self._speakers.speaks(connection, frame.agent_id):
                    self._speakers.release(frame.agent_id)
            raise


def check_hello(frame: AgentFrame, path: str) -> None:
    """Check what Routing would refuse, which counts against the stream that all agents share.

    Raises:
        InvalidArgument: INVALID_FIELD with all violations.
    """
    hello, at = frame.hello, f"{path}.hello"
    checker = Checker()
    checker.identifier(f"{path}.agentId", frame.agent_id)
    checker.key(f"{at}.instanceId", hello.instance_id)
    checker.name(f"{at}.name", hello.name)
    checker.text(f"{at}.buildId", hello.build_id, limits.name_len_max)
    checker.text(f"{at}.sdk", hello.sdk, limits.name_len_max)
    checker.text(f"{at}.resumeToken", hello.resume_token, limits.name_len_max)
    checker.labels(f"{at}.labels", hello.labels)
    checker.integer(f"{at}.maxConcurrency", hello.max_concurrency, 0, concurrency_max)
    checker.length(f"{at}.inFlight", len(hello.in_flight), in_flight_len_max)
    count = len(hello.capabilities)
    checker.length(f"{at}.capabilities", count, limits.capabilities_len_max, low=1)
    for index, capability in enumerate(hello.capabilities[: limits.capabilities_len_max]):
        each = f"{at}.capabilities[{index}]"
        checker.capability(f"{each}.name", capability.name)
        checker.text(f"{each}.version", capability.version, 32)
        checker.finite(f"{each}.proficiency", capability.proficiency, 0.0, 1.0)
    cost = hello.cost_hint
    checker.finite(f"{at}.costHint.costPerTask", cost.cost_per_task, 0.0, money_max)
    checker.finite(f"{at}.costHint.costPerKilotoken", cost.cost_per_kilotoken, 0.0, money_max)
    checker.done()


def _check_rights(principal: Principal, frame: AgentFrame) -> None:
    """Check who speaks for the agent: to Routing every frame comes from this bridge.

    Raises:
        PermissionDenied: ROLE_REQUIRED, AGENT_NOT_YOURS or CAPABILITY_NOT_GRANTED.
    """
    if not principal.may("agent"):
        raise PermissionDenied("ROLE_REQUIRED", "To be an agent needs the role agent.")
    service = principal.may("service")
    own = frame.agent_id == principal.subject or frame.agent_id.startswith(f"{principal.subject}-")
    if not own and not service:
        raise PermissionDenied(
            "AGENT_NOT_YOURS", f"The caller {principal.subject} may not speak for this agent."
        )
    for capability in frame.hello.capabilities:
        if not service and not principal.may_offer(capability.name):
            raise PermissionDenied(
                "CAPABILITY_NOT_GRANTED",
                f"The caller may not offer the capability {capability.name[:64]!r}.",
            )


def _meant_for_older(frame: RouterFrame, speaker: Speaker) -> bool:
    """Tell whether this is Routing's word to the instance that the present one has replaced."""
    return (
        frame.WhichOneof("frame") == "superseded"
        and frame.superseded.instance_id == speaker.instance_id
    )


def _ends_session(frame: RouterFrame) -> bool:
    arm = frame.WhichOneof("frame")
    return arm == "superseded" or (arm == "refusal" and frame.refusal.closing)

"""Who an agent is on the wire."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from podium.v1 import agent_pb2, session_pb2

SDK_NAME = "podium-python/0.1.0"


def new_instance_id() -> str:
    """Returns what tells one start of an agent from every other."""
    return uuid.uuid4().hex


@dataclass(frozen=True)
class Identity:
    """What Hello says about one agent."""

    agent_id: str
    capabilities: Sequence[agent_pb2.Capability]
    name: str = ""
    max_concurrency: int = 1
    labels: Mapping[str, str] = field(default_factory=dict)
    cost_per_task: float = 0.0
    cost_per_kilotoken: float = 0.0
    build_id: str = ""
    instance_id: str = field(default_factory=new_instance_id)

    def hello(
        self,
        in_flight: Sequence[session_pb2.LeaseRef] = (),
        resume_token: str = "",
        last_seq: int = 0,
        *,
        draining: bool = False,
    ) -> session_pb2.AgentFrame:
        """Returns the first frame of a stream."""
        hello = session_pb2.Hello(
            instance_id=self.instance_id,
            name=self.name or self.agent_id,
            capabilities=self.capabilities,
            labels=self.labels,
            max_concurrency=self.max_concurrency,
            build_id=self.build_id,
            sdk=SDK_NAME,
            in_flight=in_flight,
            resume_token=resume_token,
            last_seq=last_seq,
            draining=draining,
        )
        if self.cost_per_task or self.cost_per_kilotoken:
            hello.cost_hint.cost_per_task = self.cost_per_task
            hello.cost_hint.cost_per_kilotoken = self.cost_per_kilotoken
        return session_pb2.AgentFrame(agent_id=self.agent_id, hello=hello)

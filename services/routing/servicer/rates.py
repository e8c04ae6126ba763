"""How fast agents may say what is not about work they have: each by itself, and a stream in all.

Heartbeats, renewals, credits, replies, drains, Hellos, and what is about leases that are not held.
An agent that has a stream to itself is slowed down by not being read, and loses the stream when it
goes on. Beside others it costs them nothing: it is told so, and in the end its session is over.
"""

from __future__ import annotations

from collections.abc import Mapping

from services.kernel.errors import ResourceExhausted
from services.kernel.limits import TokenBucket
from services.routing.core.session import Stream, retry_s

frames_per_s_max = 50.0
"""For each agent, in the long run."""
frames_burst = 200.0
throttled_max = 10.0
"""Messages that came faster than that before a stream is closed; ten calm ones make up for one."""
told_s = 1.0
"""The shortest time between two refusals of an agent for its rate."""
agents_len_max = 5_000
"""Agents of a stream whose rates are remembered."""


class Rates:
    """What the agents of one stream have left."""

    def __init__(self) -> None:
        self._stream = TokenBucket(frames_per_s_max, frames_burst)
        self._throttled = 0.0
        self._agents: dict[str, TokenBucket] = {}
        self._told: dict[str, float] = {}

    def take(
        self, counts: Mapping[str, int], stream: Stream, now_s: float, replacing: int = 0
    ) -> tuple[float, list[str]]:
        """Count the frames of one message; return how long to wait, and who is to be refused.

        Of an agent that has others beside it no more counts for the stream than it may say: what
        one does must not slow the others, also after its own session has ended for it. Of agents
        that never said Hello all counts: there is no end to the ids that one may make up.

        Args:
            counts: Frames by agent.
            replacing: Hellos that took the place of agents which had said goodbye. Whatever ids
                they name, it is the stream that says them: each session costs the registry too.
            stream: The stream, with the agents that have a session on it or wait for one.
            now_s: The monotonic clock.

        Raises:
            ResourceExhausted: FRAME_RATE, the stream has been too fast for too long.
        """
        there, waiting = stream.agents, stream.waiting
        known, present = stream.greeted, len(there) + len(waiting)
        total, faults = 0.0, []
        for agent_id, count in counts.items():
            is_present = agent_id in there or agent_id in waiting
            if present == is_present or not (is_present or agent_id in known):
                total += count
            elif not self._of(agent_id).take(now_s, count):
                total += min(count, frames_burst)
            elif is_present and now_s - self._told.get(agent_id, -told_s) >= told_s:
                self._told[agent_id] = now_s
                faults.append(agent_id)
        agents = max(1, present, len(counts))
        return self._wait_s(total / agents + replacing / max(1, present), now_s), faults

    def _of(self, agent_id: str) -> TokenBucket:
        bucket = self._agents.get(agent_id)
        if bucket is None:
            if len(self._agents) >= agents_len_max:
                oldest = next(iter(self._agents))
                del self._agents[oldest]
                self._told.pop(oldest, None)
            bucket = self._agents[agent_id] = TokenBucket(frames_per_s_max, frames_burst)
        return bucket

    def _wait_s(self, count: float, now_s: float) -> float:
        wait_s = self._stream.take(now_s, count)
        if not wait_s:
            self._throttled = max(0.0, self._throttled - 0.1)
            return 0.0
        self._throttled += 1.0
        if self._throttled > throttled_max:
            raise ResourceExhausted(
                "FRAME_RATE",
                rate_message,
                metadata={"frames_per_s_max": f"{frames_per_s_max:g}"},
                retry_after_s=retry_s,
            )
        return min(wait_s, 1.0)


rate_message = f"More than {frames_per_s_max:g} frames a second that are not about work."

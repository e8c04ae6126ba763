"""The frames that wait for one stream: control before bulk, in order wherever order matters.

Assignments and settlements may wait behind megabytes of each other; probes, renewals, stops and
changed intervals do not wait for them. A frame overtakes only frames that name none of its leases,
and none that begins, ends or moves a session, so whoever reads sees each lease and each session
change in the order in which it did.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from podium.v1 import routing_pb2
from services.kernel import limits
from services.kernel.coalesce import Outbox
from services.kernel.errors import PodiumError
from services.routing.adapters.frames import Frames
from services.routing.core import effects
from services.routing.core.effects import LeaseKey, ToAgent
from services.routing.core.session import Stream

line_len_max = 16_384
stalled_len = 2_048
"""Frames that wait for a reader before its agents get nothing more."""
settle_patience_s = 0.2
"""How long the news that a result is kept may wait for other frames to its agent: to an agent on a
stream of its own it would be one message in three. Its slot is free already, and a router that
forgets is asked again on the next stream."""

urgent_priority = 6
"""Of tasks that wait for no others to leave with, as in the scheduler."""

CONTROL = frozenset(
    (
        effects.SendProbe,
        effects.SendRenewAck,
        effects.SendCancel,
        effects.SendRecall,
        effects.SendTune,
        effects.SendPace,
    )
)
FENCES = frozenset(
    (effects.SendReady, effects.SendSuperseded, effects.SendRefusal, effects.SendDrain)
)
"""What nothing overtakes: a session begins, ends or moves. What was offered before a drain is taken
along by its agent; it would have to be given to somebody else if the drain came first."""

Response = routing_pb2.OpenSessionResponse


class StreamLine:
    """One stream of agents."""

    def __init__(
        self, stream: Stream, frames: Frames, sent: Callable[[StreamLine, list[ToAgent]], None]
    ) -> None:
        """Begin empty.

        Args:
            stream: The stream, as the core knows it.
            frames: Builds what is sent.
            sent: Called with each batch when the transport has taken it.
        """
        self.stream = stream
        self.number = stream.number
        self.outbox: Outbox[ToAgent] = Outbox(
            queue_len_max=line_len_max, patience_s=settle_patience_s
        )
        self.error: PodiumError | None = None
        self.stalled = False
        self._frames = frames
        self._sent = sent
        self._fenced = False

    def put(self, effect: ToAgent, *, patient: bool = False) -> bool:
        """Queue a frame; return False, and drop it, when the line is full or closed."""
        kind = type(effect)
        if kind in CONTROL:
            return self.outbox.offer(effect, urgent=self._may_overtake(effect))
        if kind in FENCES:
            self._fenced = True
        prompt = isinstance(effect, effects.SendAssign) and effect.lease.priority >= urgent_priority
        return self.outbox.offer(effect, patient=patient, prompt=prompt)

    @property
    def is_behind(self) -> bool:
        """Whether so much waits for the reader that its agents get nothing more."""
        return self.stream.full or len(self.outbox) >= stalled_len

    async def send(self, write: Callable[[Response], Awaitable[None]]) -> None:
        """Write what is to be sent until the line is closed; raise why the core did, if it has."""
        while batch := await self.outbox.take():
            if not self.outbox.in_order:
                self._fenced = False
            for response in _parts(self._frames.response(batch)):
                await write(response)
            self._sent(self, batch)
        if self.error is not None:
            raise self.error

    def close(self) -> None:
        """Send what is queued and end."""
        self.outbox.close()

    def fail(self, error: PodiumError) -> None:
        """Send what is queued and end with an error."""
        self.error = self.error or error
        self.outbox.close()

    def _may_overtake(self, effect: ToAgent) -> bool:
        waiting = self.outbox.in_order
        if not waiting:
            return True
        if self._fenced:
            return False
        named = frozenset(_leases(effect))
        return not named or all(named.isdisjoint(_leases(earlier)) for earlier in waiting)


def _leases(effect: Any) -> tuple[LeaseKey, ...]:
    """Return the leases that a frame changes something about."""
    kind = type(effect)
    if kind is effects.SendAssign:
        return (effect.lease.key,)
    if kind is effects.SendResultAck or kind is effects.SendCancel:
        return ((effect.task_id, effect.epoch),)
    found: tuple[LeaseKey, ...] = ()
    if kind is effects.SendRecall:
        found = effect.leases
    elif kind is effects.SendRenewAck:
        found = effect.lost
    return found


def _parts(response: Response) -> Sequence[Response]:
    """Return a message, or several with its frames, in order, where payloads make it too large."""
    frames = response.frames
    if len(frames) == 1 or response.ByteSize() <= limits.stream_batch_bytes_max:
        return (response,)
    middle = len(frames) // 2
    halves = Response(frames=frames[:middle]), Response(frames=frames[middle:])
    return [part for half in halves for part in _parts(half)]

"""Acks that wait a moment for the results of their tasks, and are not sent when these come.

A result says all that its ack would have said, and a handler that computes something small has
returned before the stream has sent the ack: a frame less for each of its tasks, on both sides.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from podium.sdk.conversation import Outgoing
from podium.sdk.leases import Key
from podium.sdk.link import Link
from podium.v1.session_pb2 import AgentFrame

HOLD_S = 0.002


class HeldAcks:
    """The acks that have not left yet; they leave ahead of whatever leaves next."""

    def __init__(self) -> None:
        self._link: Link | None = None
        self._acks: dict[Key, AgentFrame] = {}

    def send(self, link: Link, items: Sequence[Outgoing], frames: Sequence[AgentFrame]) -> None:
        """Sends what agents say at once, or in a moment where it is only acks.

        Args:
            link: the stream.
            items: what they say.
            frames: how that is said, without what is not to be said any more.
        """
        acks = {key: frame for kind, key, frame in items if kind == "ack"}
        if len(acks) == len(items):
            said = {id(frame) for frame in frames}
            if left := {key: frame for key, frame in acks.items() if id(frame) in said}:
                self._hold(link, left)
            return
        if acks or self._acks:
            over = _over(items)
            for key in over & self._acks.keys():
                del self._acks[key]
            if spared := {id(acks[key]) for key in over & acks.keys()}:
                frames = [frame for frame in frames if id(frame) not in spared]
            self._release(link)
        link.outbox.extend(frames)

    def _hold(self, link: Link, acks: dict[Key, AgentFrame]) -> None:
        # Not for long: a handler may take its time, or hold its program up.
        if self._link is not link:
            # Those for another stream are told by the Hello of this one.
            self._link, self._acks = link, {}
        if not self._acks:
            asyncio.get_running_loop().call_later(HOLD_S, self._release, link)
        self._acks |= acks

    def _release(self, link: Link) -> None:
        if link is self._link and self._acks:
            acks, self._acks = self._acks, {}
            link.outbox.extend(acks.values())


def _over(items: Sequence[Outgoing]) -> set[Key]:
    """Returns the leases of which nothing is said but how they ended."""
    others = {key for kind, key, _ in items if kind not in ("ack", "result")}
    return {key for kind, key, _ in items if kind == "result" and key not in others}

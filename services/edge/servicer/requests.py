"""What clients ask: answered once, or again and again until they say stop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from podium.v1.bridge_pb2 import BridgeRequest, BridgeResponse, Unwatched
from services.edge.ports import Peers
from services.edge.servicer.feeds import Feeds, ended
from services.edge.servicer.refusal import refusal
from services.edge.servicer.wire import Wire
from services.kernel.clock import Clock
from services.kernel.errors import Internal, InvalidArgument, PodiumError, ResourceExhausted

log = logging.getLogger("podium.edge.requests")

ref_len_max = 64
asked_len_max = 32
"""Requests of one connection under way at once; it is not read from beyond that."""
watches_len_max = 32


class Requests:
    """Requests of all connections.

    Args:
        peers: who answers.
        clock: paces what the bridge samples itself.
        used: told the number of a connection that a watch has given something.
    """

    def __init__(self, peers: Peers, clock: Clock, used: Callable[[int], None]) -> None:
        self.feeds = Feeds(peers, clock)
        self._peers = peers
        self._used = used

    async def serve(self, wire: Wire, ref: str, arm: str, request: BridgeRequest) -> None:
        """Begin to answer.

        Raises:
            PodiumError: The request is refused.
        """
        if arm == "unwatch":
            await self._unwatch(wire, ref, request.unwatch.watch_ref)
        elif self.feeds.watches(arm):
            self._watch(wire, ref, arm, request)
        else:
            while len(wire.asked) >= asked_len_max:
                await asyncio.wait(wire.asked, return_when=asyncio.FIRST_COMPLETED)
            task = asyncio.create_task(self._ask(wire, ref, arm, request))
            wire.asked.add(task)
            task.add_done_callback(wire.asked.discard)

    async def _ask(self, wire: Wire, ref: str, arm: str, request: BridgeRequest) -> None:
        try:
            response = await self._peers.ask(arm, request, wire.visitor.token)
            response.ref = ref
        except PodiumError as error:
            response = refusal(ref, error, arm)
        except Exception:
            log.exception("a request failed unexpectedly", extra={"arm": arm})
            response = refusal(ref, _internal())
        await wire.answer(response)

    def _watch(self, wire: Wire, ref: str, arm: str, request: BridgeRequest) -> None:
        if ref in wire.watches:
            raise InvalidArgument("WATCH_REPEATED", f"A watch with the ref {ref!r} is open.")
        if len(wire.watches) >= watches_len_max:
            raise ResourceExhausted(
                "TOO_MANY_WATCHES", f"A connection has at most {watches_len_max} watches."
            )
        task = asyncio.create_task(self._follow(wire, ref, arm, request))
        wire.watches[ref] = task

    async def _follow(self, wire: Wire, ref: str, arm: str, request: BridgeRequest) -> None:
        """Pass on what a watch brings; it ends with an error, since it has no end of its own."""
        error: PodiumError = ended()
        try:
            async for update in self.feeds.follow(arm, request, wire.visitor.token):
                await wire.update(ref, update)
                self._used(wire.number)
        except PodiumError as raised:
            error = raised
        except Exception:
            log.exception("a watch failed unexpectedly", extra={"arm": arm})
            error = _internal()
        wire.watches.pop(ref, None)
        await wire.answer(refusal(ref, error, arm))

    async def _unwatch(self, wire: Wire, ref: str, watch_ref: str) -> None:
        task = wire.watches.pop(watch_ref, None)
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            wire.forget(watch_ref)
        unwatched = Unwatched(watch_ref=watch_ref)
        await wire.answer(BridgeResponse(ref=ref, unwatched=unwatched))


def check_ref(ref: str, arm: str) -> None:
    """Check that a message asks for something and can be answered.

    Raises:
        InvalidArgument: REQUEST_MISSING or INVALID_FIELD.
    """
    if not arm:
        raise InvalidArgument("REQUEST_MISSING", "The message asks for nothing: set one request.")
    if not 0 < len(ref) <= ref_len_max:
        raise InvalidArgument("INVALID_FIELD", f"ref must be 1 to {ref_len_max} characters.")


def _internal() -> Internal:
    return Internal("INTERNAL", "internal error")

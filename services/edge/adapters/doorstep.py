"""Connections that have asked for nothing yet: a place at the door is not for ever."""

from __future__ import annotations

from aiohttp import web
from aiohttp.typedefs import Handler

from services.kernel.clock import Clock

waiting_len_max = 256
"""Connections without a request at once; the oldest go beyond it."""


class Doorstep:
    """Closes connections that open and then say nothing, or say their request too slowly.

    The HTTP server waits for a first request as long as its peer likes; a few thousand of such
    connections are all that a process can have.
    """

    def __init__(self, clock: Clock, wait_s: float) -> None:
        self._clock = clock
        self._wait_s = wait_s
        self._served: set[object] = set()
        self._since_s: dict[web.RequestHandler, float] = {}
        self.turned_away = 0

    @web.middleware
    async def pass_on(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Note that a connection has asked for something."""
        self._served.add(request.protocol)
        return await handler(request)

    def sweep(self, server: web.Server) -> None:
        """Close what has waited too long, and the oldest where too many wait."""
        now_s = self._clock.now().mono_s
        connections = server.connections
        self._served.intersection_update(connections)
        waiting = [each for each in connections if each not in self._served]
        self._since_s = {each: self._since_s.get(each, now_s) for each in waiting}
        oldest_first = sorted(waiting, key=self._since_s.__getitem__)
        too_many = len(waiting) - waiting_len_max
        for index, connection in enumerate(oldest_first):
            if index < too_many or now_s - self._since_s[connection] >= self._wait_s:
                self.turned_away += 1
                connection.force_close()

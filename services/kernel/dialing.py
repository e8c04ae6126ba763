# ruff: noqa: D102  (the classes of grpc.aio describe the methods implemented here)
"""Channels to peers, showing this service's own token where callers are checked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from services.kernel.clock import Clock
from services.kernel.config import Common
from services.kernel.options import Dial, dial

token_check_s = 1.0


def dialer(settings: Common, clock: Clock, through: Dial = dial) -> Dial:
    """Return what gives this service its channels, made by `through`."""
    if not settings.auth_token_file:
        return through
    token = TokenFile(Path(settings.auth_token_file), clock)
    return lambda address: BearerChannel(through(address), token.read)


class TokenFile:
    """A token in a file that somebody renews; looked at again at most once a second."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._token = ""
        self._checked_s = float("-inf")

    def read(self) -> str:
        """Return the token as it is now; the last one while the file cannot be read."""
        now_s = self._clock.now().mono_s
        if now_s - self._checked_s >= token_check_s:
            self._checked_s = now_s
            try:
                self._token = self._path.read_text().strip()
            except OSError:
                pass
        return self._token


class BearerChannel(grpc.aio.Channel):
    """A channel whose every call carries a token.

    A wrapper and not a client interceptor: an interceptor puts a queue and a task into every
    stream, on the path of each task.
    """

    def __init__(self, channel: grpc.aio.Channel, token: Callable[[], str]) -> None:
        self._channel = channel
        self._token = token

    async def __aenter__(self) -> BearerChannel:
        await self._channel.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._channel.__aexit__(*error)

    async def close(self, grace: float | None = None) -> None:
        await self._channel.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        return self._channel.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        await self._channel.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        await self._channel.channel_ready()

    def unary_unary(self, *args: Any, **kwargs: Any) -> Any:
        return self._bearing(self._channel.unary_unary(*args, **kwargs))

    def unary_stream(self, *args: Any, **kwargs: Any) -> Any:
        return self._bearing(self._channel.unary_stream(*args, **kwargs))

    def stream_unary(self, *args: Any, **kwargs: Any) -> Any:
        return self._bearing(self._channel.stream_unary(*args, **kwargs))

    def stream_stream(self, *args: Any, **kwargs: Any) -> Any:
        return self._bearing(self._channel.stream_stream(*args, **kwargs))

    def _bearing(self, callable_: Any) -> Any:
        def call(*args: Any, metadata: Any = None, **kwargs: Any) -> Any:
            shown = tuple(metadata or ())
            # A call on behalf of somebody shows that somebody's token, and two are refused.
            if all(key != "authorization" for key, _ in shown):
                shown = (*shown, ("authorization", f"Bearer {self._token()}"))
            return callable_(*args, metadata=shown, **kwargs)

        return call

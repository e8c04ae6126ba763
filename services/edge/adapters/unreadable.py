"""Requests that cannot be read: each is answered by the status that says what is wrong with it."""

from __future__ import annotations

from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import BadHttpMessage, LineTooLong

line_bytes_max = 8_000
field_bytes_max = 8_190
fields_len_max = 128

_SENTENCES = {
    400: "This is no HTTP request.\n",
    414: f"The address is longer than {line_bytes_max} bytes.\n",
    431: f"Send at most {fields_len_max} headers of at most {field_bytes_max} bytes.\n",
}


def status_of(fault: BadHttpMessage) -> int:
    """Return the status for what the parser has found."""
    if isinstance(fault, LineTooLong):
        # The parser names the limit, and not whose it is: so no two limits are the same.
        return 414 if fault.args[1] == line_bytes_max else 431
    return 431 if str(fault.args[0]).startswith("Too many headers") else 400


class _Reader(web.RequestHandler):
    """One connection. What the library says of bad bytes repeats them; a sentence of ours does."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if isinstance(exc, BadHttpMessage):
            status = status_of(exc)
            message = _SENTENCES[status]
        return super().handle_error(request, status, exc, message)


class _Server(web.Server):
    def __call__(self) -> web.RequestHandler:
        return _Reader(self, loop=self._loop, **self._kwargs)


class Runner(web.AppRunner):
    """Runs an application that answers for its parser too."""

    def __init__(self, app: web.Application, **options: Any) -> None:
        super().__init__(
            app,
            max_line_size=line_bytes_max,
            max_field_size=field_bytes_max,
            max_headers=fields_len_max,
            **options,
        )

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        # The library has no seam for the class of connections; that this one works is tested.
        return _Server(
            made.request_handler,
            request_factory=made.request_factory,
            loop=made._loop,
            **made._kwargs,
        )

"""The handshake: everything a connection must get right before it is one."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import NamedTuple

from aiohttp import HttpVersion11, WSCloseCode, hdrs, web

from services.edge.core.origins import Origins
from services.edge.ports import Door, Identity
from services.kernel.errors import Unauthenticated

log = logging.getLogger("podium.edge.handshake")

bearer_prefix = "podium.bearer."
"""A subprotocol entry that carries the token, where a browser cannot set a header."""


frame_bytes_max = 512 * 1024
"""One message either way from a browser: a payload of 256 KiB in base64 and what is around it."""
close_s = 2.0


class Visitor(NamedTuple):
    """Who connects."""

    token: str
    """What it has shown; empty for nothing."""
    identity: Identity
    subprotocol: str
    """What it speaks: the first that it offers of those that the bridge knows."""
    address: str
    """Its IP address, or that of the balancer before it."""

    @property
    def caller(self) -> str:
        """Whose connections are counted together."""
        return f"token {self.identity.principal.subject}" if self.token else self.address


class HTTPUpgradeRequired(web.HTTPClientError):
    """426: this address speaks WebSocket alone."""

    status_code = 426


def check(
    request: web.Request, origins: Origins, door: Door, subprotocols: Sequence[str]
) -> Visitor:
    """Return who connects.

    Raises:
        web.HTTPException: 400, 401, 403, 426 or 505 with a sentence saying what to do.
    """
    headers = request.headers
    if request.version < HttpVersion11:
        raise web.HTTPVersionNotSupported(text="WebSocket begins with HTTP/1.1.")
    if headers.get(hdrs.UPGRADE, "").strip().lower() != "websocket":
        raise HTTPUpgradeRequired(
            text="This address speaks WebSocket: send Upgrade: websocket.",
            headers={hdrs.UPGRADE: "websocket"},
        )
    if headers.get(hdrs.SEC_WEBSOCKET_VERSION, "").strip() != "13":
        raise web.HTTPBadRequest(text="Use Sec-WebSocket-Version: 13.")
    found = headers.getall(hdrs.ORIGIN, [])
    if len(found) > 1:
        raise web.HTTPBadRequest(text="Send one Origin.")
    if not origins.allows(found, headers.get(hdrs.HOST, "")):
        raise web.HTTPForbidden(text="This origin may not connect: see PODIUM_EDGE_ORIGINS.")
    if any(name in request.query for name in ("token", "access_token", "authorization")):
        # Addresses end up in logs: who sends tokens there has to know, and this log not the token.
        log.warning("A token in an address was refused.", extra={"peer": request.remote or ""})
        raise web.HTTPBadRequest(
            text=f"Tokens are no part of the address: offer {bearer_prefix}<token> as subprotocol."
        )
    offered = [
        entry.strip()
        for value in headers.getall(hdrs.SEC_WEBSOCKET_PROTOCOL, [])
        for entry in value.split(",")
    ]
    subprotocol = next((name for name in offered if name in subprotocols), "")
    if not subprotocol:
        raise web.HTTPBadRequest(text=f"Offer the subprotocol {' or '.join(subprotocols)}.")
    token = _token(headers.getall(hdrs.AUTHORIZATION, []), offered)
    try:
        return Visitor(token, door.identify(token), subprotocol, request.remote or "")
    except Unauthenticated as error:
        raise web.HTTPUnauthorized(text=error.message) from None


def unopened(*subprotocols: str) -> web.WebSocketResponse:
    """Return a WebSocket with the bridge's limits, to be prepared."""
    return web.WebSocketResponse(
        timeout=close_s,
        autoping=False,
        autoclose=False,
        protocols=subprotocols,
        compress=False,
        max_msg_size=frame_bytes_max,
        writer_limit=64 * 1024,
    )


async def answer_close(socket: web.WebSocketResponse, code: int | None) -> None:
    """Answer the close of a peer with its own code.

    1006 says that there was no close: on the wire it is an error (RFC 6455, 7.4.1).
    """
    if code == WSCloseCode.ABNORMAL_CLOSURE:
        code = WSCloseCode.PROTOCOL_ERROR
    # What waits is for a peer that reads no more.
    await socket.close(code=code or WSCloseCode.OK, drain=False)


def _token(authorizations: list[str], offered: list[str]) -> str:
    tokens = [
        entry.removeprefix(bearer_prefix) for entry in offered if entry.startswith(bearer_prefix)
    ]
    for value in authorizations:
        scheme, _, token = value.strip().partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise web.HTTPUnauthorized(text="Use Authorization: Bearer <token>.")
        tokens.append(token.strip())
    if len(tokens) > 1:
        raise web.HTTPUnauthorized(text="Show one token.")
    return tokens[0] if tokens else ""

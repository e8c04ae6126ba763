"""The handshake: everything a connection must get right before it is one."""

from __future__ import annotations

from typing import NamedTuple

from aiohttp import hdrs, web

from services.edge.core.origins import Origins
from services.edge.ports import Door, Identity
from services.kernel.errors import Unauthenticated

bearer_prefix = "podium.bearer."
"""A subprotocol entry that carries the token, where a browser cannot set a header."""


class Visitor(NamedTuple):
    """Who connects."""

    token: str
    """What it has shown; empty for nothing."""
    identity: Identity


class HTTPUpgradeRequired(web.HTTPClientError):
    """426: this address speaks WebSocket alone."""

    status_code = 426


def check(request: web.Request, origins: Origins, door: Door, subprotocol: str) -> Visitor:
    """Return who connects.

    Raises:
        web.HTTPException: 400, 401, 403 or 426 with a sentence saying what to do.
    """
    headers = request.headers
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
        # Addresses end up in logs.
        raise web.HTTPBadRequest(
            text=f"Tokens are no part of the address: offer {bearer_prefix}<token> as subprotocol."
        )
    offered = [
        entry.strip()
        for value in headers.getall(hdrs.SEC_WEBSOCKET_PROTOCOL, [])
        for entry in value.split(",")
    ]
    if subprotocol not in offered:
        raise web.HTTPBadRequest(text=f"Offer the subprotocol {subprotocol}.")
    token = _token(headers.getall(hdrs.AUTHORIZATION, []), offered)
    try:
        return Visitor(token, door.identify(token))
    except Unauthenticated as error:
        raise web.HTTPUnauthorized(text=error.message) from None


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

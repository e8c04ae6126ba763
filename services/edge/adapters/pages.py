"""The HTTP side: the dashboard's files, health, metrics, and the headers that every answer has."""

from __future__ import annotations

import gzip
import hashlib
import logging
import mimetypes
from collections.abc import Callable, Collection
from pathlib import Path
from typing import NamedTuple

from aiohttp import hdrs, web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.typedefs import Handler, Middleware
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from services.edge.adapters.doorstep import Doorstep
from services.edge.core.origins import Origins

static_dir = Path(__file__).resolve().parents[1] / "static"

_HEADERS = {
    # Agents and clients write names, messages and results; none of it may ever run.
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; "
        "form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
_COMPRESSED = frozenset({".css", ".html", ".js", ".json", ".svg", ".txt"})


def http_log() -> logging.Logger:
    """Return the log of the HTTP server, without the tracebacks of requests that are none.

    Anybody can send bytes that are not HTTP, so they must not fill the log.
    """
    log = logging.getLogger("podium.edge.http")
    log.addFilter(_is_ours)
    return log


def _is_ours(record: logging.LogRecord) -> bool:
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


class _File(NamedTuple):
    body: bytes
    packed: bytes
    """Compressed; empty where that does not pay."""
    content_type: str
    cache: str
    tag: str
    """Of the content, for a browser that has it already."""


class Files:
    """The dashboard, read once: what is not in this table does not exist, whatever its path."""

    def __init__(self, folder: Path = static_dir) -> None:
        self._files: dict[str, _File] = {}
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self._files[path.relative_to(folder).as_posix()] = _read(path)

    def __len__(self) -> int:
        return len(self._files)

    async def serve(self, request: web.Request) -> web.Response:
        """Answer with one file; a folder is its index.html."""
        path = request.path[1:]
        if not path or path.endswith("/"):
            path += "index.html"
        file = self._files.get(path)
        if file is None:
            raise web.HTTPNotFound(text="There is no such page.")
        headers = {
            hdrs.CACHE_CONTROL: file.cache,
            hdrs.CONTENT_TYPE: file.content_type,
            hdrs.ETAG: file.tag,
        }
        if request.headers.get(hdrs.IF_NONE_MATCH) == file.tag:
            return web.Response(status=304, headers=headers)
        if file.packed and "gzip" in request.headers.get(hdrs.ACCEPT_ENCODING, ""):
            headers |= {hdrs.CONTENT_ENCODING: "gzip", hdrs.VARY: hdrs.ACCEPT_ENCODING}
            return web.Response(body=file.packed, headers=headers)
        return web.Response(body=file.body, headers=headers)


def _read(path: Path) -> _File:
    body = path.read_bytes()
    compressed = path.suffix in _COMPRESSED
    content_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    if content_type.startswith("text/"):
        content_type += "; charset=utf-8"
    # Built files carry a hash of their content in their names; the others may change any time.
    hashed = path.parent.name == "assets"
    cache = "public, max-age=31536000, immutable" if hashed else "no-cache"
    packed = gzip.compress(body, 9, mtime=0) if compressed and len(body) > 512 else b""
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    return _File(body, packed, content_type, cache, tag)


def application(
    bridge: Handler,
    files: Files,
    registry: CollectorRegistry,
    ready: Callable[[], str],
    origins: Origins,
    doorstep: Doorstep,
) -> web.Application:
    """Return the HTTP application around the bridge."""

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="alive\n")

    async def readyz(_: web.Request) -> web.Response:
        reason = ready()
        return web.Response(text=f"{reason or 'ready'}\n", status=503 if reason else 200)

    async def metrics(_: web.Request) -> web.Response:
        body = generate_latest(registry)
        return web.Response(body=body, headers={hdrs.CONTENT_TYPE: CONTENT_TYPE_LATEST})

    known = _known_hosts(origins, exempt=("/healthz", "/readyz", "/metrics"))
    app = web.Application(middlewares=[doorstep.pass_on, known], client_max_size=16 * 1024)
    app.on_response_prepare.append(_add_headers)
    app.router.add_get("/ws", bridge, allow_head=False)
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", metrics)
    app.router.add_get("/{path:.*}", files.serve)
    return app


def _known_hosts(origins: Origins, exempt: Collection[str]) -> Middleware:
    """Return the check that a request names this server, not a name made to point at it.

    Probes and scrapers address a pod by its number.
    """

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path not in exempt:
            hosts = request.headers.getall(hdrs.HOST, [])
            if len(hosts) != 1 or not origins.knows_host(hosts[0]):
                raise web.HTTPMisdirectedRequest(
                    text="This server is not known by that name: see PODIUM_EDGE_HOSTS."
                )
        return await handler(request)

    return check


async def _add_headers(_: web.Request, response: web.StreamResponse) -> None:
    response.headers[hdrs.SERVER] = "podium"
    if response.status != 101:
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)

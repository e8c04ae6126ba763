"""A real HTTP server on loopback that speaks the chat completions API as a test tells it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from podium.sdk.completions import Endpoint

Behave = Callable[["FakeModel", web.Request, dict[str, Any]], Awaitable[web.StreamResponse]]


class FakeModel:
    """Notes requests and answers each as `behave` says."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.behave: Behave = saying("Hel", "lo ", "world")
        self.closed = asyncio.Event()
        self.proceed = asyncio.Event()
        self.written_bytes = 0
        """Of what has no end."""

    async def serve(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.requests.append(body)
        self.keys.append(request.headers.get("Authorization", ""))
        try:
            return await self.behave(self, request, body)
        except (asyncio.CancelledError, ConnectionResetError):
            self.closed.set()
            raise


def chunk(text: str = "", *, finish: str | None = None, **extra: Any) -> bytes:
    choice = {"index": 0, "delta": {"content": text} if text else {}, "finish_reason": finish}
    body = {"object": "chat.completion.chunk", "choices": [choice], **extra}
    return b"data: " + json.dumps(body, ensure_ascii=False).encode() + b"\n\n"


def usage(read: int, written: int) -> bytes:
    told = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
    return b"data: " + json.dumps({"choices": [], "usage": told}).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"


def sending(*parts: bytes) -> Behave:
    """Sends these bytes as an event stream."""

    async def behave(
        model: FakeModel, request: web.Request, body: dict[str, Any]
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for part in parts:
            await response.write(part)
        await response.write_eof()
        return response

    return behave


def saying(*pieces: str, read: int = 11, written: int = 3) -> Behave:
    """Sends an answer as a model does."""
    chunks = [chunk(piece) for piece in pieces]
    return sending(*chunks, chunk(finish="stop"), usage(read, written), DONE)


def refusing(status: int, body: Any, **headers: str) -> Behave:
    """Answers with an error."""

    async def behave(
        model: FakeModel, request: web.Request, given: dict[str, Any]
    ) -> web.StreamResponse:
        if isinstance(body, str):
            return web.Response(status=status, text=body, headers=headers)
        return web.json_response(body, status=status, headers=headers)

    return behave


def endless(part: bytes, *, pause_s: float = 0.0) -> Behave:
    """Sends the same again and again, until the connection is closed."""

    async def behave(
        model: FakeModel, request: web.Request, body: dict[str, Any]
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        while True:
            await response.write(part)
            model.written_bytes += len(part)
            await asyncio.sleep(pause_s)

    return behave


async def hanging(
    model: FakeModel, request: web.Request, body: dict[str, Any]
) -> web.StreamResponse:
    """Begins to answer and then says nothing until it is told to go on."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    await response.write(chunk("Hel"))
    await model.proceed.wait()
    await response.write(chunk("lo", finish="stop") + DONE)
    return response


async def breaking(
    model: FakeModel, request: web.Request, body: dict[str, Any]
) -> web.StreamResponse:
    """Breaks the connection in the middle of an answer."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    response.enable_chunked_encoding()
    await response.prepare(request)
    await response.write(chunk("Hel"))
    assert request.transport is not None
    request.transport.abort()
    return response


@asynccontextmanager
async def serving(model: FakeModel, **settings: Any) -> AsyncIterator[Endpoint]:
    """Serves it; yields where it is."""
    app = web.Application()
    app.router.add_post("/v1/chat/completions", model.serve)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        yield Endpoint(f"http://127.0.0.1:{port}/v1", api_key="secret", **settings)
    finally:
        model.proceed.set()
        await runner.cleanup()

"""The reference of the edge bench: an aiohttp WebSocket that sends back what it gets."""

from __future__ import annotations

import asyncio

import uvloop
from aiohttp import WSMsgType, web


async def handle(request: web.Request) -> web.WebSocketResponse:
    """Send every message back until the peer goes."""
    socket = web.WebSocketResponse(compress=False)
    await socket.prepare(request)
    async for message in socket:
        if message.type is WSMsgType.TEXT:
            await socket.send_str(message.data)
    return socket


async def serve() -> None:
    """Serve on a free port until killed, and tell which."""
    app = web.Application()
    app.router.add_get("/ws", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=1_024).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve())

"""WebSocket clients of the edge bench: as small as can be, so that what is measured is the server.

Run as a process of its own it measures one thing and prints one line of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import uvloop

from tests.bench.machine import cpu_seconds
from tests.bench.workload import percentile

PING = b'{"ref":"1","ping":{}}'
WATCH = b'{"ref":"w","watch":{"taskIds":["t"],"cursor":"0"}}'
# What an open dashboard asks for: clients/web/src/app/store.ts.
DASHBOARD = (
    b'{"ref":"a","watchAgents":{"minInterval":"1s"}}',
    b'{"ref":"s","watchWindows":{"window":"10s","count":60,"updateInterval":"1s",'
    b'"omitTypes":true,"omitAgents":true}}',
    b'{"ref":"l","watchWindows":{"window":"300s","count":2,"updateInterval":"5s",'
    b'"omitAgents":true}}',
    b'{"ref":"o","watchOverview":{}}',
)
settle_s = 1.5
"""After the first connections: what is compiled on first use is paid for."""


def masked(payload: bytes) -> bytes:
    """Return a text frame as a client sends it, under the mask that changes nothing."""
    length = len(payload)
    head = bytes([0x80 | length]) if length < 126 else b"\xfe" + length.to_bytes(2, "big")
    return b"\x81" + head + bytes(4) + payload


class Visitor(asyncio.Protocol):
    """One connection. Frames that come are handed to `heard`."""

    def __init__(self, subprotocol: str) -> None:
        loop = asyncio.get_running_loop()
        self._subprotocol = subprotocol
        self._buffer = bytearray()
        self._open = False
        self.opened: asyncio.Future[None] = loop.create_future()
        self.lost: asyncio.Future[None] = loop.create_future()
        self.heard: Callable[[bytes], None] = _nothing
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        """Ask for the upgrade."""
        self.transport = transport
        offered = f"Sec-WebSocket-Protocol: {self._subprotocol}\r\n" if self._subprotocol else ""
        transport.write(
            b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" + offered.encode() + b"\r\n"
        )

    def connection_lost(self, error: Exception | None) -> None:
        """Note the end."""
        self.lost.set_result(None)

    def say(self, *messages: bytes) -> None:
        """Send messages."""
        self.transport.write(b"".join(map(masked, messages)))

    def data_received(self, data: bytes) -> None:
        """Cut the stream into frames."""
        buffer = self._buffer
        buffer += data
        if not self._open:
            head, found, _ = buffer.partition(b"\r\n\r\n")
            if not found:
                return
            assert b" 101 " in head, head
            del buffer[: len(head) + 4]
            self._open = True
            self.opened.set_result(None)
        while len(buffer) >= 2:
            length, start = buffer[1], 2
            if length == 126:
                length, start = int.from_bytes(buffer[2:4], "big"), 4
            elif length == 127:
                length, start = int.from_bytes(buffer[2:10], "big"), 10
            if len(buffer) < start + length:
                return
            kind, payload = buffer[0] & 0x0F, bytes(buffer[start : start + length])
            del buffer[: start + length]
            if kind == 9:
                self.transport.write(b"\x8a" + bytes([0x80 | length]) + bytes(4) + payload)
            elif kind == 1:
                self.heard(payload)


def _nothing(_: bytes) -> None:
    """Hear it and do nothing."""


async def connected(port: int, count: int, subprotocol: str) -> list[Visitor]:
    """Return so many connections that are open."""
    loop = asyncio.get_running_loop()
    found: list[Visitor] = []
    for _ in range(count):
        _, visitor = await loop.create_connection(lambda: Visitor(subprotocol), "127.0.0.1", port)
        found.append(visitor)
        await visitor.opened
    await asyncio.sleep(settle_s)
    return found


async def saturate(visitors: list[Visitor], seconds: float, server: int) -> dict[str, Any]:
    """Let each ask again as soon as it is answered."""
    count = 0
    frame = masked(PING)
    cpu_s, end_s = cpu_seconds(server), time.perf_counter() + seconds
    for visitor in visitors:

        def again(_: bytes, visitor: Visitor = visitor) -> None:
            nonlocal count
            count += 1
            if time.perf_counter() < end_s:
                visitor.transport.write(frame)

        visitor.heard = again
        visitor.transport.write(frame)
    await asyncio.sleep(seconds + 0.3)
    return {"count": count, "seconds": seconds, "cpu_s": cpu_seconds(server) - cpu_s}


async def pace(visitors: list[Visitor], rate: float, seconds: float) -> dict[str, Any]:
    """Ask at a rate, by turns; answers are timed from when the question was due."""
    frame = masked(PING)
    took_ms: list[float] = []
    dues: list[list[float]] = [[] for _ in visitors]
    for visitor, its in zip(visitors, dues, strict=True):

        def answered(_: bytes, its: list[float] = its) -> None:
            if its:
                took_ms.append((time.perf_counter() - its.pop(0)) * 1e3)

        visitor.heard = answered
    began_s = time.perf_counter()
    for number in range(int(rate * seconds)):
        due_s = began_s + number / rate
        wait_s = due_s - time.perf_counter()
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        index = number % len(visitors)
        dues[index].append(due_s)
        visitors[index].transport.write(frame)
    await asyncio.sleep(0.5)
    found = {f"p{share}_ms": percentile(took_ms, share / 100) for share in (50, 90, 99)}
    return found | {"asked": int(rate * seconds), "answered": len(took_ms)}


async def beside(port: int, visitors: list[Visitor], options: Any) -> dict[str, Any]:
    """Pace the visitors while one more has a watch of large events, and reads it or does not."""
    loop = asyncio.get_running_loop()
    end = socket.create_connection(("127.0.0.1", port))
    end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
    end.setblocking(False)
    _, watcher = await loop.create_connection(lambda: Visitor(options.subprotocol), sock=end)
    await watcher.opened
    began_s = time.monotonic()
    watcher.say(WATCH)
    if options.what == "stalled":
        watcher.transport.pause_reading()
    return await pace(visitors, options.rate, options.seconds) | {"began_s": began_s}


async def dashboards(visitors: list[Visitor], seconds: float) -> dict[str, Any]:
    """Be open dashboards: how often they hear, how much, and how far apart the same news comes."""
    heard: dict[bytes, list[float]] = {}
    gaps_s: list[float] = []
    counts = {"updates": 0, "bytes": 0}
    recording = False
    for visitor in visitors:
        last_s: dict[bytes, float] = {}

        def hear(payload: bytes, last_s: dict[bytes, float] = last_s) -> None:
            at_s, ref = time.perf_counter(), payload[7:10]
            if not recording:
                return
            assert b'"error"' not in payload[:32], payload
            counts["updates"] += 1
            counts["bytes"] += len(payload)
            if ref == b'"s"':
                heard.setdefault(payload, []).append(at_s)
                if ref in last_s:
                    gaps_s.append(at_s - last_s[ref])
                last_s[ref] = at_s

        visitor.heard = hear
        visitor.say(*DASHBOARD)
    await asyncio.sleep(settle_s)
    recording = True
    await asyncio.sleep(seconds)
    spreads_ms = [(max(each) - min(each)) * 1e3 for each in heard.values() if len(each) > 1]
    return {
        "updates_per_s": counts["updates"] / seconds / len(visitors),
        "kb_per_s": counts["bytes"] / seconds / len(visitors) / 1e3,
        "readers": statistics.median(len(each) for each in heard.values()) if heard else 0,
        "gap_p50_s": percentile(gaps_s, 0.5),
        "gap_p99_s": percentile(gaps_s, 0.99),
        "spread_p50_ms": percentile(spreads_ms, 0.5),
        "spread_p99_ms": percentile(spreads_ms, 0.99),
    }


async def idle() -> dict[str, Any]:
    """Say that all are open, and stay until told to go."""
    print("open", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    return {}


async def main() -> None:
    """Measure what the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument(
        "what", choices=["saturate", "pace", "stalled", "reading", "dashboards", "idle"]
    )
    parser.add_argument("--count", type=int, default=100, help="connections")
    parser.add_argument("--rate", type=float, default=1_000, help="questions a second, of all")
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--subprotocol", default="", help="to offer; none to the bare echo")
    parser.add_argument("--server", type=int, default=0, help="process whose CPU time counts")
    options = parser.parse_args()
    visitors = await connected(options.port, options.count, options.subprotocol)
    if options.what == "saturate":
        found = await saturate(visitors, options.seconds, options.server)
    elif options.what == "pace":
        found = await pace(visitors, options.rate, options.seconds)
    elif options.what == "dashboards":
        found = await dashboards(visitors, options.seconds)
    elif options.what == "idle":
        found = await idle()
    else:
        found = await beside(options.port, visitors, options)
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    uvloop.run(main())

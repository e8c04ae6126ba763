"""WebSocket clients of the edge bench: as small as can be, so that what is measured is the server.

Run as a process of its own it measures one thing and prints one line of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
from typing import Any

import uvloop

PING = b'{"ref":"1","ping":{}}'


def masked(payload: bytes) -> bytes:
    """Return a text frame as a client sends it, under the mask that changes nothing."""
    length = len(payload)
    head = bytes([0x80 | length]) if length < 126 else b"\xfe" + length.to_bytes(2, "big")
    return b"\x81" + head + bytes(4) + payload


class Visitor(asyncio.Protocol):
    """One connection. Frames that come are counted and handed to `heard`."""

    def __init__(self, subprotocol: str) -> None:
        self._subprotocol = subprotocol
        self._buffer = b""
        self._open = False
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.heard: Any = None
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

    def data_received(self, data: bytes) -> None:
        """Cut the stream into frames."""
        buffer = self._buffer + data
        if not self._open:
            head, found, buffer = buffer.partition(b"\r\n\r\n")
            if not found:
                self._buffer = head
                return
            assert b" 101 " in head, head
            self._open = True
            self.opened.set_result(None)
        while len(buffer) >= 2:
            length, start = buffer[1], 2
            if length == 126:
                length, start = int.from_bytes(buffer[2:4], "big"), 4
            elif length == 127:
                length, start = int.from_bytes(buffer[2:10], "big"), 10
            if len(buffer) < start + length or (start > 2 and len(buffer) < start):
                break
            kind, payload = buffer[0] & 0x0F, buffer[start : start + length]
            buffer = buffer[start + length :]
            if kind == 9:
                self.transport.write(b"\x8a" + bytes([0x80 | length]) + bytes(4) + payload)
            elif self.heard is not None:
                self.heard(payload)
        self._buffer = buffer


async def connected(port: int, count: int, subprotocol: str) -> list[Visitor]:
    """Return so many connections that are open."""
    loop = asyncio.get_running_loop()
    found: list[Visitor] = []
    for _ in range(count):
        _, visitor = await loop.create_connection(lambda: Visitor(subprotocol), "127.0.0.1", port)
        found.append(visitor)
        await visitor.opened
    await asyncio.sleep(0.2)
    return found


async def saturate(visitors: list[Visitor], seconds: float) -> dict[str, Any]:
    """Let each ask again as soon as it is answered."""
    count = 0
    frame = masked(PING)
    end_s = time.perf_counter() + seconds
    for visitor in visitors:

        def again(_: bytes, visitor: Visitor = visitor) -> None:
            nonlocal count
            count += 1
            if time.perf_counter() < end_s:
                visitor.transport.write(frame)

        visitor.heard = again
        visitor.transport.write(frame)
    await asyncio.sleep(seconds + 0.3)
    return {"count": count, "seconds": seconds}


async def pace(visitors: list[Visitor], rate: float, seconds: float) -> dict[str, Any]:
    """Ask at a rate, by turns; answers are timed from when the question was due."""
    frame = masked(PING)
    took_ms: list[float] = []
    dues: dict[int, list[float]] = {}
    for index, visitor in enumerate(visitors):
        dues[index] = []

        def answered(_: bytes, index: int = index) -> None:
            if dues[index]:
                took_ms.append((time.perf_counter() - dues[index].pop(0)) * 1e3)

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
    took_ms.sort()
    asked = int(rate * seconds)
    return {"asked": asked, "answered": len(took_ms), "took_ms": quantiles(took_ms)}


def quantiles(ordered: list[float]) -> dict[str, float]:
    """Return the quantiles that are printed."""
    last = len(ordered) - 1
    if last < 0:
        return {}
    return {f"p{q}": round(ordered[round(last * q / 100)], 3) for q in (50, 90, 99)}


async def main() -> None:
    """Measure what the arguments say."""
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("what", choices=["saturate", "pace", "idle"])
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--rate", type=float, default=1_000)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--subprotocol", default="")
    parser.add_argument("--server", type=int, default=0)
    arguments = parser.parse_args()
    visitors = await connected(arguments.port, arguments.count, arguments.subprotocol)
    cpu = cpu_s(arguments.server)
    if arguments.what == "saturate":
        found = await saturate(visitors, arguments.seconds)
    elif arguments.what == "pace":
        found = await pace(visitors, arguments.rate, arguments.seconds)
    else:
        await asyncio.sleep(arguments.seconds)
        found = {}
    print(json.dumps(found | {"cpu_s": cpu_s(arguments.server) - cpu}), flush=True)


def cpu_s(pid: int) -> float:
    """Return the CPU time of a process so far."""
    if not pid:
        return 0.0
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    uvloop.run(main())

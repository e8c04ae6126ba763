"""The toy as a service of its own process, with faults to order."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc

from services.kernel import telemetry
from services.kernel.clock import Clock
from services.kernel.config import Common, setting
from services.kernel.errors import FailedPrecondition
from services.kernel.options import Dial
from services.kernel.parsers import as_port
from services.kernel.serving import Assembled, ServiceSpec, main, main_together
from tests.kernel.toy import SERVICE, Stub, Toy, text


@dataclass(frozen=True)
class Settings(Common):
    port: int = setting("PODIUM_TOY_PORT", 0, "gRPC port of the toy", parse=as_port)
    fault: str = setting("PODIUM_TOY_FAULT", "", "what goes wrong")


@dataclass(frozen=True)
class FrontSettings(Common):
    port: int = setting("PODIUM_FRONT_PORT", 0, "gRPC port of the front", parse=as_port)


@asynccontextmanager
async def assemble(settings: Settings, dial: Dial, clock: Clock) -> AsyncIterator[Assembled]:
    if settings.fault == "journal":
        raise FailedPrecondition("JOURNAL_NEWER", "the journal is of a newer version: upgrade")
    async with telemetry.started("toy", settings) as seen:

        async def drain() -> None:
            print("draining", flush=True)
            if settings.fault == "drain hangs":
                await clock.sleep(3_600)
            if settings.fault == "drain fails":
                raise RuntimeError("no")

        async def loop() -> None:
            await clock.sleep(0.1)
            if settings.fault == "loop":
                raise RuntimeError("the loop broke")
            await clock.sleep(3_600)

        task = asyncio.create_task(loop())
        yield Assembled(
            Toy().register,
            (SERVICE,),
            ready=lambda: "not today" if settings.fault == "unready" else "",
            drain=drain,
            bound=lambda port: print(f"bound {port}, {gc.get_freeze_count():,} frozen", flush=True),
            telemetry=seen,
            loops=[task],
        )
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        print("taken apart", flush=True)


class Front:
    """Passes calls on to the toy, as one service does to another."""

    def __init__(self, dial: Dial) -> None:
        self.stub = Stub(dial("127.0.0.1:1"))

    def register(self, server: Any) -> None:
        async def front(request: bytes, context: Any) -> bytes:
            answer = await self.stub.unary(text("through the front"))
            return bytes(answer.value, "utf-8")

        handlers = {"Ask": grpc.unary_unary_rpc_method_handler(front)}
        name = "podium.test.Front"
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, handlers),))


@asynccontextmanager
async def assemble_front(
    settings: FrontSettings, dial: Dial, clock: Clock
) -> AsyncIterator[Assembled]:
    yield Assembled(Front(dial).register, ())


TOY = ServiceSpec("toy", Settings, "Answers with what it is asked.", assemble)
FRONT = ServiceSpec("front", FrontSettings, "Stands before the toy.", assemble_front)

if __name__ == "__main__":
    if "together" in sys.argv:
        sys.exit(main_together([TOY, FRONT], []))
    sys.exit(main(TOY))

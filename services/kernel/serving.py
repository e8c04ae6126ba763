"""A process around one service, or around all of them: settings, signals, drain, exit codes.

Exit 0 after a drain, 1 when it cannot start or a loop fails, 2 when settings are wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any

import uvloop

from services.kernel.auth import require_keys
from services.kernel.clock import SystemClock
from services.kernel.config import Common, SettingsError, describe, load, misspelled
from services.kernel.dialing import dialer
from services.kernel.errors import FailedPrecondition, PodiumError
from services.kernel.garbage import Collector
from services.kernel.inprocess import InProcessHub
from services.kernel.logs import setup_logging
from services.kernel.options import Dial
from services.kernel.server import Assembled, PortTaken, Running, ServiceSpec, running

__all__ = [
    "Assembled",
    "Dial",
    "PortTaken",
    "Running",
    "ServiceSpec",
    "main",
    "main_together",
    "running",
]

log = logging.getLogger("podium.kernel.serving")

exit_s_max = 24.0
"""Seconds from the signal to the end, whatever hangs: below the 30 s an orchestrator waits."""
stop_grace_s = 5.0
"""Seconds that open calls have to end after the drain."""

Spec = ServiceSpec[Any]


def main(spec: Spec, argv: Sequence[str] | None = None) -> int:
    """Run the service as this process and return its exit code."""
    program = f"python -m services.{spec.name}"
    return _run([spec], program, spec.summary, argv, together=False)


def main_together(specs: Sequence[Spec], argv: Sequence[str] | None = None) -> int:
    """Run all of `specs` in this process, meeting in memory, and return the exit code.

    They start in the order given and drain in the opposite one: name those first that the
    others lean on.
    """
    summary = "All services of Podium in one process."
    return _run(specs, "python -m services", summary, argv, together=True)


def _run(
    specs: Sequence[Spec],
    program: str,
    summary: str,
    argv: Sequence[str] | None,
    *,
    together: bool,
) -> int:
    parser(specs, program, summary).parse_args(argv)
    environ = dict(os.environ)
    try:
        loaded = load_all(specs, environ)
        require_keys(loaded[0], SystemClock())
    except (SettingsError, FailedPrecondition) as error:
        print(error, file=sys.stderr)
        return 2
    first = loaded[0]
    name = "podium" if together else specs[0].name
    setup_logging(first.profile, first.log_level, service=name)
    for sentence in misspelled((spec.settings for spec in specs), environ):
        log.warning(sentence)
    hub = InProcessHub() if together else None
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(specs, loaded, hub))


def parser(specs: Sequence[Spec], program: str, summary: str) -> argparse.ArgumentParser:
    """Return a parser whose help lists the settings of all `specs`, each variable once."""
    blocks: dict[str, str] = {}
    for spec in specs:
        for block in describe(spec.settings):
            blocks.setdefault(block.split()[0], block)
    return argparse.ArgumentParser(
        prog=program,
        description=summary,
        epilog="Settings, from the environment:\n" + "\n".join(blocks.values()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def load_all(specs: Sequence[Spec], environ: Mapping[str, str]) -> list[Common]:
    """Read the settings of all `specs`.

    Raises:
        SettingsError: Some values are wrong; it names every one of them, once.
    """
    loaded: list[Common] = []
    # A dict, since services share settings.
    faults: dict[str, None] = {}
    for spec in specs:
        try:
            loaded.append(load(spec.settings, environ))
        except SettingsError as error:
            for fault in error.faults:
                faults.setdefault(fault)
    if faults:
        raise SettingsError(list(faults))
    return loaded


async def _serve(specs: Sequence[Spec], loaded: Sequence[Common], hub: InProcessHub | None) -> int:
    stopping = _signals()
    clock = SystemClock()
    dial = dialer(loaded[0], clock) if hub is None else dialer(loaded[0], clock, hub.dial)
    services: list[Running] = []
    collector = Collector()
    # Before anybody is let in, for who comes back after a crash would wait for it.
    collector.whole()
    try:
        async with AsyncExitStack() as stack:
            collecting = asyncio.create_task(collector.run())
            stack.callback(collecting.cancel)
            for spec, settings in zip(specs, loaded, strict=True):
                services.append(
                    await stack.enter_async_context(
                        running(
                            spec,
                            settings,
                            dial=dial,
                            clock=clock,
                            port=settings.port,
                            hub=hub,
                            stop_s=stop_grace_s,
                        )
                    )
                )
            failed = await _until(stopping, services)
            _end_within(exit_s_max)
            await _drain(services, loaded[0].drain_s)
    except (PortTaken, PodiumError, OSError) as error:
        if len(services) == len(specs):
            raise
        log.error("podium %s cannot start: %s", specs[len(services)].name, error)
        return 1
    log.info("podium has stopped")
    return 1 if failed else 0


def _signals() -> asyncio.Event:
    """Return the event that the first signal sets; a second one ends the process at once."""
    stopping = asyncio.Event()

    def stop() -> None:
        if stopping.is_set():
            os._exit(130)
        stopping.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    return stopping


async def _until(stopping: asyncio.Event, services: Sequence[Running]) -> bool:
    """Return False when told to stop, and True when a loop of a service has failed."""
    told = asyncio.create_task(stopping.wait())
    loops = {loop: service.name for service in services for loop in service.assembled.loops}
    open_loops: set[asyncio.Task[Any]] = set(loops)
    while not told.done():
        done, _ = await asyncio.wait({told, *open_loops}, return_when=asyncio.FIRST_COMPLETED)
        for loop in done & open_loops:
            open_loops.discard(loop)
            if not loop.cancelled() and (error := loop.exception()) is not None:
                log.critical("A loop of podium %s failed.", loops[loop], exc_info=error)
                told.cancel()
                return True
    return False


async def _drain(services: Sequence[Running], drain_s: float) -> None:
    log.info("podium is draining")
    for service in services:
        await service.readiness.withdraw()
    # The last to start leans on the others, so it hands over while they still serve.
    for service in reversed(services):
        try:
            async with asyncio.timeout(drain_s):
                await service.drain()
        except TimeoutError:
            log.warning("podium %s was not drained within %g s", service.name, drain_s)
        # One service's failure must not keep the others from handing over.
        except Exception:
            log.exception("podium %s failed to drain", service.name)


def _end_within(seconds: float, end: Callable[[int], Any] = os._exit) -> None:
    timer = threading.Timer(seconds, end, args=[1])
    timer.daemon = True
    timer.start()

"""A process that hosts simulated agents: `python -m podium.sim --help`.

It prints `ready` when all of its agents have a session, works until SIGTERM, finishes what it has,
and prints what it did as one line of JSON. A second SIGTERM, or the end of whoever owns it, ends it
at once.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys

import orjson

from podium.sdk.errors import PodiumError
from podium.sdk.session import first_of
from podium.sdk.settings import Settings
from podium.sdk.tracing import Tracer
from podium.sdk.wire import new_loop
from podium.sim.crew import MIXED, Plan
from podium.sim.host import SimHost
from podium.sim.profiles import PROFILES, SERVICE_TIMES, Behaviour
from podium.v1 import session_pb2

GRACE_S = 10.0


def parser() -> argparse.ArgumentParser:
    """Returns the options."""
    options = argparse.ArgumentParser(prog="python -m podium.sim", description=__doc__)
    options.add_argument("--agents", type=int, default=100, help="agents in this process")
    options.add_argument("--first", type=int, default=0, help="number of the first one")
    options.add_argument("--prefix", default="sim", help="of the agents' ids")
    options.add_argument("--capacity", type=int, default=4, help="tasks each works on at once")
    options.add_argument("--profile", default=MIXED, choices=[MIXED, *PROFILES])
    options.add_argument("--types", default=",".join(SERVICE_TIMES), help="what they can do")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--own-streams", action="store_true", help="a stream for each agent")
    options.add_argument("--owned", action="store_true", help="end at once when stdin ends")
    options.add_argument("--failure-rate", type=float, default=0.0)
    options.add_argument("--never-ack-rate", type=float, default=0.0)
    options.add_argument("--disconnect-every", type=float, default=0.0, metavar="SECONDS")
    options.add_argument("--freeze-every", type=float, default=0.0, metavar="SECONDS")
    options.add_argument("--freeze", type=float, default=5.0, metavar="SECONDS")
    return options


def plan_of(options: argparse.Namespace) -> Plan:
    """Returns the fleet that the options describe."""
    behaviour = Behaviour(
        failure_rate=options.failure_rate,
        never_ack_rate=options.never_ack_rate,
        disconnect_every_s=options.disconnect_every,
        freeze_every_s=options.freeze_every,
        freeze_s=options.freeze,
    )
    return Plan(
        agent_count=options.agents,
        capacity=options.capacity,
        profile=options.profile,
        types=options.types.split(","),
        behaviour=behaviour,
        seed=options.seed,
        prefix=options.prefix,
    )


async def work(options: argparse.Namespace) -> dict[str, int]:
    """Hosts the agents until SIGTERM or SIGINT and returns what they did."""
    settings = Settings.from_environment()
    tracer = Tracer("agent", settings)
    tracer.start()
    plan = plan_of(options)
    members = plan.members(options.first, options.agents)
    crews = [[member] for member in members] if options.own_streams else [members]
    hosts = [
        SimHost(
            crew,
            settings,
            tracer,
            behaviour=plan.behaviour,
            seed=plan.seed + options.first + number,
            own_connection=options.own_streams,
        )
        for number, crew in enumerate(crews)
    ]
    stopping, hurrying = await _signals(owned=options.owned)
    running = asyncio.gather(*(host.run() for host in hosts))
    ready = asyncio.gather(*(host.session.ready.wait() for host in hosts))
    stop = asyncio.create_task(stopping.wait())
    await first_of(running, ready, stop)
    if ready.done():
        print("ready", flush=True)
        await first_of(running, stop)
    ready.cancel()
    if not running.done():
        finishing = asyncio.gather(*(host.session.finish(GRACE_S) for host in hosts))
        hurry = asyncio.create_task(hurrying.wait())
        await first_of(finishing, hurry)
        hurry.cancel()
        finishing.cancel()
        await asyncio.gather(*(host.session.stop() for host in hosts))
    await running
    await asyncio.get_running_loop().run_in_executor(None, tracer.stop)
    return _figures(hosts)


async def _signals(*, owned: bool) -> tuple[asyncio.Event, asyncio.Event]:
    """Returns what says that it shall stop, and that it shall do so at once."""
    loop = asyncio.get_running_loop()
    stopping, hurrying = asyncio.Event(), asyncio.Event()

    def stop() -> None:
        if stopping.is_set():
            hurrying.set()
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    if owned:
        await loop.connect_read_pipe(lambda: _Owner(stopping, hurrying), sys.stdin)
    return stopping, hurrying


class _Owner(asyncio.Protocol):
    """Whoever holds the other end of stdin, and says nothing there."""

    def __init__(self, *gone: asyncio.Event) -> None:
        self._gone = gone

    def connection_lost(self, error: Exception | None) -> None:
        """Ends everything with the owner."""
        for event in self._gone:
            event.set()


def _figures(hosts: list[SimHost]) -> dict[str, int]:
    verdicts = session_pb2.ResultAck.Verdict
    return {
        "completed": sum(host.completed_count for host in hosts),
        "failed": sum(host.failed_count for host in hosts),
        "streams_opened": sum(host.session.connect_count for host in hosts),
        **{
            name.removeprefix("VERDICT_").lower(): sum(
                host.session.talk.verdict_counts[number] for host in hosts
            )
            for name, number in verdicts.items()
            if number
        },
    }


def main(arguments: list[str] | None = None) -> int:
    """Runs the process; returns its exit code."""
    options = parser().parse_args(arguments)
    with asyncio.Runner(loop_factory=new_loop) as runner:
        try:
            figures = runner.run(work(options))
        except PodiumError as error:
            print(error, file=sys.stderr)
            return 1
    print(orjson.dumps(figures).decode(), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What the bench runs: who is a process of its own, what is synced, what is traced."""

from __future__ import annotations

from dataclasses import dataclass

from tests.bench.workload import AGENTS, HOSTS


@dataclass(frozen=True)
class Setup:
    """One way to run the suite with its fleet; what is not said is the default of `make run`."""

    name: str
    streams: int
    """Agent streams over all hosts: as many as hosts, or as agents."""
    together: bool = False
    """All services in one process; agents and client stay processes of their own."""
    journal: str = "sqlite"
    traced: bool = True
    limits: tuple[tuple[str, str], ...] = ()
    """More settings."""

    @property
    def environ(self) -> dict[str, str]:
        """The settings of services, hosts and client."""
        chosen = {"PODIUM_LOG_LEVEL": "warning", "PODIUM_JOURNAL": self.journal}
        if not self.traced:
            chosen["PODIUM_OTLP_ENDPOINT"] = "off"
        return chosen | dict(self.limits)

    @property
    def settings(self) -> str:
        """What is synced, traced and run where, as text."""
        parts = [
            "six services in one process" if self.together else "six service processes",
            f"{HOSTS} host processes, {AGENTS} agents on {self.streams} streams",
            "SQLite WAL, synchronous=FULL, group commit"
            if self.journal == "sqlite"
            else "journal in memory: nothing survives",
            "100 % of tasks traced, spans exported" if self.traced else "no spans",
            "metrics and decision records on",
            *(f"{name}={value}" for name, value in self.limits),
        ]
        return "; ".join(parts)


MULTIPLEXED = Setup("multiplexed hosts", HOSTS)
OWN_STREAMS = Setup("own streams", AGENTS)
SETUPS = (
    MULTIPLEXED,
    OWN_STREAMS,
    Setup("multiplexed, no tracing", HOSTS, traced=False),
    Setup("own streams, no tracing", AGENTS, traced=False),
    Setup("multiplexed, in memory", HOSTS, journal="memory"),
    Setup("services in one process", HOSTS, together=True),
)
"""Those with a layout of streams for the first time are also run as the skeleton."""

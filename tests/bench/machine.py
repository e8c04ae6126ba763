"""What the machine is and what processes use of it, read from /proc."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")
_PACKAGES = ("grpcio", "protobuf", "uvloop", "numpy", "aiohttp", "orjson")


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far, all threads; 0 when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICK


def memory_mb(pid: int) -> float:
    """Proportional set size of a process in MB; 0 when it is gone."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return 0.0


def busy_seconds() -> float:
    """CPU time of everything on the machine so far, to tell how much others took."""
    user, nice, system, _, _, irq, softirq, *_ = map(
        int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    )
    return (user + nice + system + irq + softirq) / _TICK


class Meter:
    """CPU of named processes from `start` on."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._pids = dict(pids)
        self._before: dict[str, float] = {}
        self._busy = 0.0

    def start(self) -> None:
        """Begin to count."""
        self._before = {name: cpu_seconds(pid) for name, pid in self._pids.items()}
        self._busy = busy_seconds()

    def used(self) -> dict[str, float]:
        """CPU seconds of each process since `start`."""
        return {name: cpu_seconds(pid) - self._before[name] for name, pid in self._pids.items()}

    def foreign(self) -> float:
        """CPU seconds that other processes took since `start`."""
        return max(0.0, busy_seconds() - self._busy - sum(self.used().values()))

    def memory(self) -> dict[str, float]:
        """Memory of each process in MB."""
        return {name: memory_mb(pid) for name, pid in self._pids.items()}


def description() -> dict[str, str]:
    """Machine, versions and commit, for the record."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    return {
        "cpu": f"{os.cpu_count()} x {model}",
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_version()} ({sys.base_prefix})",
        "packages": ", ".join(f"{name} {metadata.version(name)}" for name in _PACKAGES),
        "commit": commit or "unknown",
    }

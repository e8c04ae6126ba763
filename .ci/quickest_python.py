"""Prints which Python `make` builds its environment with: the quickest on PATH that can.

One that was built without profile-guided optimisation, as version managers build it, takes a third
longer for the kind of work that Podium does. `python3` gives way to another only where that is
clearly quicker, so that a choice does not hang on the noise of a machine.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import timeit

NAMES = ("python3", "python3.14", "python3.13", "python3.12", "python3.11", "/usr/bin/python3")
CLEARLY = 0.85
OLDEST = (3, 11)
WORK = "for n in range(64): found[n] = (n, len(found)); 'task %d' % n; found.get(n)"


def seconds(python: str) -> float:
    """Return how long `python` takes for some work; infinite where Podium cannot use it."""
    try:
        told = subprocess.run(
            (python, __file__, "--time"), capture_output=True, text=True, check=True, timeout=30
        )
        took, *version = told.stdout.split()
        return float(took) if tuple(map(int, version)) >= OLDEST else float("inf")
    except (OSError, ValueError, subprocess.SubprocessError):
        return float("inf")


def own_seconds() -> float:
    """Return how long this Python takes for the work: the best of many short runs."""
    import ensurepip  # noqa: F401, PLC0415  # Debian's has it only with the package python3-venv

    return min(timeit.repeat(WORK, "found = {}", number=200, repeat=20))


def quickest() -> str:
    """Return the path of the Python to take."""
    first, *others = dict.fromkeys(path for name in NAMES if (path := shutil.which(name)))
    best, best_s = first, seconds(first)
    for path in others:
        if (took_s := seconds(path)) < best_s * CLEARLY:
            best, best_s = path, took_s
    return best


if __name__ == "__main__":
    print(
        *((own_seconds(), *sys.version_info[:3]) if sys.argv[1:] == ["--time"] else (quickest(),))
    )

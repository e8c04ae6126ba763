"""Real processes under test: started in their own group, watched by their log, always ended."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).resolve().parents[2]


class Process:
    """One started process, with all it says in one file."""

    def __init__(self, arguments: Sequence[str], environ: Mapping[str, str], log: Path) -> None:
        self.log = log
        with log.open("wb") as output:
            self.popen = subprocess.Popen(
                arguments,
                cwd=ROOT,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self.popen.pid

    def output(self) -> str:
        """Returns everything the process said up to now."""
        return self.log.read_text("utf-8", errors="replace")

    def wait_for(self, pattern: str, within_s: float = 30.0) -> re.Match[str]:
        """Returns the first place where the output matches.

        Raises:
            AssertionError: the process ended first, or the time is over; carries the output.
        """
        deadline = time.monotonic() + within_s
        while True:
            ended = self.popen.poll()  # asked first: what it said last must still be found
            if found := re.search(pattern, self.output(), re.MULTILINE):
                return found
            if ended is not None:
                raise AssertionError(f"ended with {ended} before {pattern!r}:\n{self.output()}")
            if time.monotonic() > deadline:
                raise AssertionError(f"no {pattern!r} within {within_s} s:\n{self.output()}")
            time.sleep(0.02)

    def signal(self, number: signal.Signals) -> None:
        """Signals the process alone, not its children."""
        self.popen.send_signal(number)

    def stop(self, within_s: float = 25.0) -> int:
        """Asks it to end (SIGTERM) and returns its exit code.

        Raises:
            AssertionError: it did not end in time; carries the output.
        """
        self.signal(signal.SIGTERM)
        return self.wait(within_s)

    def wait(self, within_s: float = 25.0) -> int:
        """Returns the exit code of a process that ends by itself.

        Raises:
            AssertionError: it did not end in time; carries the output.
        """
        try:
            return self.popen.wait(within_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {within_s} s:\n{self.output()}") from None

    def kill(self) -> None:
        """Ends it and all that it started, at once (SIGKILL)."""
        try:
            os.killpg(self.popen.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.popen.wait()


class Processes:
    """Starts processes and kills whatever is left of them at the end."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._started: list[Process] = []

    def __enter__(self) -> Processes:
        self._logs.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in self._started:
            process.kill()

    def python(self, *arguments: str, environ: Mapping[str, str] | None = None) -> Process:
        """Starts this Python with the code under test on its path.

        Args:
            arguments: for example "-m", "services.routing".
            environ: settings; PODIUM_* of the outside world never reach the process.
        """
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("PODIUM_")}
        inherited["PYTHONPATH"] = f"{ROOT}{os.pathsep}{ROOT / 'clients' / 'python'}"
        inherited["PYTHONUNBUFFERED"] = "1"
        log = self._logs / f"{len(self._started):02d}-{arguments[-1].replace('/', '_')[-40:]}.log"
        process = Process(
            [sys.executable, *arguments],
            {**inherited, **(environ or {})},
            log,
        )
        self._started.append(process)
        return process

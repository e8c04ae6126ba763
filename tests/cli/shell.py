"""`podium` as a process, as people run it."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any, NamedTuple

import orjson

from tests.support.processes import ROOT


class Ran(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[Any]:
        return [orjson.loads(line) for line in self.out.splitlines()]


class Shell:
    """Runs `podium` as a process, as people do."""

    def __init__(self, environ: dict[str, str], scheduler: Any = None) -> None:
        self.scheduler = scheduler
        # As wide as a terminal; without it, as in a pipe.
        self.environ = {"COLUMNS": "120", **environ}

    async def __call__(self, *arguments: str, stdin: bytes = b"") -> Ran:
        inherited = {
            k: v for k, v in os.environ.items() if not k.startswith("PODIUM_") and k != "COLUMNS"
        }
        path = f"{ROOT}{os.pathsep}{ROOT / 'clients' / 'python'}"
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "podium.cli",
            *arguments,
            cwd=ROOT,
            env={**inherited, "PYTHONPATH": path, **self.environ},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate(stdin)
        return Ran(process.returncode or 0, out.decode(), err.decode())

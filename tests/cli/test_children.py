from __future__ import annotations

import asyncio
import os
import sys

from tests.support.processes import ROOT

STARTS_A_CHILD_WHILE_GRPC_IS_BUSY = """
import asyncio, sys
from podium.cli.output import run_loop
from podium.sdk.wire import dial

async def work():
    channel = dial("127.0.0.1:1")
    busy = [asyncio.create_task(channel.channel_ready()) for _ in range(20)]
    await asyncio.sleep(0)
    for _ in range(5):
        child = await asyncio.create_subprocess_exec(sys.executable, "-S", "-c", "print('child')")
        await child.wait()
    for one in busy:
        one.cancel()
    await channel.close()

run_loop(work)
"""


async def test_programs_that_the_command_line_starts_leave_no_lines_of_grpc() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        STARTS_A_CHILD_WHILE_GRPC_IS_BUSY,
        env={**os.environ, "PYTHONPATH": str(ROOT / "clients" / "python")},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()

    assert (out.decode().split(), err.decode()) == (["child"] * 5, "")

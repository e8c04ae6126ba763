"""An agent whose handlers run in processes, which must find them in a module."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from typing import Any

from podium.sdk.agent import Agent
from podium.sdk.context import Context
from podium.sdk.errors import Final

agent = Agent("pooled", agent_id="a1", capacity=4, processes=2)


@agent.handles("square", pool="process")
def square(number: int) -> dict[str, int]:
    return {"square": number * number, "pid": os.getpid()}


@agent.handles("report", pool="process")
def report(payload: str, task: Context) -> str:
    task.progress(0.5, "half way")
    task.usage(input_tokens=7)
    task.checkpoint({"at": 1})
    with task.span("inside"):
        task.confidence = 0.75
    return f"{task.task_id} {task.attempt} {task.resume_from()}"


@agent.handles("stream", pool="process")
def stream(payload: str) -> Iterator[str]:
    yield "a"
    yield "b"


@agent.handles("refuse", pool="process")
def refuse(payload: str) -> None:
    raise Final("never", reason="NOT_MINE")


@agent.handles("ask", pool="process")
def ask(payload: str, task: Context) -> str:
    return f"told {task.need_input('which?')}"


@agent.handles("crash", pool="process")
def crash(how: str) -> None:
    if how == "exit":
        os._exit(3)
    os.kill(os.getpid(), signal.SIGKILL)


@agent.handles("obey", pool="process")
def obey(payload: str, task: Context) -> str:
    task.progress(0.1, "started")
    while not task.cancelled:
        time.sleep(0.001)
    return "stopped by itself"


@agent.handles("ignore", pool="process")
def ignore(payload: str, task: Context) -> None:
    task.progress(0.1, "started")
    while True:
        time.sleep(1)


@agent.handles("mangle", pool="process")
def mangle(payload: str) -> None:
    raise RuntimeError("bad name: \udc80")


@agent.handles("child", pool="process")
def child(payload: str, task: Context) -> Any:
    return task.wait_for(task.submit("square", 2))

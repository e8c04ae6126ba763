"""What runs in a process of the pool: one handler at a time, told and telling over a pipe."""

from __future__ import annotations

import functools
import os
import queue
import signal
import sys
import threading
import time
from multiprocessing.connection import Connection
from typing import NamedTuple

from podium.sdk import attempts, tracing
from podium.sdk.context import Context, Parked
from podium.sdk.handlers import Handler, find
from podium.sdk.settings import Settings
from podium.sdk.spans import Attributes, Span, parse_traceparent
from podium.v1 import session_pb2

GROUP_SIGNALS = frozenset({signal.SIGINT, signal.SIGTERM})
"""Ctrl-C goes to the whole group, as does a service manager's end of it: the program that started
this process decides what they mean, and it may have a grace for what is in work."""


class Job(NamedTuple):
    """One attempt, as it travels to the process."""

    module: str
    name: str
    agent_id: str
    assign: bytes
    traceparent: str


class Stop(NamedTuple):
    """Asks the running handler to stop."""

    reason: str


class Said(NamedTuple):
    """A frame that the handler says."""

    kind: str
    frame: bytes


class Done(NamedTuple):
    """The end of an attempt; without a result when the task is parked."""

    result: bytes | None
    spans: list[Span]


class _Relay(tracing.Tracer):
    """Gathers spans for the process that started this one."""

    def __init__(self) -> None:
        super().__init__("agent", Settings(otlp_endpoint="off"))
        self.spans: list[Span] = []

    def record(
        self,
        ids: tracing.Ids,
        parent_id: int,
        name: str,
        start_ns: int,
        attributes: Attributes = (),
        error: str = "",
    ) -> None:
        end_ns = time.time_ns()
        self.spans.append((*ids, parent_id, name, start_ns, end_ns, attributes, error))


class _Worker:
    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._context: Context | None = None
        self._stop_reason = ""
        # A handler may speak from threads of its own.
        self._sending = threading.Lock()

    def run(self) -> None:
        threading.Thread(target=self._listen, name="podium-pipe", daemon=True).start()
        while True:
            self._send(self._work(self._jobs.get()))

    def _send(self, message: Said | Done) -> None:
        with self._sending:
            self._pipe.send(message)

    def _listen(self) -> None:
        while True:
            try:
                message = self._pipe.recv()
            except (EOFError, OSError):
                # Whoever started this process is gone, and its leases with it.
                os._exit(0)
            if isinstance(message, Job):
                self._stop_reason = ""
                self._jobs.put(message)
                continue
            # The handler may not have begun yet; then it begins with the reason.
            self._stop_reason = message.reason
            if self._context is not None:
                self._context.cancel_reason = message.reason

    def _work(self, job: Job) -> Done:
        relay = _Relay()
        assign = session_pb2.Assign.FromString(job.assign)

        def say(item: tuple[str, tuple[str, int], session_pb2.AgentFrame]) -> None:
            self._send(Said(item[0], item[2].SerializeToString()))

        context = self._context = Context(job.agent_id, assign, say, relay)
        context.cancel_reason = self._stop_reason
        context.traceparent = job.traceparent
        if (ids := parse_traceparent(job.traceparent)) is not None:
            tracing.set_current(ids)
        try:
            handler = _handler(job.module, job.name)
            arguments = handler.bind(assign.spec.payload, context)
            value = attempts.call_plainly(handler, arguments, context)
            result = attempts.ended(handler, context, value)
        except Parked:
            return Done(None, relay.spans)
        except Exception as error:
            result = attempts.failed(context, error)
        finally:
            self._context = None
        return Done(result.SerializeToString(), relay.spans)


@functools.cache
def _handler(module: str, name: str) -> Handler:
    return Handler.of(find(module, name))


def main(pipe: Connection) -> None:
    """Works on jobs until the pipe is closed."""
    for number in GROUP_SIGNALS:
        # Not SIG_IGN, which programs that a handler starts would inherit.
        signal.signal(number, lambda number, frame: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, GROUP_SIGNALS)
    # As in `podium.sdk.reload`: the next process would take what this one compiled for the code of
    # a later edit of the same second and size.
    sys.dont_write_bytecode = True
    _Worker(pipe).run()

"""Processes for plain handlers that would hold the interpreter for long, one handler in each.

A process that dies takes one attempt with it and is replaced; one whose handler does not stop when
it should is ended.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

from podium.sdk import process_worker
from podium.sdk.context import Context, Parked
from podium.sdk.conversation import Outgoing
from podium.sdk.errors import TaskError
from podium.sdk.handlers import POOL_PROCESS, Handler
from podium.sdk.process_worker import Done, Job, Said, Stop
from podium.sdk.threads import Threads
from podium.sdk.tracing import Tracer
from podium.v1 import session_pb2

log = logging.getLogger("podium.sdk.agent")

STOP_S_MAX = 5.0
EXIT_S_MAX = 1.0

# A fork would copy gRPC's threads in whatever state they are.
_SPAWN = multiprocessing.get_context("spawn")


class Process:
    """One process of the pool."""

    def __init__(self) -> None:
        self._pipe: Connection
        self._pipe, theirs = _SPAWN.Pipe()
        # Jobs and stops come from different threads.
        self._sending = threading.Lock()
        self._process = _SPAWN.Process(
            target=process_worker.main, args=(theirs,), name=POOL_PROCESS, daemon=True
        )
        with _unheard():
            self._process.start()
        theirs.close()

    def work(self, job: Job, said: Callable[[Said], None]) -> Done | None:
        """Runs a job and waits for its end; None when the process died of it."""
        try:
            with self._sending:
                self._pipe.send(job)
            while True:
                message = self._pipe.recv()
                if isinstance(message, Done):
                    return message
                said(message)
        except (EOFError, OSError):
            self._process.join()
            self._pipe.close()
            return None

    def ask_to_stop(self, reason: str) -> None:
        """Lets the handler see that it is cancelled."""
        try:
            with self._sending:
                self._pipe.send(Stop(reason))
        except OSError:
            return  # it is dying already, as `work` will see

    def end(self) -> None:
        """Ends the process, whatever it does."""
        self._process.kill()

    def close(self) -> None:
        """Lets an idle process exit."""
        self._pipe.close()
        self._process.join(EXIT_S_MAX)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    @property
    def exit_code(self) -> int | None:
        """As `multiprocessing.Process.exitcode`: negative is a signal."""
        return self._process.exitcode


@contextmanager
def _unheard() -> Iterator[None]:
    """Keeps signals for the group from what this thread starts, until it takes them up itself.

    It is deaf to them in the end, but may take long to come so far, and would die meanwhile.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, process_worker.GROUP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Processes:
    """Runs handlers in at most `size` processes, started when they are needed.

    Args:
        size: how many.
        say: is given what the handlers say, on the loop's thread or any other.
        tracer: is given their spans.
    """

    def __init__(self, size: int, say: Callable[[Outgoing], None], tracer: Tracer) -> None:
        self._say = say
        self._tracer = tracer
        # Each thread waits for one process.
        self._threads = Threads(size, "podium-process")
        self._lock = threading.Condition()
        self._idle: list[Process] = []
        self._busy: dict[Context, Process] = {}
        # Processes of an earlier generation have imported code that has changed.
        self._generation = 0
        self._stopping = False

    async def run(
        self, handler: Handler, context: Context, assign: session_pb2.Assign
    ) -> session_pb2.Result:
        """Runs one attempt and returns how it ended.

        Raises:
            Parked: the task waits for input.
            TaskError: AGENT_WORKER_CRASHED, the process died of it.
            asyncio.CancelledError: it was cancelled, and has stopped or was ended.
        """
        module, name = handler.reference
        job = Job(module, name, context.agent_id, assign.SerializeToString(), context.traceparent)
        work = self._threads.submit(lambda: self._work(job, context))
        future = asyncio.wrap_future(work)
        try:
            done, exit_code = await asyncio.shield(future)
        except asyncio.CancelledError:
            if not work.cancel():  # it had begun
                await self._stop(context, future)
            raise
        if done is None:
            raise TaskError(_crash(exit_code), reason="AGENT_WORKER_CRASHED")
        for span in done.spans:
            self._tracer.keep(span)
        if done.result is None:
            raise Parked
        return session_pb2.Result.FromString(done.result)

    def renew(self, size: int) -> None:
        """Runs what begins from now on in new processes, `size` at most; blocks for a moment."""
        with self._lock:
            self._generation += 1
            idle, self._idle = self._idle, []
        self._threads.size = size
        for process in idle:
            process.close()

    def stop(self) -> None:
        """Ends all processes; blocks for a moment."""
        self._threads.close()
        with self._lock:
            self._stopping = True
            for process in self._busy.values():
                process.end()
            self._lock.wait_for(lambda: not self._busy, EXIT_S_MAX)
            idle, self._idle = self._idle, []
        for process in idle:
            process.close()

    async def _stop(
        self, context: Context, future: asyncio.Future[tuple[Done | None, int | None]]
    ) -> None:
        with self._lock:
            process = self._busy.get(context)
        if process is not None:
            process.ask_to_stop(context.cancel_reason)
        await asyncio.wait((future,), timeout=STOP_S_MAX)
        while not future.done():
            with self._lock:
                process = self._busy.get(context)
            if process is not None:
                log.warning("task %s does not stop: its process is ended", context.task_id)
                process.end()
            await asyncio.wait((future,), timeout=EXIT_S_MAX)

    def _work(self, job: Job, context: Context) -> tuple[Done | None, int | None]:
        """Waits for a process, in a thread."""
        with self._lock:
            process, generation = self._idle.pop() if self._idle else None, self._generation
        if process is None:
            process = Process()
        with self._lock:
            self._busy[context] = process
            if self._stopping:  # while it started
                process.end()

        def said(message: Said) -> None:
            frame = session_pb2.AgentFrame.FromString(message.frame)
            self._say((message.kind, context.key, frame))

        done = process.work(job, said)
        with self._lock:
            del self._busy[context]
            fresh = generation == self._generation
            if done is not None and fresh:
                self._idle.append(process)
            self._lock.notify_all()
        if done is not None and not fresh:
            process.close()
        if done is None:
            log.error("a process of the pool ended at work: %s", _crash(process.exit_code))
        return done, process.exit_code


def _crash(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        return f"the process of the handler was ended by signal {-exit_code}"
    return f"the process of the handler ended with exit code {exit_code}"

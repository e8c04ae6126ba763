"""Runs handlers on the program's own loop, and knows nothing of streams."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import logging
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from podium.sdk import payloads, tracing
from podium.sdk.agent import Agent, Handler
from podium.sdk.context import Context, Parked
from podium.sdk.conversation import Outgoing
from podium.sdk.errors import TaskError
from podium.sdk.leases import Key
from podium.sdk.spans import format_traceparent
from podium.v1 import session_pb2, task_pb2

log = logging.getLogger("podium.sdk.agent")

FAILURE_LEN_MAX = 4_096
THREADS_MAX = 64


class Runner:
    """Starts a handler for each assignment and says what comes of it.

    Args:
        agents: who works.
        send: is given what they say, in order, in batches.
        tracer: is given their spans.
    """

    def __init__(
        self,
        agents: Iterable[Agent],
        send: Callable[[list[Outgoing]], None],
        tracer: tracing.Tracer,
    ) -> None:
        self._agents = {agent.agent_id: agent for agent in agents}
        self._send = send
        self._tracer = tracer
        self._loop = asyncio.get_running_loop()
        self._thread_id = threading.get_ident()
        self._running: dict[Key, tuple[asyncio.Task[None], Context]] = {}
        self._said: list[Outgoing] = []
        self._flushing = False
        threads = min(THREADS_MAX, sum(agent.capacity for agent in self._agents.values()))
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="podium-handler")

    def __len__(self) -> int:
        return len(self._running)

    def take(self, frames: list[session_pb2.RouterFrame]) -> None:
        """Takes the router's frames that concern work."""
        # Handlers that return at once have their results in the same batch as their acks: the
        # flush is queued behind their first steps.
        self._flushing = True
        for frame in frames:
            kind = frame.WhichOneof("frame")
            if kind == "assign":
                self._start(self._agents[frame.agent_id], frame.assign)
            elif kind == "cancel":
                ref = frame.cancel.lease
                self._cancel((ref.task_id, ref.lease_epoch), frame.cancel.reason)
        self._loop.call_soon(self._flush)

    async def stop(self) -> None:
        """Cancels all that still runs, without results, and waits for it."""
        tasks = [task for task, _ in self._running.values()]
        for key in list(self._running):
            self._cancel(key, "LEASE_LOST")
        if tasks:
            await asyncio.wait(tasks)
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _start(self, agent: Agent, assign: session_pb2.Assign) -> None:
        key = (assign.task_id, assign.lease_epoch)
        ref = session_pb2.LeaseRef(task_id=key[0], lease_epoch=key[1])
        handler = agent.handler_for(assign.spec)
        if handler is None:
            reason = session_pb2.Nack.REASON_INCAPABLE
            nack = session_pb2.Nack(lease=ref, reason=reason)
            frame = session_pb2.AgentFrame(agent_id=agent.agent_id, nack=nack)
            self._say(("nack", key, frame))
            return
        ack = session_pb2.AgentFrame(agent_id=agent.agent_id, ack=session_pb2.Ack(lease=ref))
        self._say(("ack", key, ack))
        say = self._say if handler.is_async else self._say_from_thread
        context = Context(agent.agent_id, assign, say, self._tracer)
        task = self._loop.create_task(self._work(handler, context, assign))
        self._running[key] = (task, context)

    def _cancel(self, key: Key, reason: str) -> None:
        running = self._running.get(key)
        if running is not None:
            task, context = running
            context.cancel_reason = reason
            task.cancel()

    async def _work(self, handler: Handler, context: Context, assign: session_pb2.Assign) -> None:
        try:
            result = await self._traced(handler, context, assign)
        finally:
            del self._running[context.key]
        # Without a lease there is nobody to tell.
        if result is not None and context.cancel_reason != "LEASE_LOST":
            frame = session_pb2.AgentFrame(agent_id=context.agent_id, result=result)
            self._say(("result", context.key, frame))

    async def _traced(
        self, handler: Handler, context: Context, assign: session_pb2.Assign
    ) -> session_pb2.Result | None:
        attributes = (
            ("task.id", assign.task_id),
            ("task.type", assign.spec.type),
            ("agent.id", context.agent_id),
            ("task.attempt", assign.attempt),
        )
        program = tracing.program_tracer()
        if program is not None:
            with tracing.program_span(program, assign.traceparent, attributes) as traceparent:
                context.traceparent = traceparent
                return await self._outcome(handler, context)
        ids, parent_id = tracing.child_of(assign.traceparent)
        context.traceparent = format_traceparent(*ids)
        tracing.set_current(ids)
        start_ns = time.time_ns()
        result = await self._outcome(handler, context)
        error = ""
        if result is not None and result.HasField("failure"):
            error = f"{result.failure.reason}: {result.failure.message}"
        elif context.cancel_reason:
            error = context.cancel_reason
        self._tracer.record(ids, parent_id, "execute", start_ns, attributes, error)
        return result

    async def _outcome(self, handler: Handler, context: Context) -> session_pb2.Result | None:
        """Runs a handler; None when the task is parked."""
        try:
            arguments = handler.bind(context.spec.payload, context)
            value = await self._call(handler, arguments)
            success = payloads.encode(value)
        except Parked:
            return None
        except asyncio.CancelledError:
            # Only `_cancel` cancels, so there is a reason; the task itself ends in order.
            return _canceled(context)
        except TaskError as error:
            failure = (error.reason, error.message, error.retryable)
        except Exception as error:
            log.exception("task %s (%s) failed", context.task_id, context.type)
            failure = ("HANDLER_ERROR", str(error) or "see the log of the agent", True)
        else:
            if context.cancel_reason:
                return _canceled(context)
            if len(success.data) <= payloads.PAYLOAD_BYTES_MAX:
                result = context.result()
                result.success.CopyFrom(success)
                return result
            size = f"{len(success.data)} bytes of {payloads.PAYLOAD_BYTES_MAX}"
            failure = ("RESULT_TOO_LARGE", f"the result has {size}", False)
        return _failed(context, *failure)

    async def _call(self, handler: Handler, arguments: tuple[object, ...]) -> object:
        if handler.is_async:
            return await handler.function(*arguments)
        # The copy carries the current span into the thread.
        call = functools.partial(contextvars.copy_context().run, handler.function, *arguments)
        future = self._loop.run_in_executor(self._threads, call)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            # A thread cannot be stopped: it looks at `context.cancelled`, and its slot stays taken
            # until it returns.
            await asyncio.wait((future,))
            if not future.cancelled():
                future.exception()
            raise

    def _say(self, item: Outgoing) -> None:
        self._said.append(item)
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _say_from_thread(self, item: Outgoing) -> None:
        if threading.get_ident() == self._thread_id:
            self._say(item)
        else:
            self._loop.call_soon_threadsafe(self._say, item)

    def _flush(self) -> None:
        self._flushing = False
        said, self._said = self._said, []
        if said:
            self._send(said)


def _canceled(context: Context) -> session_pb2.Result:
    result = context.result()
    result.canceled.SetInParent()
    return result


def _failed(context: Context, reason: str, message: str, retryable: bool) -> session_pb2.Result:
    result = context.result()
    result.failure.CopyFrom(
        task_pb2.Failure(reason=reason, message=message[:FAILURE_LEN_MAX], retryable=retryable)
    )
    return result

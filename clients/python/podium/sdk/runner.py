"""Runs handlers on the program's own loop, and knows nothing of streams."""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from podium.sdk import attempts, tracing
from podium.sdk.agent import Agent
from podium.sdk.children import NO_CHILDREN, Children
from podium.sdk.context import Context, Parked
from podium.sdk.conversation import Outgoing
from podium.sdk.errors import TaskError
from podium.sdk.handlers import Handler, find
from podium.sdk.leases import Key
from podium.sdk.pools import Pools
from podium.sdk.pulse import Pulse
from podium.sdk.spans import format_traceparent
from podium.sdk.speech import Speech
from podium.v1 import session_pb2

log = logging.getLogger("podium.sdk.agent")

# Below the 5 s within which a router wants an Ack.
HOLD_S_MAX = 3.0
# How long a task waits, where all slots are taken, for one that was cancelled to end.
ROOM_S = 0.5
# After how long a cancelled task that goes on is told to the router, which counts its slot as free
# in a while: after 10 s, or at once where the lease is lost.
STUCK_S = 1.0
# How long what is to be asked about is gathered: a router takes 50 questions a second.
ASK_S = 0.05
# How long handlers may take to stop when the runner does.
STOP_S_MAX = 3.0


class Runner:
    """Starts a handler for each assignment and says what comes of it.

    Args:
        agents: who works.
        send: is given what they say, in order, in batches.
        tracer: is given their spans.
        children: where handlers submit tasks.
        pulse: tells when an assignment may be an old one; None where none can be.
        inline: what is said leaves by the loop that runs the handlers.

    Raises:
        TypeError: another process could not find a handler that is to run in one.
    """

    def __init__(
        self,
        agents: Iterable[Agent],
        send: Callable[[list[Outgoing]], None],
        tracer: tracing.Tracer,
        children: Children = NO_CHILDREN,
        pulse: Pulse | None = None,
        *,
        inline: bool = False,
    ) -> None:
        self._agents = {agent.agent_id: agent for agent in agents}
        self._speech = Speech(send, inline=inline)
        self._tracer = tracer
        self._children = children
        self._pulse = pulse
        self._loop = asyncio.get_running_loop()
        self._running: dict[Key, tuple[asyncio.Task[None], Context]] = {}
        # Begun and cancelled, and still at work.
        self._stopping: set[Key] = set()
        self._stuck: set[Key] = set()
        # Those that begin once the router has said that it still holds their leases.
        self._doubted: dict[Key, asyncio.Future[None]] = {}
        self._to_ask: list[Outgoing] = []
        self._pools = Pools(self._speech.say_from_thread, tracer)
        for agent in self._agents.values():
            check(agent)

    def __len__(self) -> int:
        return len(self._running)

    def take(self, frames: list[session_pb2.RouterFrame]) -> None:
        """Takes the router's frames that concern work."""
        speech = self._speech
        speech.before_tasks()
        doubtful = self._pulse is not None and self._pulse.doubtful
        try:
            for frame in frames:
                kind = frame.WhichOneof("frame")
                if kind == "assign":
                    self._start(self._agents[frame.agent_id], frame.assign, doubtful=doubtful)
                elif kind == "cancel":
                    ref = frame.cancel.lease
                    self._cancel((ref.task_id, ref.lease_epoch), frame.cancel.reason)
                elif kind == "renew_ack":
                    for ref in frame.renew_ack.held:
                        self._believe((ref.task_id, ref.lease_epoch))
        finally:
            speech.after_tasks()

    async def replace(self, agent: Agent) -> list[asyncio.Task[None]]:
        """Lets tasks from now on go to other handlers of the same agent; running ones go on.

        Returns:
            what still runs with the handlers before.

        Raises:
            TypeError: as the constructor.
        """
        check(agent)
        self._agents[agent.agent_id] = agent
        running = [
            task for task, context in self._running.values() if context.agent_id == agent.agent_id
        ]
        await self._pools.renew(agent)
        return running

    async def stop(self, within_s: float | None = STOP_S_MAX) -> None:
        """Cancels all that still runs, without results, and waits for it.

        Args:
            within_s: how long; then what does not stop is left behind. None = without limit.
        """
        running = dict(self._running)
        for key in running:
            self._cancel(key, "LEASE_LOST")
        if running:
            await asyncio.wait([task for task, _ in running.values()], timeout=within_s)
        left = {key: task for key, (task, _) in running.items() if not task.done()}
        if left:
            names = ", ".join(task_id for task_id, _ in list(left)[:5])
            log.error("left %d handlers behind that do not stop: %s", len(left), names)
            for task in left.values():
                task.cancel()  # that of a thread waits no longer for it
            await asyncio.sleep(0)
        await self._pools.stop()

    def _start(self, agent: Agent, assign: session_pb2.Assign, *, doubtful: bool) -> None:
        key = (assign.task_id, assign.lease_epoch)
        handler = agent.handler_for(assign.spec)
        if handler is None:
            self._decline(agent.agent_id, key, session_pb2.Nack.REASON_INCAPABLE)
            return
        # An async handler too may speak from a thread, as within `asyncio.to_thread`.
        say = self._speech.say_from_thread
        context = Context(agent.agent_id, assign, say, self._tracer, self._children)
        if self._stopping and self._crowded(agent, 1):
            do = self._work_when_free
        elif handler.pace is None or handler.pace.wait_s(time.monotonic()) <= 0:
            if handler.pace is not None:
                handler.pace.take(time.monotonic())
            self._speech.ack(agent.agent_id, key)
            do = self._work
        else:
            do = self._work_in_turn
        if doubtful:
            work = self._if_held(do, handler, context, assign)
        else:
            work = do(handler, context, assign)
        self._running[key] = (self._loop.create_task(work), context)

    def _decline(self, agent_id: str, key: Key, reason: session_pb2.Nack.Reason) -> None:
        nack = session_pb2.Nack(lease=_ref(key), reason=reason)
        self._speech.say(("nack", key, session_pb2.AgentFrame(agent_id=agent_id, nack=nack)))

    def _cancel(self, key: Key, reason: str) -> None:
        running = self._running.get(key)
        if running is None:
            return
        task, context = running
        context.cancel_reason = reason
        task.cancel()
        coroutine = task.get_coro()
        assert inspect.iscoroutine(coroutine), "it was made of one"
        if inspect.getcoroutinestate(coroutine) == inspect.CORO_CREATED:
            # It never takes its first step, so neither does the handler: the task may be another's.
            self._end_unbegun(context)
        elif key not in self._stopping:
            self._stopping.add(key)
            self._loop.call_later(STUCK_S, self._look_after, key, context)

    def _look_after(self, key: Key, context: Context) -> None:
        """Tells the router of a task that does not stop."""
        if key in self._stopping:
            self._stuck.add(key)
            log.warning("task %s was cancelled and does not stop: its slot is taken", key[0])
            self._speech.say(("stuck", key, session_pb2.AgentFrame(agent_id=context.agent_id)))

    def _stopped(self, key: Key, agent_id: str) -> None:
        self._stopping.discard(key)
        if key in self._stuck:
            self._stuck.discard(key)
            self._speech.say(("stopped", key, session_pb2.AgentFrame(agent_id=agent_id)))

    def _crowded(self, agent: Agent, more: int) -> bool:
        """Tells whether so many tasks more are beyond what the agent does at once."""
        mine = [c for _, c in self._running.values() if c.agent_id == agent.agent_id]
        return len(mine) + more > agent.capacity

    async def _work_when_free(
        self, handler: Handler, context: Context, assign: session_pb2.Assign
    ) -> None:
        """Holds the ack back until a slot is free, and not for long: others may have one."""
        running = [self._running[key] for key in self._stopping if key in self._running]
        ending = [task for task, other in running if other.agent_id == context.agent_id]
        try:
            if ending:
                first = asyncio.FIRST_COMPLETED
                await asyncio.wait(ending, timeout=ROOM_S, return_when=first)
        except asyncio.CancelledError:
            self._end_unbegun(context)
            return
        if self._crowded(self._agents[context.agent_id], 0):
            del self._running[context.key]
            self._decline(context.agent_id, context.key, session_pb2.Nack.REASON_BUSY)
        elif handler.pace is not None:
            await self._work_in_turn(handler, context, assign)
        else:
            self._speech.ack(context.agent_id, context.key)
            await self._work(handler, context, assign)

    async def _if_held(
        self,
        do: Callable[[Handler, Context, session_pb2.Assign], Coroutine[Any, Any, None]],
        handler: Handler,
        context: Context,
        assign: session_pb2.Assign,
    ) -> None:
        """Works once the router has said that the lease is still held."""
        key = context.key
        answer = self._doubted[key] = self._loop.create_future()
        frame = session_pb2.AgentFrame(agent_id=context.agent_id)
        self._to_ask.append(("ask", key, frame))
        if len(self._to_ask) == 1:
            self._loop.call_later(ASK_S, self._ask)
        try:
            await answer
        except asyncio.CancelledError:
            self._end_unbegun(context)
            return
        finally:
            del self._doubted[key]
        await do(handler, context, assign)

    def _ask(self) -> None:
        asked, self._to_ask = self._to_ask, []
        for item in asked:
            self._speech.say(item)

    def _believe(self, key: Key) -> None:
        answer = self._doubted.get(key)
        if answer is not None and not answer.done():
            answer.set_result(None)

    async def _work_in_turn(
        self, handler: Handler, context: Context, assign: session_pb2.Assign
    ) -> None:
        """Holds the ack back until the handler's rate allows a start, and not for long."""
        assert handler.pace is not None, "only a handler with a rate makes tasks wait"
        try:
            if handler.pace.wait_s(time.monotonic()) > HOLD_S_MAX:
                # Holding it for a while keeps the router from offering it here again at once.
                await asyncio.sleep(HOLD_S_MAX)
                del self._running[context.key]
                self._decline(context.agent_id, context.key, session_pb2.Nack.REASON_BUSY)
                return
            await asyncio.sleep(handler.pace.take(time.monotonic()))
        except asyncio.CancelledError:
            self._end_unbegun(context)
            return
        self._speech.ack(context.agent_id, context.key)
        await self._work(handler, context, assign)

    async def _work(self, handler: Handler, context: Context, assign: session_pb2.Assign) -> None:
        try:
            result = await self._traced(handler, context, assign)
        except Exception:
            result = attempts.untold(context)
        finally:
            del self._running[context.key]
        self._end(context, result)

    def _end_unbegun(self, context: Context) -> None:
        del self._running[context.key]
        self._end(context, attempts.canceled(context))

    def _end(self, context: Context, result: session_pb2.Result | None) -> None:
        if self._stopping:
            self._stopped(context.key, context.agent_id)
        # Without a lease there is nobody to tell.
        if result is not None and context.cancel_reason != "LEASE_LOST":
            alone = not context.reported
            self._speech.result(context.agent_id, context.key, result, alone=alone)

    async def _traced(
        self, handler: Handler, context: Context, assign: session_pb2.Assign
    ) -> session_pb2.Result | None:
        attributes = (
            ("task.id", assign.task_id),
            ("task.type", context.type),
            ("agent.id", context.agent_id),
            ("task.attempt", assign.attempt),
        )
        program = tracing.program_tracer()
        if program is not None:
            with tracing.program_span(program, assign.traceparent, attributes) as traceparent:
                context.traceparent = traceparent
                return await self._outcome(handler, context, assign)
        ids, parent_id = tracing.child_of(assign.traceparent)
        context.traceparent = format_traceparent(*ids)
        tracing.set_current(ids)
        start_ns = time.time_ns()
        result = await self._outcome(handler, context, assign)
        error = ""
        if result is not None and result.HasField("failure"):
            error = f"{result.failure.reason}: {result.failure.message}"
        elif context.cancel_reason:
            error = context.cancel_reason
        self._tracer.record(ids, parent_id, "execute", start_ns, attributes, error)
        return result

    async def _outcome(
        self, handler: Handler, context: Context, assign: session_pb2.Assign
    ) -> session_pb2.Result | None:
        """Runs a handler; None when the task is parked."""
        try:
            if handler.pool == "process":
                pool = self._pools.processes(self._agents[context.agent_id])
                return await pool.run(handler, context, assign)
            arguments = handler.bind(context.spec.payload, context)
            if handler.is_async:
                value = await attempts.call(handler, arguments, context)
            else:
                agent = self._agents[context.agent_id]
                value = await self._pools.call_in_thread(agent, handler, arguments, context)
            return attempts.ended(handler, context, value)
        except Parked:
            return None
        except asyncio.CancelledError:
            if context.cancel_reason:
                return attempts.canceled(context)
            return attempts.failed(context, TaskError("something it waited for was cancelled"))
        except (KeyboardInterrupt, GeneratorExit):
            raise  # meant for the program, whose loop runs this handler
        except BaseException as error:
            # SystemExit too: a handler that exits must not take the tasks of others with it.
            return attempts.failed(context, error)


def check(agent: Agent) -> None:
    """Makes sure that processes will find the handlers that are to run in them.

    Raises:
        TypeError: another process could not find one.
    """
    for handler in agent.handlers.values():
        if handler.pool == "process":
            module, name = handler.reference
            try:
                find(module, name)
            except (ImportError, AttributeError):
                raise TypeError(f"another process would not find {name} in {module}") from None


def _ref(key: Key) -> session_pb2.LeaseRef:
    return session_pb2.LeaseRef(task_id=key[0], lease_epoch=key[1])

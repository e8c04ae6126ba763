"""What the tasks of a runner say, gathered over a turn of their loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

from podium.sdk.conversation import Outgoing
from podium.sdk.leases import Key
from podium.v1 import session_pb2


class Speech:
    """Passes on in one go what is said in a turn, in order.

    Args:
        send: is given what is said.
        inline: it leaves by this loop too, and not before what this loop has to do now.
    """

    def __init__(self, send: Callable[[list[Outgoing]], None], *, inline: bool) -> None:
        self._send = send
        self._inline = inline
        self._loop = asyncio.get_running_loop()
        self._thread_id = threading.get_ident()
        # Acks come first, by agent; those of tasks that end in the same turn are spared.
        self._acks: dict[Key, str] = {}
        self._said: list[Outgoing] = []
        self._due = False

    def before_tasks(self) -> None:
        """Prepares for tasks that are made now; `after_tasks` follows."""
        self._due = True
        if not self._inline:
            # Ahead of the first step of any handler, which may hold this loop up for longer than a
            # router waits for an ack.
            self._loop.call_soon(self._flush)

    def after_tasks(self) -> None:
        """Speaks behind the first steps of tasks, where nothing could leave ahead of them."""
        if self._inline:
            self._loop.call_soon(self._flush)

    def ack(self, agent_id: str, key: Key) -> None:
        """Says that a task has begun."""
        self._acks[key] = agent_id
        self._soon()

    def result(self, agent_id: str, key: Key, result: session_pb2.Result, *, alone: bool) -> None:
        """Says how a task has ended.

        Args:
            agent_id: whose task.
            key: its lease.
            result: how.
            alone: nothing else was said of it: then the result stands for its ack too.
        """
        if alone:
            self._acks.pop(key, None)
        self.say(("result", key, session_pb2.AgentFrame(agent_id=agent_id, result=result)))

    def say(self, item: Outgoing) -> None:
        """Says anything else; on the loop only."""
        self._said.append(item)
        self._soon()

    def say_from_thread(self, item: Outgoing) -> None:
        """Says anything else, from anywhere."""
        if threading.get_ident() == self._thread_id:
            self.say(item)
        else:
            self._loop.call_soon_threadsafe(self.say, item)

    def _soon(self) -> None:
        if not self._due:
            self._due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._due = False
        said, self._said = self._said, []
        if self._acks:
            acks, self._acks = self._acks, {}
            said[:0] = [("ack", key, _ack(agent_id, key)) for key, agent_id in acks.items()]
        if said:
            self._send(said)


def _ack(agent_id: str, key: Key) -> session_pb2.AgentFrame:
    frame = session_pb2.AgentFrame(agent_id=agent_id)
    frame.ack.lease.task_id, frame.ack.lease.lease_epoch = key
    return frame

from __future__ import annotations

import asyncio

import pytest

from podium.sdk.conversation import Outgoing
from podium.sdk.leases import Key
from podium.sdk.speech import Speech
from podium.v1 import session_pb2
from podium.v1.session_pb2 import AgentFrame

Said = list[list[tuple[str, str]]]


def speech(*, inline: bool) -> tuple[Speech, Said]:
    """Returns the speech of a runner, and what it has passed on each time."""
    passed: Said = []

    def send(items: list[Outgoing]) -> None:
        for kind, key, frame in items:
            if kind in ("ack", "result"):
                assert frame.agent_id == "a1"
                assert getattr(frame, kind).lease == ref(key)
        passed.append([(kind, key[0]) for kind, key, _ in items])

    return Speech(send, inline=inline), passed


def ref(key: Key) -> session_pb2.LeaseRef:
    return session_pb2.LeaseRef(task_id=key[0], lease_epoch=key[1])


def result(of: Speech, key: Key, *, alone: bool = True) -> None:
    of.result("a1", key, session_pb2.Result(lease=ref(key)), alone=alone)


async def turn() -> None:
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def test_what_is_said_in_a_turn_is_passed_on_together_acks_first() -> None:
    said, passed = speech(inline=True)

    said.say(("progress", ("t1", 1), AgentFrame()))
    said.ack("a1", ("t2", 2))
    result(said, ("t1", 1), alone=False)
    await turn()

    assert passed == [[("ack", "t2"), ("progress", "t1"), ("result", "t1")]]


@pytest.mark.parametrize(
    ("inline", "expected"),
    [
        (True, [[("ack", "t2"), ("result", "t1")]]),
        (False, [[("ack", "t1"), ("ack", "t2")], [("result", "t1")]]),
    ],
)
async def test_acks_are_ahead_of_the_first_steps_only_where_they_can_leave_ahead(
    inline: bool, expected: Said
) -> None:
    said, passed = speech(inline=inline)
    loop = asyncio.get_running_loop()

    said.before_tasks()
    said.ack("a1", ("t1", 1))
    loop.call_soon(result, said, ("t1", 1))  # a handler that returns in its first step
    said.ack("a1", ("t2", 2))
    said.after_tasks()
    await turn()

    assert passed == expected


async def test_an_ack_is_spared_by_nothing_but_a_result_that_is_alone() -> None:
    said, passed = speech(inline=True)

    for number, alone in enumerate((True, False)):
        said.ack("a1", (f"t{number}", 1))
        result(said, (f"t{number}", 1), alone=alone)
    said.ack("a1", ("t2", 1))
    said.say(("need_input", ("t2", 1), AgentFrame()))
    await turn()

    assert passed == [
        [("ack", "t1"), ("ack", "t2"), ("result", "t0"), ("result", "t1"), ("need_input", "t2")]
    ]


async def test_what_a_thread_says_is_passed_on_by_the_loop() -> None:
    said, passed = speech(inline=False)

    await asyncio.to_thread(said.say_from_thread, ("progress", ("t1", 1), AgentFrame()))
    said.say_from_thread(("progress", ("t2", 1), AgentFrame()))
    await turn()

    assert [item for items in passed for item in items] == [("progress", "t1"), ("progress", "t2")]

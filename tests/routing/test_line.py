from __future__ import annotations

import random
from typing import Any

import pytest

from podium.v1 import task_scheduler_pb2
from services.kernel import limits
from services.routing.adapters.frames import Frames
from services.routing.adapters.line import FENCES, StreamLine
from services.routing.core import effects
from services.routing.core.assignment import Lease
from services.routing.core.effects import ToAgent
from services.routing.core.session import Limits, Session, Stream
from tests.routing.desks import sent
from tests.routing.floor import Floor

Key = tuple[str, int]


class Bench:
    """A line, and frames for its agent."""

    def __init__(self) -> None:
        self.session: Session = Floor().agent("a1")
        self.sent: list[ToAgent] = []
        frames = Frames("router-1", Limits())
        self.line = StreamLine(Stream(1), frames, lambda _, batch: self.sent.extend(batch))

    def assign(self, number: int, data: bytes = b"") -> effects.SendAssign:
        grant = task_scheduler_pb2.Grant()
        grant.spec.payload.data = data
        return effects.SendAssign(self.session, Lease(f"t{number}", number), grant)

    def ready(self) -> effects.SendReady:
        return effects.SendReady(self.session, (), False, 30.0)

    def probe(self, nonce: int = 1) -> effects.SendProbe:
        return effects.SendProbe(self.session, nonce)

    def cancel(self, number: int) -> effects.SendCancel:
        return effects.SendCancel(self.session, f"t{number}", number, "CANCELED")

    def recall(self, *numbers: int) -> effects.SendRecall:
        return effects.SendRecall(self.session, tuple((f"t{n}", n) for n in numbers))

    def renew_ack(self, *lost: int) -> effects.SendRenewAck:
        return effects.SendRenewAck(self.session, (), tuple((f"t{n}", n) for n in lost))

    def settled(self, number: int) -> effects.SendResultAck:
        return effects.SendResultAck(self.session, f"t{number}", number, effects.ACCEPTED)

    async def frames(self, *queued: ToAgent) -> list[Any]:
        for effect in queued:
            assert self.line.put(effect)
        self.line.close()
        return [frame for response in await sent(self.line) for frame in response.frames]


@pytest.mark.parametrize("name", ["probe", "cancel", "recall", "renew_ack", "tune"])
async def test_control_leaves_before_bulk(name: str) -> None:
    bench = Bench()
    control = {
        "probe": bench.probe(),
        "cancel": bench.cancel(9),
        "recall": bench.recall(9),
        "renew_ack": bench.renew_ack(9),
        "tune": effects.SendTune(1, 30.0),
    }[name]

    frames = await bench.frames(bench.assign(1), bench.settled(2), control)

    kinds = [frame.WhichOneof("frame") for frame in frames]
    assert kinds == [name, "assign", "result_ack"]


async def test_frames_are_numbered_in_the_order_in_which_they_leave() -> None:
    bench = Bench()

    frames = await bench.frames(bench.assign(1), bench.assign(2), bench.probe(), bench.cancel(7))

    assert [frame.seq for frame in frames] == [1, 2, 3, 4]
    assert frames[0].WhichOneof("frame") == "probe"


@pytest.mark.parametrize("kind", ["cancel", "recall", "renew_ack"])
async def test_what_ends_a_lease_never_overtakes_what_is_queued_about_it(kind: str) -> None:
    bench = Bench()
    end = getattr(bench, kind)(2)

    frames = await bench.frames(bench.assign(1), bench.assign(2), end)

    assert frames[-1].WhichOneof("frame") == kind


@pytest.mark.parametrize("fence", ["ready", "superseded", "refusal", "drain"])
async def test_nothing_overtakes_the_begin_the_end_or_the_move_of_a_session(fence: str) -> None:
    bench = Bench()
    effect = {
        "ready": bench.ready(),
        "superseded": effects.SendSuperseded(1, bench.session, "i2"),
        "refusal": effects.SendRefusal(1, "a1", "DRAINING", "", "", True),
        "drain": effects.SendDrain(1, 0),
    }[fence]

    frames = await bench.frames(bench.assign(1), effect, bench.assign(2), bench.probe())

    kinds = [frame.WhichOneof("frame") for frame in frames]
    assert kinds == ["assign", fence, "assign", "probe"]


async def test_whatever_is_queued_each_lease_and_each_session_is_seen_in_order() -> None:
    draw = random.Random(7)
    for _ in range(300):
        bench = Bench()
        made: list[ToAgent] = []
        for _ in range(draw.randrange(2, 40)):
            number = draw.randrange(4)
            choices = (
                bench.assign(number),
                bench.settled(number),
                bench.cancel(number),
                bench.recall(number, draw.randrange(4)),
                bench.renew_ack(number),
                bench.probe(number),
                effects.SendTune(1, 30.0),
                bench.ready(),
                effects.SendRefusal(1, "a1", "INVALID_FIELD", "", "", False),
            )
            # Sessions begin rarely: else nothing would ever overtake anything.
            weights = (9, 5, 2, 2, 2, 2, 1, 0.3, 0.3)
            made.append(draw.choices(choices, weights)[0])
        await bench.frames(*made)

        assert sorted(map(id, bench.sent)) == sorted(map(id, made)), "each leaves once"
        for number in range(4):
            about = (f"t{number}", number)
            assert named(bench.sent, about) == named(made, about)
        for place, effect in enumerate(made):
            if type(effect) in FENCES:
                at = next(i for i, sent in enumerate(bench.sent) if sent is effect)
                after = {id(sent) for sent in bench.sent[at:]}
                assert all(id(later) in after for later in made[place:])


def named(queued: list[ToAgent], about: Key) -> list[int]:
    """Return the frames about a lease, in order."""
    return [id(effect) for effect in queued if about in leases(effect)]


def leases(effect: Any) -> tuple[Key, ...]:
    if isinstance(effect, effects.SendAssign):
        return (effect.lease.key,)
    if isinstance(effect, effects.SendRecall):
        return effect.leases
    if isinstance(effect, effects.SendRenewAck):
        return effect.lost
    if isinstance(effect, effects.SendCancel | effects.SendResultAck):
        return ((effect.task_id, effect.epoch),)
    return ()


async def test_large_assignments_leave_in_several_messages_and_are_numbered_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "stream_batch_bytes_max", 3_000)
    bench = Bench()
    for number in range(8):
        bench.line.put(bench.assign(number, bytes(1_000)))
    bench.line.close()

    responses = await sent(bench.line)

    assert [len(response.frames) for response in responses] == [2, 2, 2, 2]
    assert all(response.ByteSize() <= 3_000 for response in responses)
    frames = [frame for response in responses for frame in response.frames]
    assert [frame.seq for frame in frames] == list(range(1, 9))


@pytest.mark.parametrize("priority", [5, 6])
async def test_an_urgent_assignment_gathers_with_nothing_and_overtakes_nothing(
    priority: int,
) -> None:
    bench = Bench()
    offered: list[tuple[ToAgent, bool]] = []
    offer = bench.line.outbox.offer

    def noted(effect: ToAgent, **how: bool) -> bool:
        offered.append((effect, how.get("prompt", False)))
        return offer(effect, **how)

    bench.line.outbox.offer = noted  # type: ignore[method-assign,assignment]  # counts
    first, urgent = bench.assign(1), bench.assign(2)
    urgent.lease.priority = priority

    frames = await bench.frames(first, urgent)

    assert offered == [(first, False), (urgent, priority >= 6)]
    assert [frame.assign.task_id for frame in frames] == ["t1", "t2"]

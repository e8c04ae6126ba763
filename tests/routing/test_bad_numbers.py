"""Whole numbers and leases in the frames of agents that there cannot be: none gets any further."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import grpc.aio
import pytest

from podium.v1 import routing_pb2, session_pb2
from services.kernel.rpc import from_rpc_error
from tests.routing.peers import room
from tests.routing.test_bad_input import Frame, still_works, told

NO_LEASES = [
    session_pb2.LeaseRef(task_id="t1", lease_epoch=0),
    session_pb2.LeaseRef(task_id="t1", lease_epoch=-1),
    session_pb2.LeaseRef(task_id="t1", lease_epoch=-(1 << 63)),
    session_pb2.LeaseRef(task_id="", lease_epoch=1),
    session_pb2.LeaseRef(task_id="x" * 65, lease_epoch=1),
]


def about(lease: session_pb2.LeaseRef) -> list[Frame]:
    """Every frame that can be about a lease."""
    busy = session_pb2.Nack.REASON_BUSY
    return [
        Frame(agent_id="a1", ack=session_pb2.Ack(lease=lease)),
        Frame(agent_id="a1", nack=session_pb2.Nack(lease=lease, reason=busy)),
        Frame(agent_id="a1", renew=session_pb2.Renew(leases=[lease])),
        Frame(agent_id="a1", progress=session_pb2.Progress(lease=lease, report_seq=1)),
        Frame(agent_id="a1", need_input=session_pb2.NeedInput(lease=lease)),
        Frame(agent_id="a1", result=session_pb2.Result(lease=lease, success={})),
    ]


@pytest.mark.parametrize("lease", NO_LEASES, ids=range(len(NO_LEASES)))
async def test_leases_that_there_cannot_be(lease: session_pb2.LeaseRef) -> None:
    async with room() as here:
        wire = here.wire()
        await wire.hello("a1")
        frames = about(lease)
        await wire.send(*frames)
        refusals = await wire.until("a1", "refusal", len(frames))

        assert {told(each) for each in refusals} == {("INVALID_ARGUMENT", "INVALID_FIELD", False)}
        await still_works(here, wire, "a1")
        # The scheduler does not hear of them, but perhaps of the task that shows that it works.
        heard = here.scheduler.of_kind("ended") + here.scheduler.of_kind("renewed")
        assert not [each for each in heard if "after-a1" not in str(each)]

        late = here.wire()
        hello = session_pb2.Hello(
            instance_id="i2", capabilities=[{"name": "echo"}], in_flight=[lease]
        )
        await late.send(Frame(agent_id="a2", hello=hello))
        assert (await late.ended()).code == "INVALID_ARGUMENT"
        request = routing_pb2.ReportResultRequest(agent_id="a1")
        request.result.CopyFrom(session_pb2.Result(lease=lease, success={}))
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await here.stub.ReportResult(request)
        assert from_rpc_error(raised.value).code == "INVALID_ARGUMENT"


USAGES = [
    {"input_tokens": -1},
    {"output_tokens": (1 << 63) - 1},
    {"cost": float("nan")},
    {"cost": 1e308},
]


@pytest.mark.parametrize("usage", USAGES, ids=range(len(USAGES)))
async def test_usage_that_nobody_has(usage: dict[str, Any]) -> None:
    async with room() as here:
        wire = here.wire()
        await wire.hello("a1")
        lease = here.scheduler.grant("t1", await here.scheduler.class_of("echo"))
        await wire.until("a1", "assign")
        told_of = session_pb2.Progress(lease=lease, report_seq=1, usage=usage)
        await wire.send(Frame(agent_id="a1", progress=told_of))
        [refusal] = await wire.until("a1", "refusal")
        result = session_pb2.Result(lease=lease, success={}, usage=usage)
        await wire.send(Frame(agent_id="a1", result=result))
        [ended] = await here.scheduler.until("ended")

        assert told(refusal) == ("INVALID_ARGUMENT", "INVALID_FIELD", False)
        assert ended.failure.reason == "RESULT_INVALID"
        await still_works(here, wire, "a1")


def integers(message: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Name every field of a message, and of what it holds, that is a whole number."""
    for field in message.DESCRIPTOR.fields:
        if field.type == field.TYPE_MESSAGE:
            if not field.is_repeated and len(path) < 4:
                inner = getattr(message, field.name)
                yield from integers(type(inner)(), (*path, field.name))
        elif field.cpp_type in (field.CPPTYPE_INT32, field.CPPTYPE_INT64):
            if not field.is_repeated:
                yield (*path, field.name)


@pytest.mark.parametrize("path", list(integers(Frame())), ids=".".join)
async def test_no_whole_number_of_an_agent_s_frame_does_harm(path: tuple[str, ...]) -> None:
    async with room() as here:
        wire = here.wire()
        await wire.hello("a1")
        for number in (-1, -100_000, -(1 << 63), (1 << 63) - 1):
            frame = Frame(agent_id="a2")
            place = frame
            for name in path[:-1]:
                place = getattr(place, name)
            try:
                setattr(place, path[-1], number)
            except ValueError:
                continue  # of 32 bits
            other = here.wire()
            await other.hello("a2", "other")
            await other.send(frame, Frame(agent_id="a3", heartbeat={}))
            # The one behind it is answered, so it was taken.
            await other.until("a3", "refusal")
            await other.drop()
        await still_works(here, wire, "a1")
        for kind in ("ended", "started", "progressed", "needs_input"):
            assert all(each.lease.lease_epoch >= 1 for each in here.scheduler.of_kind(kind))

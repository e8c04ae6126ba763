from __future__ import annotations

import asyncio
import logging
from typing import Any

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2

from services.kernel import limits
from services.kernel.errors import (
    BY_CODE,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    PodiumError,
    ResourceExhausted,
    Unavailable,
    Violation,
)
from services.kernel.rpc import Guard, from_rpc_error, pushback_key, to_status
from tests.kernel.toy import Stub, Toy, forever, in_process, on_the_wire, path, text

CALLS = ["unary", "down", "up", "both"]


async def failure(call: Any) -> grpc.aio.AioRpcError:
    """Lets the call of any kind end and returns its error."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        if isinstance(call, grpc.aio.UnaryStreamCall | grpc.aio.StreamStreamCall):
            async for _ in call:
                pass
        else:
            await call
    return caught.value


def begin(stub: Stub, kind: str) -> Any:
    request = text("x") if kind in ("unary", "down") else iter([text("x")])
    return getattr(stub, kind)(request)


def raising(error: Exception, kind: str) -> Any:
    async def unary(request: Any, context: Any) -> Any:
        raise error

    async def stream(request: Any, context: Any) -> Any:
        raise error
        yield

    return unary if kind in ("unary", "up") else stream


@pytest.mark.parametrize("code", sorted(BY_CODE))
async def test_an_error_arrives_as_it_was_raised(stub: Stub, toy: Toy, code: str) -> None:
    sent = BY_CODE[code](
        "SOME_REASON",
        "Do this instead.",
        metadata={"limit": "7"},
        violations=[Violation("tasks[3].priority", "must be from 0 to 9")],
        retry_after_s=1.25,
    )
    toy.unary = raising(sent, "unary")

    call = stub.unary(text("x"))
    try:
        await call
    except grpc.aio.AioRpcError as error:
        got = from_rpc_error(error)
    except asyncio.CancelledError:
        # Which is how grpc.aio tells a caller of it.
        assert code == "CANCELLED"
        return

    assert type(got) is type(sent)
    assert (got.reason, got.message, got.metadata) == ("SOME_REASON", str(sent), {"limit": "7"})
    assert (got.violations, got.retry_after_s) == (sent.violations, 1.25)


@pytest.mark.parametrize("kind", CALLS)
async def test_each_kind_of_call_tells_its_error(stub: Stub, toy: Toy, kind: str) -> None:
    setattr(toy, kind, raising(NotFound("TASK_UNKNOWN", "No such task."), kind))

    error = await failure(begin(stub, kind))

    assert (error.code(), error.details()) == (grpc.StatusCode.NOT_FOUND, "No such task.")


@pytest.mark.parametrize("kind", CALLS)
async def test_a_bug_shows_nothing_but_a_reference_to_the_log(
    stub: Stub, toy: Toy, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    setattr(toy, kind, raising(RuntimeError("the password is swordfish"), kind))

    error = await failure(begin(stub, kind))
    got = from_rpc_error(error)

    assert (error.code(), got.reason) == (grpc.StatusCode.INTERNAL, "INTERNAL")
    for secret in ("swordfish", "RuntimeError", "Traceback", ".py"):
        assert secret not in repr(error)
    [record] = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert record.__dict__["reference"] == got.metadata["reference"]
    assert got.metadata["reference"] in got.message
    assert record.exc_info


async def test_a_call_that_the_peer_broke_off_tells_that_it_is_away() -> None:
    nothing = grpc.aio.Metadata()
    error = grpc.aio.AioRpcError(grpc.StatusCode.CANCELLED, nothing, nothing, "RST_STREAM")

    got = from_rpc_error(error)

    assert (got.code, got.reason, got.message) == ("UNAVAILABLE", "PEER_CANCELLED", "RST_STREAM")


async def test_a_status_has_exactly_one_error_info(stub: Stub, toy: Toy) -> None:
    status = to_status(InvalidArgument("SOME_REASON", "no", retry_after_s=0.0))
    infos = [d for d in status.details if d.Is(error_details_pb2.ErrorInfo.DESCRIPTOR)]

    assert len(infos) == 1 and len(status.details) == 2
    info = error_details_pb2.ErrorInfo()
    infos[0].Unpack(info)
    assert (info.domain, info.reason) == ("podium", "SOME_REASON")


async def test_the_largest_error_fits_into_the_headers(stub: Stub, toy: Toy) -> None:
    violations = [Violation(f"tasks[{n}]." + "x" * 500, "must " + "y" * 900) for n in range(1_000)]
    toy.unary = raising(
        InvalidArgument("INVALID_FIELD", "z" * 9_000, violations=violations), "unary"
    )

    got = from_rpc_error(await failure(stub.unary(text("x"))))

    assert got.reason == "INVALID_FIELD"
    assert len(got.violations) == limits.violations_len_max


async def test_a_retry_hint_is_also_a_pushback(stub: Stub, toy: Toy) -> None:
    toy.unary = raising(ResourceExhausted("RATE_LIMITED", "Later.", retry_after_s=0.25), "unary")

    error = await failure(stub.unary(text("x")))

    assert dict(error.trailing_metadata() or ())[pushback_key] == "250"


@pytest.mark.parametrize("kind", CALLS)
@pytest.mark.parametrize(
    "raw", [b"\xff\xff\xff", b"\x0a\x05ab", b"\x0a\x02\xff\xfe", b"\x0a\x03\xed\xa0\x80"]
)
async def test_malformed_bytes_are_an_invalid_argument_and_the_connection_lives(
    toy: Toy, guard: Guard, kind: str, raw: bytes
) -> None:
    async with on_the_wire(toy, guard) as stub:
        channel = stub.channel
        opened: Any
        if kind == "unary":
            opened = channel.unary_unary(path("Unary"))(raw)
        elif kind == "down":
            opened = channel.unary_stream(path("Down"))(raw)
        elif kind == "up":
            opened = channel.stream_unary(path("Up"))(iter([raw]))
        else:
            opened = channel.stream_stream(path("Both"))(iter([raw]))
        error = await failure(opened)

        assert from_rpc_error(error).reason == "MALFORMED_REQUEST"
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert (await stub.unary(text("still here"))).value == "still here"


async def test_an_oversize_message_is_refused_and_the_connection_lives(
    toy: Toy, guard: Guard
) -> None:
    async with on_the_wire(toy, guard) as stub:
        raw = stub.channel.unary_unary(path("Unary"))
        error = await failure(stub.unary(text("x" * (limits.message_bytes_max + 1))))

        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert await raw(text("still here").SerializeToString())


async def test_a_method_nobody_wrote_is_unimplemented(stub: Stub, toy: Toy) -> None:
    # As the base class of a generated servicer does it: not a coroutine.
    def unwritten(request: Any, context: Any) -> Any:
        context.set_code(grpc.StatusCode.UNIMPLEMENTED)
        raise NotImplementedError("Method not implemented!")

    for kind in CALLS:
        setattr(toy, kind, unwritten)
        got = from_rpc_error(await failure(begin(stub, kind)))
        assert (got.code, got.reason) == ("UNIMPLEMENTED", "UNIMPLEMENTED")


@pytest.mark.parametrize("way", [on_the_wire, in_process])
async def test_a_unary_call_without_a_deadline_is_capped(toy: Toy, way: Any) -> None:
    toy.unary = forever
    async with way(toy, Guard(unary_s_max=0.05)) as stub:
        error = await failure(stub.unary(text("x")))

    assert from_rpc_error(error).reason == "NO_DEADLINE"
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED


@pytest.mark.parametrize("way", [on_the_wire, in_process])
async def test_a_call_with_a_deadline_and_a_stream_are_not_capped(toy: Toy, way: Any) -> None:
    async def slow(request: Any, context: Any) -> Any:
        await asyncio.sleep(0.2)
        return request

    async def slow_stream(request: Any, context: Any) -> Any:
        await asyncio.sleep(0.2)
        yield request

    toy.unary, toy.down = slow, slow_stream
    async with way(toy, Guard(unary_s_max=0.05)) as stub:
        assert (await stub.unary(text("x"), timeout=10)).value == "x"
        assert [each.value async for each in stub.down(text("x"))] == ["x"]


async def test_a_timeout_inside_a_handler_is_a_bug_and_not_a_deadline(stub: Stub, toy: Toy) -> None:
    toy.unary = raising(TimeoutError(), "unary")

    assert (await failure(stub.unary(text("x")))).code() is grpc.StatusCode.INTERNAL


async def test_the_error_of_a_peer_is_passed_on(toy: Toy, guard: Guard) -> None:
    behind, front = Toy(), toy
    behind.unary = raising(ResourceExhausted("QUEUE_FULL", "Later.", retry_after_s=2), "unary")
    async with in_process(behind, Guard()) as peer, on_the_wire(front, guard) as stub:
        front.unary = lambda request, context: peer.unary(request)
        got = from_rpc_error(await failure(stub.unary(text("x"))))

    assert (got.reason, got.retry_after_s) == ("QUEUE_FULL", 2.0)


async def test_what_the_transport_says_becomes_an_error_of_the_tree() -> None:
    async with grpc.aio.insecure_channel("127.0.0.1:1") as channel:
        got = from_rpc_error(await failure(Stub(channel).unary(text("x"))))

    assert isinstance(got, Unavailable) and got.reason == "PEER_UNAVAILABLE"


def test_a_status_that_says_nothing_is_a_fault_of_the_peer() -> None:
    empty = grpc.aio.Metadata()
    error = grpc.aio.AioRpcError(grpc.StatusCode.UNKNOWN, empty, empty, details=None)
    got = from_rpc_error(error)

    assert isinstance(got, PodiumError)
    assert (got.code, got.reason) == ("INTERNAL", "PEER_FAULT")


@pytest.mark.parametrize("kind", CALLS)
@pytest.mark.parametrize("way", [on_the_wire, in_process])
async def test_whoever_is_not_admitted_is_not_served(toy: Toy, kind: str, way: Any) -> None:
    def admit(method: str, context: Any) -> None:
        raise PermissionDenied("ROLE_REQUIRED", f"{method} needs a role.")

    async def served(request: Any, context: Any) -> Any:
        raise AssertionError("served")

    setattr(toy, kind, served)
    async with way(toy, Guard(admit)) as stub:
        error = await failure(begin(stub, kind))

    assert error.code() is grpc.StatusCode.PERMISSION_DENIED
    assert path(kind.capitalize()) in (error.details() or "")


async def test_who_is_not_admitted_learns_nothing_of_their_bytes(toy: Toy) -> None:
    def admit(method: str, context: Any) -> None:
        raise PermissionDenied("ROLE_REQUIRED", "no")

    async with on_the_wire(toy, Guard(admit)) as stub:
        error = await failure(stub.channel.unary_unary(path("Unary"))(b"\xff"))

    assert error.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_a_caller_that_left_is_no_fault(
    stub: Stub, toy: Toy, caplog: pytest.LogCaptureFixture
) -> None:
    writing, left, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def down(request: Any, context: Any) -> None:
        try:
            writing.set()
            while not context.done():
                await context.write(text("x"))
            await context.write(text("x"))
        finally:
            ended.set()

    toy.down = down
    call = stub.down(text("x"))
    await asyncio.wait_for(writing.wait(), 5)
    call.cancel()
    left.set()
    await asyncio.wait_for(ended.wait(), 5)
    await asyncio.sleep(0.05)

    assert [r for r in caplog.records if r.levelno >= logging.ERROR] == []

"""One body for both transports: a client cannot tell whether there is a network."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio
import pytest

from services.kernel.inprocess import InProcessHub
from services.kernel.rpc import Guard
from tests.kernel.toy import Stub, Toy, forever, text
from tests.support.waiting import eventually

StatusCode = grpc.StatusCode


async def test_a_unary_call_is_answered(stub: Stub) -> None:
    call = stub.unary(text("hello"))

    assert (await call).value == "hello"
    assert await call.code() is StatusCode.OK
    assert call.done() and not call.cancelled()


async def test_a_stream_of_responses_is_read_in_order(stub: Stub) -> None:
    assert [each.value async for each in stub.down(text("200"))] == [
        str(number) for number in range(200, 0, -1)
    ]


async def test_read_gives_eof_at_the_end_and_again(stub: Stub) -> None:
    call = stub.down(text("1"))

    assert (await call.read()).value == "1"
    assert await call.read() is grpc.aio.EOF
    assert await call.read() is grpc.aio.EOF
    assert await call.code() is StatusCode.OK


async def test_a_stream_of_requests_is_collected(stub: Stub) -> None:
    call = stub.up()
    for letter in "abc":
        await call.write(text(letter))
    await call.done_writing()

    assert (await call).value == "a,b,c"


async def test_a_request_iterator_is_written_for_the_caller(stub: Stub) -> None:
    assert (await stub.up(iter([text("a"), text("b")]))).value == "a,b"


async def test_both_directions_interleave(stub: Stub) -> None:
    call = stub.both()
    for letter in "abc":
        await call.write(text(letter))
        assert (await call.read()).value == letter
    await call.done_writing()

    assert await call.read() is grpc.aio.EOF


async def test_metadata_travels_both_ways(stub: Stub, toy: Toy) -> None:
    async def unary(request: Any, context: Any) -> Any:
        await context.send_initial_metadata(
            (("seen", dict(context.invocation_metadata())["mine"]),)
        )
        context.set_trailing_metadata((("last", "word"),))
        return request

    toy.unary = unary
    call = stub.unary(text("x"), metadata=(("mine", "yours"),))
    await call

    assert dict(await call.initial_metadata())["seen"] == "yours"
    assert dict(await call.trailing_metadata())["last"] == "word"


async def test_an_abort_after_messages_lets_them_be_read_first(stub: Stub, toy: Toy) -> None:
    async def down(request: Any, context: Any) -> Any:
        yield text("one")
        await context.abort(StatusCode.FAILED_PRECONDITION, "enough")

    toy.down = down
    call = stub.down(text(""))

    assert (await call.read()).value == "one"
    with pytest.raises(grpc.aio.AioRpcError, match="enough") as caught:
        await call.read()
    assert caught.value.code() is StatusCode.FAILED_PRECONDITION


async def test_a_deadline_ends_the_call_and_the_handler(stub: Stub, toy: Toy) -> None:
    ended = asyncio.Event()

    async def unary(request: Any, context: Any) -> Any:
        try:
            await forever()
        finally:
            ended.set()

    toy.unary = unary
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.unary(text(""), timeout=0.2)

    assert caught.value.code() is StatusCode.DEADLINE_EXCEEDED
    await asyncio.wait_for(ended.wait(), 5)


async def test_cancelling_a_call_cancels_its_handler(stub: Stub, toy: Toy) -> None:
    started, ended = asyncio.Event(), asyncio.Event()

    async def both(requests: Any, context: Any) -> Any:
        started.set()
        try:
            await forever()
        finally:
            ended.set()
        yield text("never")

    toy.both = both
    call = stub.both()
    await call.write(text("go"))
    await asyncio.wait_for(started.wait(), 5)

    assert call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call.read()
    assert call.cancelled() and await call.code() is StatusCode.CANCELLED
    await asyncio.wait_for(ended.wait(), 5)


async def test_giving_up_a_read_cancels_the_whole_call(stub: Stub, toy: Toy) -> None:
    toy.down = forever
    call = stub.down(text(""))

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await call.read()

    assert await call.code() is StatusCode.CANCELLED


async def test_a_write_after_the_end_is_an_error(stub: Stub, toy: Toy) -> None:
    async def both(requests: Any, context: Any) -> Any:
        yield text("bye")

    toy.both = both
    call = stub.both()
    assert [each.value async for each in call] == ["bye"]

    with pytest.raises(asyncio.InvalidStateError):
        await call.write(text("too late"))


async def test_a_write_after_done_writing_is_an_error(stub: Stub) -> None:
    call = stub.both()
    await call.done_writing()

    with pytest.raises(asyncio.InvalidStateError):
        await call.write(text("too late"))


async def test_a_method_that_is_not_there_is_unimplemented(stub: Stub) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.absent(text(""))

    assert caught.value.code() is StatusCode.UNIMPLEMENTED


async def test_a_done_callback_is_called_on_both_sides(stub: Stub, toy: Toy) -> None:
    served, called = asyncio.Event(), asyncio.Event()

    async def unary(request: Any, context: Any) -> Any:
        context.add_done_callback(lambda _: served.set())
        return request

    toy.unary = unary
    call = stub.unary(text("x"))
    call.add_done_callback(lambda _: called.set())
    await call

    await asyncio.wait_for(called.wait(), 5)
    await asyncio.wait_for(served.wait(), 5)


async def test_a_reader_that_stands_still_holds_up_the_writer(stub: Stub, toy: Toy) -> None:
    written = 0

    async def down(request: Any, context: Any) -> None:
        nonlocal written
        # 100 MB in all: no window and no queue takes that.
        for _ in range(1_000):
            await context.write(text("x" * 100_000))
            written += 1

    toy.down = down
    call = stub.down(text(""))
    await call.read()
    before = -1
    while before != written:
        before = written
        await asyncio.sleep(0.05)

    assert written < 1_000
    call.cancel()


async def test_a_closed_channel_cancels_its_calls(stub: Stub, toy: Toy) -> None:
    toy.down = forever
    call = stub.down(text(""))
    reading = asyncio.create_task(call.read())
    await asyncio.sleep(0)
    await stub.channel.close()

    with pytest.raises(asyncio.CancelledError):
        await reading


async def test_the_deadline_is_known_to_the_handler(stub: Stub, toy: Toy) -> None:
    async def unary(request: Any, context: Any) -> Any:
        # The wire rounds a deadline up a little.
        remaining = context.time_remaining()
        return text("none" if remaining is None else str(20 < remaining < 31))

    toy.unary = unary

    assert (await stub.unary(text(""), timeout=30)).value == "True"
    assert (await stub.unary(text(""))).value == "none"


async def test_nobody_there_is_unavailable() -> None:
    stub = Stub(InProcessHub().dial("nobody:1"))

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.unary(text(""))

    assert caught.value.code() is StatusCode.UNAVAILABLE


async def test_a_call_that_waits_for_ready_is_served_by_who_comes_later(toy: Toy) -> None:
    hub = InProcessHub()
    call = Stub(hub.dial("later:1")).unary(text("hello"), wait_for_ready=True)
    hub.add(toy.register, Guard())

    assert (await call).value == "hello"


async def test_servicers_are_added_to_the_hub_as_to_a_server(toy: Toy) -> None:
    hub = InProcessHub()
    toy.register(hub)

    assert (await Stub(hub.dial("toy:1")).unary(text("hello"))).value == "hello"


async def test_stopping_a_servicer_breaks_off_its_open_calls(toy: Toy) -> None:
    hub = InProcessHub()
    stop = hub.add(toy.register, Guard())
    toy.down = forever
    call = Stub(hub.dial("toy:1")).down(text(""))
    reading = asyncio.create_task(call.read())
    await asyncio.sleep(0)
    await stop(0)

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await reading
    assert caught.value.code() is StatusCode.UNAVAILABLE


async def test_a_call_nobody_holds_is_cancelled(toy: Toy) -> None:
    hub = InProcessHub()
    hub.add(toy.register, Guard())
    ended = asyncio.Event()

    async def down(request: Any, context: Any) -> None:
        context.add_done_callback(lambda _: ended.set())
        await forever()

    toy.down = down
    call = Stub(hub.dial("toy:1")).down(text(""))
    await asyncio.sleep(0.01)
    del call

    await asyncio.wait_for(ended.wait(), 5)
    await eventually(lambda: len(asyncio.all_tasks()) == 1)

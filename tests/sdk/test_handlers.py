from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any, get_origin

import pydantic
import pytest

from podium.sdk.agent import Agent
from podium.sdk.context import Context
from podium.sdk.handlers import Handler, find
from podium.sdk.partials import Return
from podium.sdk.testing import run_handler


@dataclass
class Order:
    item: str
    count: int = 1


@dataclass
class Blob:
    data: bytes


@dataclass
class Bill:
    total: float


class Person(pydantic.BaseModel):
    name: str
    age: int


class Greeting(pydantic.BaseModel):
    text: str


def agent() -> Agent:
    return Agent("worker", agent_id="a1")


async def test_dataclasses_go_in_and_out() -> None:
    shop = agent()

    @shop.handles("shop.bill")
    async def bill(order: Order) -> Bill:
        return Bill(total=2.5 * order.count)

    record = await run_handler(shop, "shop.bill", {"item": "tea", "count": 2})

    assert record.result == {"total": 5.0}


async def test_pydantic_models_go_in_and_out() -> None:
    host = agent()

    @host.handles("greet")
    async def greet(person: Person) -> Greeting:
        return Greeting(text=f"hello {person.name}")

    record = await run_handler(host, "greet", Person(name="Ada", age=36))

    assert record.result == {"text": "hello Ada"}


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ({"count": 2}, "the payload does not fit: item is missing"),
        ({"item": "tea", "count": "2"}, "the payload does not fit: count is not an integer"),
        ([1], "the payload is not an object"),
        ("tea", "the payload is not an object"),
    ],
)
async def test_a_payload_that_does_not_fit_fails_for_good_and_names_the_field(
    payload: Any, message: str
) -> None:
    shop = agent()

    @shop.handles("shop.bill")
    async def bill(order: Order) -> None:
        raise AssertionError("it is not called")

    record = await run_handler(shop, "shop.bill", payload)

    assert record.error is not None
    assert (record.error.reason, record.error.retryable) == ("INVALID_PAYLOAD", False)
    assert record.error.message == message


async def test_a_pydantic_model_names_the_field_too() -> None:
    host = agent()

    @host.handles("greet")
    async def greet(person: Person) -> None: ...

    record = await run_handler(host, "greet", {"name": "Ada", "age": "old"})

    assert record.error is not None
    assert record.error.reason == "INVALID_PAYLOAD"
    assert record.error.message.startswith("the payload does not fit: age is not valid: input")


async def test_a_result_that_is_not_what_the_handler_promises_is_a_failure() -> None:
    host = agent()

    @host.handles("greet")
    async def greet(name: str) -> Greeting:
        return {"txt": name}  # type: ignore[return-value]  # that is the point

    record = await run_handler(host, "greet", "Ada")

    assert record.error is not None
    assert (record.error.reason, record.error.retryable) == ("INVALID_RESULT", True)
    assert "text is not valid: field required" in record.error.message


@pytest.mark.parametrize("wanted", [list[Order], Order | None, dict[str, Order]])
async def test_records_inside_a_result_are_checked_as_well(wanted: Any) -> None:
    host = agent()

    async def greet(name: str) -> Any:
        bad = {"itm": name}
        return {list: [bad], dict: {"a": bad}}.get(get_origin(wanted), bad)

    greet.__annotations__["return"] = wanted
    host.handles("greet")(greet)

    record = await run_handler(host, "greet", "Ada")

    assert record.error is not None
    assert record.error.reason == "INVALID_RESULT"
    assert "item is missing" in record.error.message


async def test_sets_decimals_and_spans_come_back_as_they_are_taken() -> None:
    host = agent()

    @host.handles("greet")
    async def greet(name: str) -> Any:
        return {"set": {1}, "price": Decimal("1.50"), "span": timedelta(minutes=1)}

    record = await run_handler(host, "greet", "Ada")

    assert record.value() == {"set": [1], "price": "1.50", "span": 60.0}


async def test_bytes_in_a_record_go_out_as_they_come_in() -> None:
    host = agent()

    @host.handles("copy")
    async def copy(blob: Blob) -> Blob:
        return Blob(blob.data * 2)

    record = await run_handler(host, "copy", Blob(b"\xff"))

    assert record.value() == {"data": "//8="}


@pytest.mark.parametrize(
    "hint",
    [AsyncIterator[Bill], AsyncGenerator[Bill | Return[str], None], AsyncIterable[Bill | None]],
)
async def test_each_piece_of_a_streaming_handler_is_checked_before_it_is_reported(
    hint: Any,
) -> None:
    host = agent()

    async def bills(total: Any) -> Any:
        yield {"total": 1.5}
        yield Bill(total)
        yield Return("paid")

    bills.__annotations__["return"] = hint
    host.handles("bills")(bills)

    good, bad = [await run_handler(host, "bills", total) for total in (2.5, "much")]

    assert good.value() == "paid"
    assert [len(record.partials) for record in (good, bad)] == [2, 1]
    assert bad.error is not None
    assert (bad.error.reason, bad.error.retryable) == ("INVALID_RESULT", True)
    assert "total is not a number" in bad.error.message


async def test_the_pieces_of_a_plain_function_are_checked_too() -> None:
    host = agent()

    @host.handles("bills")
    def bills(total: Any) -> Iterator[Bill]:
        yield Bill(total)

    good, bad = [await run_handler(host, "bills", total) for total in (2.5, "much")]

    assert good.value() == [{"total": 2.5}]
    assert bad.error is not None
    assert bad.error.reason == "INVALID_RESULT"


async def test_a_result_that_json_cannot_hold_is_a_failure_without_details_of_the_program() -> None:
    host = agent()

    @host.handles("greet")
    async def greet(name: str) -> Any:
        return 1j

    record = await run_handler(host, "greet", "Ada")

    assert record.error is not None
    assert (record.error.reason, record.error.retryable) == ("INVALID_RESULT", False)
    assert "complex" not in record.error.message


async def test_annotations_may_name_what_the_surroundings_define() -> None:
    @dataclass
    class Local:
        number: int

    host = agent()

    @host.handles("double")
    async def double(local: Local) -> int:
        return 2 * local.number

    assert (await run_handler(host, "double", {"number": 4})).result == 8


def test_an_annotation_that_is_not_known_is_an_error_at_once() -> None:
    host = agent()

    with pytest.raises(TypeError, match="an annotation that is not known: Missing"):

        @host.handles("double")
        async def double(local: Missing) -> int: ...  # type: ignore[name-defined]  # noqa: F821 - that is the point


async def test_a_partial_and_an_object_with_call_can_handle() -> None:
    class Doubler:
        async def __call__(self, number: int) -> int:
            return 2 * number

    def power(exponent: int, number: int) -> int:
        return int(number**exponent)

    host = agent()
    host.handles("square")(functools.partial(power, 2))
    host.handles("double")(Doubler())

    assert (await run_handler(host, "square", 5)).result == 25
    assert (await run_handler(host, "double", 5)).result == 10


def test_how_a_function_runs_is_read_from_what_it_is() -> None:
    async def single(payload: str) -> None: ...

    async def many(payload: str) -> AsyncIterator[str]:
        yield payload

    def plain(payload: str, task: Context) -> None: ...

    kinds = [Handler.of(f) for f in (single, many, plain)]

    assert [(k.is_async, k.streams, k.wants_context) for k in kinds] == [
        (True, False, False),
        (True, True, False),
        (False, False, True),
    ]


async def test_the_context_goes_to_the_second_parameter_and_defaults_are_left_alone() -> None:
    host = agent()

    @host.handles("default")
    async def default(text: str, times: int = 2) -> str:
        return text * times

    @host.handles("keyword")
    async def keyword(text: str, *, times: int = 3) -> str:
        return text * times

    @host.handles("both")
    async def both(text: str, task: Context | None = None, times: int = 4) -> str:
        assert task is not None
        return text * times

    @host.handles("bare")
    async def bare(text: str, task, *rest: str, **more: str) -> str:  # type: ignore[no-untyped-def]  # that is the point
        return f"{task.type}{rest}{more}"

    said = [(await run_handler(host, kind, "a")).value() for kind in host.handlers]

    assert said == ["aa", "aaa", "aaaa", "bare(){}"]


async def three(a: str, b: Any, c: str) -> None: ...
async def none() -> None: ...
async def by_name(a: str, *, task: Context) -> None: ...
async def by_name_with_default(a: str, *, task: Context | None = None) -> None: ...
async def late(a: str, times: int = 2, task: Context | None = None) -> None: ...
async def loose(*payload: str) -> None: ...


@pytest.mark.parametrize(
    "function", [three, none, by_name, by_name_with_default, late, loose], ids=lambda f: f.__name__
)
def test_what_a_handler_would_never_be_given_is_an_error_at_once(function: Any) -> None:
    with pytest.raises(TypeError, match="must take the payload and, if it likes, the context"):
        Handler.of(function)


def test_a_second_parameter_that_is_no_context_is_an_error_at_once() -> None:
    async def work(a: str, times: int) -> None: ...

    with pytest.raises(TypeError, match="work gets the context as times, which is no Context"):
        Handler.of(work)


def test_only_what_another_process_can_find_may_run_in_one() -> None:
    host = agent()

    with pytest.raises(TypeError, match="at the top level of a module"):

        @host.handles("a", pool="process")
        def local(payload: str) -> None: ...

    with pytest.raises(TypeError, match="is async: only a plain function"):

        @host.handles("b", pool="process")
        async def eager(payload: str) -> None: ...

    with pytest.raises(TypeError, match="at the top level of a module"):
        host.handles("c", pool="process")(lambda payload: None)


def test_a_function_is_found_by_its_reference() -> None:
    reference = Handler.of(top_level, pool="process").reference

    assert find(*reference) is top_level


def top_level(payload: str = "") -> None:
    """Stands for a handler at the top level of a module."""

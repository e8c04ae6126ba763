from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, NewType, NotRequired, TypedDict, TypeVar
from uuid import UUID

import pydantic
import pytest

from podium.sdk.schema import Misfit, converter

T = TypeVar("T")


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Line:
    item: str
    price: float
    count: int = 1


@dataclass
class Order:
    lines: list[Line]
    customer: str | None = None
    kind: Literal["new", "again"] = "new"
    tags: dict[str, int] = field(default_factory=dict)


@dataclass
class Node:
    name: str
    below: list[Node] = field(default_factory=list)


@dataclass
class Even:
    number: int

    def __post_init__(self) -> None:
        if self.number % 2:
            raise ValueError("it is odd")


@dataclass
class Positive:
    number: int

    def __post_init__(self) -> None:
        if self.number < 0:
            raise TypeError("it is negative")


@dataclass
class Pair(Generic[T]):
    left: T
    right: list[T]


class Options(TypedDict):
    depth: int
    label: NotRequired[str]


class Person(pydantic.BaseModel):
    name: str
    age: int = pydantic.Field(ge=0)


Key = NewType("Key", str)


@pytest.mark.parametrize(
    ("hint", "value", "expected"),
    [
        (Any, {"a": 1}, {"a": 1}),
        (float, 3, 3.0),
        (int | None, None, None),
        (Key, "k", "k"),
        (Annotated[int, "metres"], 3, 3),
        (list[int], [1, 2], [1, 2]),
        (Sequence[str], ["a"], ["a"]),
        (tuple[int, str], [1, "a"], (1, "a")),
        (tuple[int, ...], [1, 2, 3], (1, 2, 3)),
        (Mapping[str, float], {"a": 1}, {"a": 1.0}),
        (Literal["a", 1], 1, 1),
        (Color, "red", Color.RED),
        (date, "2024-02-29", date(2024, 2, 29)),
        (datetime, "2024-02-29T12:00:00+00:00", datetime(2024, 2, 29, 12, tzinfo=UTC)),
        (UUID, "12345678123456781234567812345678", UUID(int=0x12345678123456781234567812345678)),
        (Line, {"item": "tea", "price": 2}, Line("tea", 2.0)),
        (Node, {"name": "a", "below": [{"name": "b"}]}, Node("a", [Node("b")])),
        (Options, {"depth": 1}, {"depth": 1}),
        (Person, {"name": "Ada", "age": 36}, Person(name="Ada", age=36)),
        (list[Person], [{"name": "Ada", "age": 36}], [Person(name="Ada", age=36)]),
        (Line | str, "tea", "tea"),
        (set[str], ["a", "b", "a"], {"a", "b"}),
        (frozenset[int], [1], frozenset({1})),
        (Decimal, "1.50", Decimal("1.50")),
        (Decimal, 0.1, Decimal("0.1")),
        (timedelta, 90.5, timedelta(seconds=90.5)),
        (dict[int, str], {"1": "a"}, {1: "a"}),
        (dict[Color, int], {"red": 1}, {Color.RED: 1}),
        (Pair[int], {"left": 1, "right": [2]}, Pair(1, [2])),
    ],
)
def test_data_that_fits_is_converted(hint: Any, value: Any, expected: Any) -> None:
    converted = converter(hint)(value, "")

    assert converted == expected
    assert type(converted) is type(expected)


@pytest.mark.parametrize(
    ("hint", "value", "faults"),
    [
        (int, "3", "is not an integer"),
        (int, True, "is not an integer"),
        (float, "x", "is not a number"),
        (str, None, "is not a string"),
        (bool, 1, "is not true or false"),
        (None, 0, "is not null"),
        (Literal["a", 1], True, "is none of 'a', 1"),
        (Color, "green", "is none of 'red', 'blue'"),
        (date, "tomorrow", "is not a date as ISO 8601 has it"),
        (tuple[int, str], [1], "is not a list of 2"),
        (list[int], {"a": 1}, "is not a list"),
        (list[int], [1, "b", None], "[1] is not an integer; [2] is not an integer"),
        (dict[str, int], {"a": {}}, "a is not an integer"),
        (Line, [], "is not an object"),
        (Line, {"prise": 1}, "item is missing; price is missing; prise is not known"),
        (
            Order,
            {"lines": [{"item": "tea", "price": "2"}, {"item": 1, "price": 1}], "kind": "old"},
            "kind is none of 'new', 'again'; lines[0].price is not a number;"
            " lines[1].item is not a string",
        ),
        (Order, {"lines": [], "customer": 3}, "customer is not a string"),
        (datetime | None, "no", "is not a date and time as ISO 8601 has it"),
        (int | str, [], "is of none of the types it may have"),
        (set[int], ["a"], "[0] is not an integer"),
        (set[Any], [[]], "holds what no set can hold: objects or lists"),
        (Decimal, "zz", "is not a decimal number"),
        (Decimal, "NaN", "is not a decimal number"),
        (timedelta, "zz", "is not a number of seconds"),
        (timedelta, 1e300, "is not a number of seconds"),
        (dict[int, str], {"z": "a"}, "z as a key is not an integer"),
        (
            Pair[int],
            {"left": "x", "right": ["y"]},
            "left is not an integer; right[0] is not an integer",
        ),
        (Positive, {"number": -1}, "is not valid: it is negative"),
        (Line, Line(item=3, price=1.0), "item is not a string"),  # type: ignore[arg-type]  # the fault under test
        (list[Line], [Line("tea", "2")], "[0].price is not a number"),  # type: ignore[arg-type]  # the fault under test
        (Node, {"name": "a", "below": [{"below": []}]}, "below[0].name is missing"),
        (Even, {"number": 3}, "is not valid: it is odd"),
        (Options, {"label": 1}, "depth is missing; label is not a string"),
        (Line | None, {"item": "tea"}, "price is missing"),
        (
            list[Person],
            [{"name": "Ada", "age": -1}],
            "[0].age is not valid: input should be greater than or equal to 0",
        ),
    ],
)
def test_data_that_does_not_fit_is_refused_with_every_fault_by_its_path(
    hint: Any, value: Any, faults: str
) -> None:
    with pytest.raises(Misfit) as caught:
        converter(hint)(value, "")
    assert str(caught.value) == faults


@pytest.mark.parametrize("hint", [complex, list[complex], Callable[[], int], bytearray])
def test_what_no_data_can_be_checked_against_is_refused_when_it_is_declared(hint: Any) -> None:
    with pytest.raises(TypeError, match="no data can be checked against"):
        converter(hint)


def test_a_long_list_of_faults_is_cut() -> None:
    with pytest.raises(Misfit) as caught:
        converter(list[int])(["x"] * 100, "")
    assert len(caught.value.faults) == 100
    assert str(caught.value).endswith("[19] is not an integer; and 80 more")


@dataclass
class File:
    data: bytes
    either: bytes | str = ""


@pytest.mark.parametrize("text", ["+/8A", "-_8A"])
def test_bytes_within_json_are_base64_in_either_alphabet(text: str) -> None:
    assert converter(File)({"data": text}, "") == File(b"\xfb\xff\x00")
    assert converter(File)({"data": "YQ", "either": "YQ=="}, "") == File(b"a", "YQ==")
    assert converter(list[bytes])(["", b"as it is"], "") == [b"", b"as it is"]


@pytest.mark.parametrize("value", ["é", "a", "YQ==YQ==", "Y Q", 7, None])
def test_what_is_no_base64_does_not_fit_bytes(value: Any) -> None:
    with pytest.raises(Misfit, match="data is not bytes in base64"):
        converter(File)({"data": value}, "")


def test_text_is_no_bytes() -> None:
    with pytest.raises(Misfit, match="is not bytes"):
        converter(bytes | None)("YQ==", "")

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal, NewType, NotRequired, TypedDict
from uuid import UUID

import pydantic
import pytest

from podium.sdk.schema import Misfit, converter


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
        (complex, "anything", "anything"),
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
        (Order, {"lines": [], "customer": 3}, "customer is of none of the types it may have"),
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


def test_a_long_list_of_faults_is_cut() -> None:
    with pytest.raises(Misfit) as caught:
        converter(list[int])(["x"] * 100, "")
    assert len(caught.value.faults) == 100
    assert str(caught.value).endswith("[19] is not an integer; and 80 more")

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from typing import Any

import numpy
import pydantic
import pytest

from podium.sdk import payloads
from podium.sdk.agent import Agent
from podium.sdk.payloads import NotFinite
from podium.sdk.testing import run_handler


@dataclass
class Score:
    value: float
    note: str | None = None


class Bound(enum.Enum):
    NONE = math.inf


class Model(pydantic.BaseModel):
    scores: list[float]
    note: str | None = None


class Lenient(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(ser_json_inf_nan="null")
    score: float


class Constant(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(ser_json_inf_nan="constants")
    score: float
    note: str = "NaN"


@pytest.mark.parametrize(
    ("value", "where"),
    [
        (math.nan, "it is nan"),
        ({"a": [1.0, {"b": -math.inf}]}, r"a\[1\]\.b is -inf"),
        ((1.0, math.nan), r"\[1\] is nan"),
        ({math.nan: 1}, "a key of it is nan"),
        (Score(math.nan), "value is nan"),
        ([Score(math.inf)], r"\[0\]\.value is inf"),
        (Bound.NONE, "it is inf"),
        (numpy.array([[1.0, math.nan]]), r"\[0\]\[1\] is nan"),
        ({"a": numpy.float32("nan")}, "a is nan"),
        (Model(scores=[1.0, math.nan]), r"scores\[1\] is nan"),
        (Constant(score=math.nan), "score is nan"),
        ([Model(scores=[math.nan])], r"\[0\]\.scores\[0\] is nan"),
        ({"a": {math.nan}}, "one of a is nan"),
    ],
)
def test_a_number_that_json_cannot_hold_is_refused_and_named(value: Any, where: str) -> None:
    with pytest.raises(NotFinite, match=f"^{where}, which JSON cannot hold$"):
        payloads.encode(value)


@pytest.mark.parametrize(
    ("value", "data"),
    [
        ({"a": None, "b": 1.5}, b'{"a":null,"b":1.5}'),
        (Score(1.0), b'{"value":1.0,"note":null}'),
        (Model(scores=[1.0]), b'{"scores":[1.0],"note":null}'),
        # What a model has chosen for itself.
        (Lenient(score=math.nan), b'{"score":null}'),
        ([Lenient(score=math.nan)], b'[{"score":null}]'),
        (Constant(score=1.0), b'{"score":1.0,"note":"NaN"}'),
        (["null", numpy.array([1, 2])], b'["null",[1,2]]'),
    ],
)
def test_what_json_can_hold_goes_through(value: Any, data: bytes) -> None:
    assert payloads.encode(value).data == data


async def test_such_a_result_fails_the_task_and_does_not_become_null() -> None:
    host = Agent("worker", agent_id="a1")

    @host.handles("work")
    async def work(payload: str) -> dict[str, float]:
        return {"score": math.nan}

    record = await run_handler(host, "work")

    assert record.error is not None
    assert (record.error.reason, record.error.retryable) == ("INVALID_RESULT", False)
    assert record.error.message == ("the result does not fit: score is nan, which JSON cannot hold")

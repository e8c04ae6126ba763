from __future__ import annotations

import os
import pickle

import pytest

from services.task_scheduler.adapters.plain import pack, unpack


def test_plain_values_come_back() -> None:
    value = {"a": [1, -(1 << 70), 0.5, "é", b"\0\xff", None, True, (1, (2,))], "b": {}}

    assert unpack(pack(value)) == value


@pytest.mark.parametrize("value", [os.system, ValueError("x"), pytest])
def test_nothing_but_plain_values_is_made(value: object) -> None:
    try:
        packed = pickle.dumps(value)
    except TypeError:
        packed = b"cos\nsystem\n(S'true'\ntR."

    with pytest.raises(ValueError, match=r"no plain value|not packed"):
        unpack(packed)


@pytest.mark.parametrize("packed", [b"", b"\x80", b"nonsense", pack([1, 2])[:-3]])
def test_what_is_damaged_is_an_error(packed: bytes) -> None:
    with pytest.raises(ValueError, match="not packed values"):
        unpack(packed)

from __future__ import annotations

import grpc
import pytest

from services.kernel import errors
from services.kernel.errors import BY_CODE, InvalidArgument, PodiumError, Violation


def test_there_is_one_class_for_each_code_that_says_something() -> None:
    silent = {"OK", "UNKNOWN", "DATA_LOSS"}

    assert set(BY_CODE) == {code.name for code in grpc.StatusCode} - silent


def test_the_docstring_draws_the_tree() -> None:
    drawn = errors.__doc__ or ""

    assert all(f"── {kind.__name__} " in drawn for kind in BY_CODE.values())


def test_an_error_carries_what_a_program_needs() -> None:
    error = InvalidArgument(
        "INVALID_FIELD",
        "priority must be from 0 to 9.",
        metadata={"field": "priority"},
        violations=[Violation("priority", "must be from 0 to 9")],
        retry_after_s=1.5,
    )

    assert (error.code, error.reason, str(error)) == (
        "INVALID_ARGUMENT",
        "INVALID_FIELD",
        "priority must be from 0 to 9.",
    )
    assert error.metadata == {"field": "priority"}
    assert error.violations[0].field == "priority"
    assert error.retry_after_s == 1.5


@pytest.mark.parametrize("reason", ["", "lower", "WITH SPACE", "X", "_A", "A" * 64])
def test_a_reason_that_breaks_the_form_is_a_bug(reason: str) -> None:
    with pytest.raises(AssertionError):
        PodiumError(reason, "no")

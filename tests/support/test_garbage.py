"""Garbage of tests is looked for between them, and what it tells of is theirs."""

from __future__ import annotations

import ast
import gc
import traceback
import weakref
from collections.abc import Iterator

import pytest

from tests.support.garbage import WHOLE_S, Looks

SOURCE = "\n".join(f"def f{n}(a, b): return [a + b * {n} for c in (a or b)]" for n in range(40))
"""Enough to parse for Python to look for garbage in the midst of it, were it to."""


class Node:
    """Refers to itself, so that counting references never frees it."""

    def __init__(self) -> None:
        self.itself = self


class Loud(Node):
    """Tells of an error as it goes, as a task does whose exception nobody took."""

    told = 0

    def __del__(self) -> None:
        try:
            raise ValueError("nobody took me")
        except ValueError as error:
            Loud.told += len(traceback.format_exception(error)) > 0


class Between:
    """What is between tests, at a time that only moves when told."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.looks = Looks(lambda: self.now_s)


@pytest.fixture
def between() -> Iterator[Between]:
    frozen = gc.get_freeze_count()
    yield Between()
    if frozen:
        gc.freeze()


def test_parsing_is_not_interrupted_by_what_tells_of_an_error_as_it_goes(between: Between) -> None:
    for told in range(20):
        Loud()
        ast.parse(SOURCE)
        assert Loud.told == told
        between.looks.look()
        assert Loud.told == told + 1


def test_what_a_test_has_left_goes_with_it(between: Between) -> None:
    gone = weakref.ref(Node())

    between.looks.look()

    assert gone() is None


def test_what_outlived_tests_goes_when_everything_is_looked_at(between: Between) -> None:
    kept = Node()
    gone = weakref.ref(kept)
    for _ in range(3):
        between.looks.look()
    del kept

    between.now_s = WHOLE_S - 0.1
    between.looks.look()
    assert gone() is not None
    between.now_s = WHOLE_S
    between.looks.look()
    assert gone() is None


def test_who_switches_python_s_own_looking_on_does_so_for_one_test_only(between: Between) -> None:
    assert not gc.isenabled()
    gc.enable()

    between.looks.look()

    assert not gc.isenabled()


def test_modules_are_left_out_until_the_last_test_has_run(between: Between) -> None:
    kept = Node()
    between.looks.pytest_collection_finish()
    assert not any(each is kept for each in gc.get_objects())

    between.looks.pytest_sessionfinish()

    assert any(each is kept for each in gc.get_objects())

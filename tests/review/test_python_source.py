from __future__ import annotations

import threading
from textwrap import dedent

import pytest

from examples.review.checks.python_source import review_python, review_python_closely
from examples.review.checks.review import FINDINGS_MAX, Source


def source(text: str, path: str = "a/b.py", **kwargs: int | bool) -> Source:
    return Source(path, dedent(text).encode(), **kwargs)  # type: ignore[arg-type] # by name


def found(text: str, path: str = "a/b.py") -> list[tuple[int, str]]:
    return [(each.line, each.rule) for each in review_python(source(text, path)).findings]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x = (\n", [(1, "syntax-error")]),
        ("try:\n    x()\nexcept:\n    raise\n", [(3, "bare-except")]),
        ("try:\n    x()\nexcept Exception:\n    pass\n", [(3, "swallowed-exception")]),
        ("try:\n    x()\nexcept KeyError:\n    pass\n", []),
        ("def f(a, b=[]):\n    return b\n", [(1, "mutable-default")]),
        ("def f(a, *, b=dict()):\n    return b\n", [(1, "mutable-default")]),
        ("def f(a, b=()):\n    return b\n", []),
        ("import os\nimport sys\nprint(sys.path)\n", [(1, "unused-import")]),
        ("import os.path\nprint(os.sep)\n", []),
        ("from a import b as b\n", []),
        ("from a import b\n__all__ = ['b']\n", []),
        ("from a import B\ndef f(x: 'list[B]'): ...\n", []),
        ("from __future__ import annotations\n", []),
        ("from a import *\n", [(1, "star-import")]),
        ("if x == None:\n    y()\n", [(1, "none-comparison")]),
        ("assert (x, 'always')\n", [(1, "assert-tuple")]),
        ("eval(x)\n", [(1, "eval")]),
        ("x.eval(y)\n", []),
        ("{1: 2, 1: 3}\n", [(1, "duplicate-key")]),
        ("{1: 2, True: 3}\n", []),
        ("def f():\n    return 1\n    x()\n", [(3, "unreachable")]),
        ("while x:\n    break\n    y()\n", [(3, "unreachable")]),
    ],
)
def test_a_mistake_is_found_at_its_line_and_nothing_else(
    text: str, expected: list[tuple[int, str]]
) -> None:
    assert found(text) == expected


def test_a_package_may_import_what_it_does_not_use() -> None:
    assert found("from a import b\n", "a/__init__.py") == []


def test_complexity_counts_the_branches_of_each_function_for_itself() -> None:
    review = review_python(
        source("""
            def outer(a, b):
                if a and b or a:
                    for x in a:
                        y = [z for z in x if z]
                def inner():
                    while a:
                        pass
                return b
            """)
    )

    # outer: 1 + if + two boolean operators + for + comprehension + its condition; inner: 1 + while
    assert review.facts["complexity_max"] == 7
    assert review.facts["complexity_sum"] == 9
    assert review.facts["functions"] == 2


def test_a_function_of_many_branches_and_one_of_many_lines_are_found() -> None:
    branches = "".join(f"    if a == {i}:\n        a()\n" for i in range(16))
    lines = "    a()\n" * 101

    assert found(f"def f(a):\n{branches}") == [(1, "too-complex")]
    assert found(f"def f(a):\n{lines}") == [(1, "too-long")]


def test_documentation_counts_what_is_public() -> None:
    review = review_python(
        source('''
            """Module."""
            class A:
                def shown(self):
                    """Shown."""
                    def local(): ...
                def _hidden(self): ...
            ''')
    )

    assert (review.facts["documented"], review.facts["documentable"]) == (2, 3)


def test_lines_of_a_part_are_those_of_the_whole_file() -> None:
    review = review_python(source("def f(a=[]): ...\n", first_line=501, whole=False))

    assert [finding.line for finding in review.findings] == [501]


@pytest.mark.parametrize(
    "data",
    [b"\0", b"\xff\xfe", b"# coding: no-such\n", b"(" * 5_000, b"x = " + b"-" * 100_000 + b"1\n"],
)
def test_bytes_that_are_no_program_are_a_finding(data: bytes) -> None:
    assert review_python(Source("x.py", data)).counts == {"syntax-error": 1}


def test_deep_nesting_ends_the_reading_and_not_the_check() -> None:
    deep = b"x = " + b" + ".join([b"1"] * 3_000) + b"\n"

    assert set(review_python(Source("x.py", deep)).counts) <= {"nested-deeply", "syntax-error"}


def test_a_bad_file_gives_few_findings_and_all_counts() -> None:
    review = review_python(source("assert (1, 2)\n" * 500))

    assert len(review.findings) == FINDINGS_MAX
    assert review.counts == {"assert-tuple": 500}


def test_the_close_review_also_tells_what_the_compiler_warns_about() -> None:
    text = "if x is 'y':\n    z = '\\d'\nprint(x == None)\n"

    plain, close = review_python(source(text)), review_python_closely(source(text))

    assert plain.counts == {"none-comparison": 1}
    assert close.counts == {"none-comparison": 1, "compiler-warning": 2}
    assert close.facts == plain.facts


def test_the_close_review_tells_what_parses_and_does_not_compile() -> None:
    review = review_python_closely(source("x = 1\nreturn x\n"))

    assert [(f.line, f.rule) for f in review.findings] == [(2, "does-not-compile")]


def test_agents_in_threads_do_not_take_each_others_warnings() -> None:
    reviews = []
    ready = threading.Barrier(4)

    def work(path: str) -> None:
        ready.wait(timeout=10)
        for _ in range(20):
            reviews.append((path, review_python_closely(source("x = '\\d'\n", path))))

    threads = [threading.Thread(target=work, args=(f"{i}.py",)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)

    assert len(reviews) == 80
    assert {tuple(review.counts.items()) for _, review in reviews} == {(("compiler-warning", 1),)}
    assert all(review.findings[0].path == path for path, review in reviews)

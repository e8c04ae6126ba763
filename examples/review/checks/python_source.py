"""Reviews Python: parses it, walks the tree once, and reports what experience says goes wrong."""

from __future__ import annotations

import ast
import threading
import warnings
from collections import Counter

from examples.review.checks.python_tree import Reading
from examples.review.checks.review import Finding, Review, Source

# Warning filters belong to the whole process, while agents of one host work in threads.
_warning_filters = threading.Lock()


def review_python(source: Source) -> Review:
    """Reviews one Python source.

    A file that does not parse is a finding, not a fault of the check.
    """
    lines = len(source.data.splitlines())
    tree = _parsed(source)
    if isinstance(tree, Finding):
        return Review.of([tree], lines=lines)
    reading = Reading(source)
    try:
        reading.read(tree)
    except RecursionError:
        said = "nested too deeply to be read to the end"
        reading.findings.append(Finding(source.path, source.first_line, "nested-deeply", said))
    functions = reading.functions
    return Review.of(
        reading.findings,
        lines=lines,
        functions=len(functions),
        classes=reading.class_count,
        documented=reading.documented_count,
        documentable=reading.documentable_count,
        complexity_max=max((f.complexity for f in functions), default=0),
        complexity_sum=sum(f.complexity for f in functions),
    )


def review_python_closely(source: Source) -> Review:
    """Reviews one Python source and lets the compiler have its say as well.

    The compiler warns about what a tree alone does not show, such as escapes that mean nothing
    and comparisons with `is` against literals. It takes about half as long again.
    """
    review = review_python(source)
    if "syntax-error" in review.counts:
        return review
    told = _compiler_says(source)
    closer = Review.of([*review.findings, *told], **review.facts)
    closer.counts = {**review.counts, **Counter(finding.rule for finding in told)}
    return closer


def _compiler_says(source: Source) -> list[Finding]:
    with _warning_filters, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            compile(source.data, source.path, "exec", dont_inherit=True)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            # The parser took it, the compiler does not: for example `return` outside a function.
            line = getattr(error, "lineno", None) or 1
            said = getattr(error, "msg", None) or str(error)
            return [_at(source, line, "does-not-compile", said)]
    shift = source.first_line - 1
    return [
        Finding(source.path, warning.lineno + shift, "compiler-warning", str(warning.message))
        for warning in caught
    ]


def _parsed(source: Source) -> ast.Module | Finding:
    # The parser's warnings are review_python_closely's to tell.
    with _warning_filters, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return ast.parse(source.data, source.path)
        except SyntaxError as error:
            return _at(source, error.lineno or 1, "syntax-error", error.msg)
        except (ValueError, RecursionError, MemoryError) as error:
            # NUL bytes, or nested deeper than the parser goes.
            return _at(source, 1, "syntax-error", str(error) or "nested too deeply to be parsed")


def _at(source: Source, line: int, rule: str, said: str) -> Finding:
    return Finding(source.path, line + source.first_line - 1, rule, said, "error")

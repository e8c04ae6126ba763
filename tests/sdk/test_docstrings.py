"""Whoever calls the SDK reads what it may raise where it is called."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.support.processes import ROOT

SDK = ROOT / "clients" / "python" / "podium" / "sdk"
Function = ast.FunctionDef | ast.AsyncFunctionDef


def public(node: ast.Module | ast.ClassDef, of: str = "") -> Iterator[tuple[str, Function]]:
    """Yields the functions that others call, each with the docstring that tells of it."""
    for each in node.body:
        if isinstance(each, ast.ClassDef) and not each.name.startswith("_"):
            yield from public(each, ast.get_docstring(each) or "-")
        elif isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef):
            told = ast.get_docstring(each) or ""
            if each.name == "__init__":
                yield of, each
            elif told and not each.name.startswith("_"):
                yield told, each


def raised(function: Function) -> Iterator[ast.Raise]:
    """Yields what a function raises itself, not by what it calls or defines."""
    left: list[ast.AST] = list(function.body)
    while left:
        node = left.pop()
        if isinstance(node, ast.Raise) and node.exc is not None:
            yield node
        if not isinstance(node, Function | ast.Lambda | ast.ClassDef):
            left += ast.iter_child_nodes(node)


def untold(path: Path) -> list[str]:
    tree = ast.parse(path.read_text("utf-8"))
    return [
        f"{path.name}:{function.lineno} {function.name}"
        for told, function in public(tree)
        if "Raises:" not in told and any(raised(function))
    ]


def test_each_public_function_that_raises_says_what() -> None:
    assert [each for path in sorted(SDK.rglob("*.py")) for each in untold(path)] == []

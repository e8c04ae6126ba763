"""One walk over a Python syntax tree that collects everything the review needs."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

from examples.review.checks.review import Finding, Severity, Source

FUNCTION_LINES_MAX = 100
COMPLEXITY_MAX = 15
ARGUMENTS_MAX = 9

Function = ast.FunctionDef | ast.AsyncFunctionDef

_BRANCHES = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.IfExp, ast.match_case)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_ENDS = (ast.Return, ast.Raise, ast.Continue, ast.Break)
_MUTABLE_CALLS = {"list", "dict", "set", "bytearray", "defaultdict", "deque"}
# Nodes without anything of interest below them: half of all, skipped for speed.
_LEAVES = (ast.expr_context, ast.operator, ast.cmpop, ast.unaryop, ast.boolop)


@dataclass(slots=True)
class Measured:
    """A function with its McCabe complexity, which grows while its body is read."""

    name: str
    line: int
    complexity: int = 1


class Reading:
    """Reads one tree. Use it once."""

    def __init__(self, source: Source) -> None:
        self.findings: list[Finding] = []
        self.functions: list[Measured] = []
        self.class_count = 0
        self.documented_count = 0
        self.documentable_count = 0
        self._source = source
        self._shift = source.first_line - 1
        self._inside: list[Measured] = []
        self._imports: dict[str, int] = {}
        self._used: set[str] = set()
        self._re_exports = source.path.endswith("__init__.py") or not source.whole

    def read(self, tree: ast.Module) -> None:
        """Reads the tree and leaves the findings and counts in the attributes."""
        self._document(tree, "module")
        self._imports_of(tree)
        for node in tree.body:
            self._walk(node)
        self._unreachable(tree.body)
        for name, line in self._imports.items():
            if name not in self._used and not self._re_exports:
                self._say(line, "unused-import", f"{name} is imported and not used", "note")

    def _say(
        self,
        line: int,
        rule: str,
        message: str,
        severity: Severity = "warning",
        weight: float = 0.0,
    ) -> None:
        where = line + self._shift
        self.findings.append(Finding(self._source.path, where, rule, message, severity, weight))

    def _walk(self, node: ast.AST) -> None:
        if isinstance(node, _LEAVES):
            return
        visit = self._visits.get(type(node))
        if visit is not None:
            visit(self, node)
        is_function = isinstance(node, Function)
        if not is_function:
            self._count_branches(node)
        for child in _children(node):
            self._walk(child)
        if is_function:
            self._leave_function()

    def _count_branches(self, node: ast.AST) -> None:
        if not self._inside:
            return
        if isinstance(node, _BRANCHES):
            self._inside[-1].complexity += 1
        elif isinstance(node, ast.BoolOp):
            self._inside[-1].complexity += len(node.values) - 1
        elif isinstance(node, _COMPREHENSIONS):
            self._inside[-1].complexity += sum(1 + len(each.ifs) for each in node.generators)

    # Definitions.

    def _function(self, node: Function) -> None:
        self._inside.append(Measured(node.name, node.lineno))
        self._document(node, "function")
        length = (node.end_lineno or node.lineno) - node.lineno + 1
        if length > FUNCTION_LINES_MAX:
            said = f"{node.name} is {length} lines long"
            self._say(node.lineno, "too-long", said, "note", length)
        takes = node.args
        arguments = len(takes.posonlyargs) + len(takes.args) + len(takes.kwonlyargs)
        if arguments > ARGUMENTS_MAX:
            said = f"{node.name} takes {arguments} arguments"
            self._say(node.lineno, "too-many-arguments", said, "note", arguments)
        self._defaults([*takes.defaults, *takes.kw_defaults], node.name)
        self._unreachable(node.body)

    def _leave_function(self) -> None:
        done = self._inside.pop()
        self.functions.append(done)
        if done.complexity > COMPLEXITY_MAX:
            said = f"{done.name} has complexity {done.complexity}"
            self._say(done.line, "too-complex", said, weight=done.complexity)

    def _lambda(self, node: ast.Lambda) -> None:
        self._defaults([*node.args.defaults, *node.args.kw_defaults], "lambda")

    def _class(self, node: ast.ClassDef) -> None:
        self.class_count += 1
        self._document(node, "class")

    def _document(self, node: ast.Module | ast.ClassDef | Function, kind: str) -> None:
        name = getattr(node, "name", "")
        if name.startswith("_") or (kind == "function" and len(self._inside) > 1):
            return
        self.documentable_count += 1
        first = node.body[0] if node.body else None
        if (
            isinstance(first, ast.Expr)
            and isinstance(first.value, ast.Constant)
            and isinstance(first.value.value, str)
        ):
            self.documented_count += 1

    def _defaults(self, defaults: Sequence[ast.expr | None], name: str) -> None:
        for default in defaults:
            called = getattr(getattr(default, "func", None), "id", None)
            if isinstance(default, (ast.List, ast.Dict, ast.Set)) or called in _MUTABLE_CALLS:
                assert default is not None
                said = f"{name} has a default that all calls share"
                self._say(default.lineno, "mutable-default", said)

    # Imports and names.

    def _imports_of(self, tree: ast.Module) -> None:
        """Notes top-level imports; those under `try` or `if` are there for a reason."""
        for node in tree.body:
            if isinstance(node, ast.Import):
                for alias in node.names:
                    if alias.asname != alias.name:  # `import x as x` re-exports
                        self._imports[alias.asname or alias.name.split(".")[0]] = node.lineno
            elif isinstance(node, ast.ImportFrom) and node.module != "__future__":
                for alias in node.names:
                    if alias.asname != alias.name and alias.name != "*":
                        self._imports[alias.asname or alias.name] = node.lineno

    def _import_from(self, node: ast.ImportFrom) -> None:
        if any(alias.name == "*" for alias in node.names):
            said = f"everything of {node.module or '.'} is imported"
            self._say(node.lineno, "star-import", said, "note")

    def _name(self, node: ast.Name) -> None:
        self._used.add(node.id)

    def _constant(self, node: ast.Constant) -> None:
        # Names in `__all__` and in quoted annotations.
        if isinstance(node.value, str) and len(node.value) < 200:
            self._used.update(_identifiers(node.value))

    # Statements that hide a mistake.

    def _handler(self, node: ast.ExceptHandler) -> None:
        if node.type is None:
            said = "bare except also catches KeyboardInterrupt and SystemExit"
            self._say(node.lineno, "bare-except", said)
        broad = node.type is None or getattr(node.type, "id", "") in ("Exception", "BaseException")
        if broad and all(isinstance(statement, ast.Pass) for statement in node.body):
            self._say(node.lineno, "swallowed-exception", "every error is silently dropped")
        self._unreachable(node.body)

    def _compare(self, node: ast.Compare) -> None:
        for operator, right in zip(node.ops, node.comparators, strict=True):
            if isinstance(operator, (ast.Eq, ast.NotEq)) and _is_none(right):
                self._say(node.lineno, "none-comparison", "compare with None by `is`", "note")

    def _assert(self, node: ast.Assert) -> None:
        if isinstance(node.test, ast.Tuple) and node.test.elts:
            self._say(node.lineno, "assert-tuple", "a tuple is always true", "error")

    def _call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Name) and node.func.id in ("eval", "exec"):
            said = f"{node.func.id} runs whatever it is given"
            self._say(node.lineno, "eval", said, "note")

    def _dictionary(self, node: ast.Dict) -> None:
        seen: set[tuple[type, Any]] = set()
        for key in node.keys:
            if isinstance(key, ast.Constant):
                value = (type(key.value), key.value)
                if value in seen:
                    said = f"key {key.value!r} is given twice; the last one wins"
                    self._say(key.lineno, "duplicate-key", said, "error")
                seen.add(value)

    def _block(self, node: ast.AST) -> None:
        for name in ("body", "orelse", "finalbody"):
            self._unreachable(getattr(node, name, ()))

    def _unreachable(self, body: Sequence[ast.stmt]) -> None:
        for statement, after in pairwise(body):
            if isinstance(statement, _ENDS):
                self._say(after.lineno, "unreachable", "this line is never reached")
                return

    _visits: ClassVar[dict[type[ast.AST], Callable[[Reading, Any], None]]] = {
        ast.FunctionDef: _function,
        ast.AsyncFunctionDef: _function,
        ast.Lambda: _lambda,
        ast.ClassDef: _class,
        ast.ImportFrom: _import_from,
        ast.Name: _name,
        ast.Constant: _constant,
        ast.ExceptHandler: _handler,
        ast.Compare: _compare,
        ast.Assert: _assert,
        ast.Call: _call,
        ast.Dict: _dictionary,
        ast.If: _block,
        ast.For: _block,
        ast.While: _block,
        ast.Try: _block,
        ast.With: _block,
    }


def _children(node: ast.AST) -> Iterator[ast.AST]:
    for name in node._fields:
        value = getattr(node, name, None)
        if isinstance(value, ast.AST):
            yield value
        elif isinstance(value, list):
            for each in value:
                if isinstance(each, ast.AST):
                    yield each


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _identifiers(text: str) -> list[str]:
    if text.isidentifier():
        return [text]
    separated = "".join(c if c.isalnum() or c == "_" else " " for c in text)
    return [word for word in separated.split() if word.isidentifier()]

"""Functions that work on tasks: what they take, how they run, how fast they may begin."""

from __future__ import annotations

import functools
import inspect
import sys
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from podium.sdk import payloads
from podium.sdk.context import Context
from podium.sdk.pace import Pace
from podium.sdk.partials import Return
from podium.v1 import task_pb2

Pool = Literal["thread", "process"]

POOL_PROCESS = "podium-handler"
"""Name of the processes that handlers run in, by which a program can tell that it is in one."""


@dataclass(frozen=True)
class Handler:
    """A function that works on one type of task."""

    function: Callable[..., Any]
    decode: payloads.Decode
    check: Callable[[Any], Any]
    # The same for each piece that it yields.
    check_piece: Callable[[Any], Any]
    wants_context: bool
    is_async: bool
    # Whether it yields its result piece by piece.
    streams: bool
    # Where it runs when it is not async.
    pool: Pool = "thread"
    pace: Pace | None = None

    @classmethod
    def of(
        cls,
        function: Callable[..., Any],
        *,
        pool: Pool = "thread",
        pace: Pace | None = None,
        scope: Mapping[str, Any] | None = None,
    ) -> Handler:
        """Reads from a function's signature what it wants.

        Args:
            function: the function.
            pool: where it runs when it is not async.
            pace: how fast it may begin.
            scope: names that its annotations may use beside the module's.

        Raises:
            TypeError: it takes neither (payload) nor (payload, context), an annotation cannot be
                resolved, or another process could not find it. Parameters with defaults beside
                these are its own affair.
        """
        name = getattr(function, "__name__", repr(function))
        inner = _innermost(function)
        try:
            hints = typing.get_type_hints(inner, None, dict(scope or {}))
        except NameError as error:
            raise TypeError(f"{name} has an annotation that is not known: {error.name}") from None
        taken = _taken(function, name, hints)
        is_async = inspect.iscoroutinefunction(inner) or inspect.isasyncgenfunction(inner)
        streams = inspect.isasyncgenfunction(inner) or inspect.isgeneratorfunction(inner)
        returned = hints.get("return")
        if pool == "process":
            _check_importable(function, name, is_async)
        return cls(
            function=function,
            decode=payloads.decoder(hints.get(taken[0])),
            check=payloads.checker(None if streams else returned),
            check_piece=payloads.checker(_piece(returned) if streams else None),
            wants_context=len(taken) == 2,
            is_async=is_async,
            streams=streams,
            pool=pool,
            pace=pace,
        )

    def bind(self, payload: task_pb2.Payload, context: Any) -> tuple[Any, ...]:
        """Returns the arguments for a task.

        Raises:
            TaskError: INVALID_PAYLOAD, it is not what the function is annotated to take.
        """
        value = self.decode(payload)
        return (value, context) if self.wants_context else (value,)

    @property
    def reference(self) -> tuple[str, str]:
        """Module and name under which another process finds the function."""
        return self.function.__module__, self.function.__qualname__


def find(module: str, name: str) -> Callable[..., Any]:
    """Returns a function by `Handler.reference`, importing its module.

    Raises:
        ImportError: there is no such module.
        AttributeError: the module has no such function.
    """
    __import__(module)
    found: Any = sys.modules[module]
    for part in name.split("."):
        found = getattr(found, part)
    function: Callable[..., Any] = found
    return function


def _taken(function: Callable[..., Any], name: str, hints: Mapping[str, Any]) -> list[str]:
    """Returns the parameters that it is called with: of the payload and, if any, of the context.

    The second is the context where it has no default or is annotated so; `times=2` is no request
    for one.
    """
    parameters = list(inspect.signature(function).parameters.values())
    positional = [each for each in parameters if each.kind in _POSITIONAL]
    taken = positional[:1]
    if len(positional) > 1:
        second = positional[1]
        if second.default is second.empty or _is_context(hints.get(second.name)):
            taken.append(second)
    for each in parameters:
        named = each.kind in _POSITIONAL or each.kind is each.KEYWORD_ONLY
        wants = each.default is each.empty or _is_context(hints.get(each.name))
        if named and wants and each not in taken:
            taken = []
    if not taken:
        raise TypeError(
            f"{name} must take the payload and, if it likes, the context as its second parameter;"
            " others need a default"
        )
    for each in taken[1:]:
        if not _may_be_context(hints.get(each.name)):
            raise TypeError(f"{name} gets the context as {each.name}, which is no Context")
    return [each.name for each in taken]


_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def _piece(hint: Any) -> Any:
    """Returns what a generator yields by its annotation, besides `Return`, which is free."""
    yielded = (*typing.get_args(hint), None)[0]
    if typing.get_origin(yielded) not in (typing.Union, types.UnionType):
        return None if _is_return(yielded) else yielded
    arms = tuple(arm for arm in typing.get_args(yielded) if not _is_return(arm))
    return typing.Union[arms] if arms else None  # noqa: UP007 - of arms known at run time only


def _is_return(hint: Any) -> bool:
    return (typing.get_origin(hint) or hint) is Return


def _is_context(hint: Any) -> bool:
    """Tells whether an annotation names the context, perhaps among others."""
    arms = typing.get_args(hint) or (hint,)
    return any(isinstance(arm, type) and issubclass(arm, Context) for arm in arms)


def _may_be_context(hint: Any) -> bool:
    """Tells whether a context may be given for an annotation; protocols are taken at their word."""

    def fits(arm: Any) -> bool:
        if arm is Any or not isinstance(arm, type) or getattr(arm, "_is_protocol", False):
            return True
        return issubclass(Context, arm) or issubclass(arm, Context)

    return any(map(fits, typing.get_args(hint) or (hint,)))


def _innermost(function: Callable[..., Any]) -> Any:
    while isinstance(function, functools.partial):
        function = function.func
    if isinstance(function, types.FunctionType | types.MethodType):
        return function
    return type(function).__call__  # an object that can be called


def _check_importable(function: Callable[..., Any], name: str, is_async: bool) -> None:
    if is_async:
        raise TypeError(f"{name} is async: only a plain function can run in another process")
    qualified = getattr(function, "__qualname__", "<")
    if not isinstance(function, types.FunctionType) or "<" in qualified:
        raise TypeError(
            f"{name} cannot run in another process, which must find it by module and name:"
            " write it at the top level of a module"
        )

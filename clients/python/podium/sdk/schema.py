"""Checks and converts JSON data by type annotations; every fault names its field.

Understands dataclasses (generic ones too), pydantic models (where the program has pydantic), typed
dicts, lists, tuples, sets, mappings, optional and union types, literals, enumerations, numbers and
decimals, dates, times and spans (in seconds), UUIDs, bytes (in base64), and Any. Whatever JSON
cannot be checked against is a TypeError when the annotation is read, not a value that is passed on
unchecked.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import enum
import types
import typing
from collections.abc import Sequence
from typing import Any

from podium.sdk.conversions import (
    SCALARS,
    Convert,
    Misfit,
    anything,
    below,
    enumeration,
    null,
    one_of,
    parsed,
)

__all__ = ["Misfit", "converter", "holds_record", "is_model", "is_record", "misfit_of_model"]


def converter(hint: Any) -> Convert:
    """Returns how to convert a value to an annotation.

    The conversion raises Misfit with all faults of the value at once.

    Raises:
        TypeError: no data can be checked against it.
    """
    return _converter(hint, {})


def is_model(hint: Any) -> bool:
    """Tells whether an annotation is a pydantic model."""
    return isinstance(hint, type) and hasattr(hint, "model_validate_json")


def is_record(hint: Any) -> bool:
    """Tells whether an annotation is a dataclass or a pydantic model."""
    return is_model(hint) or (isinstance(hint, type) and dataclasses.is_dataclass(hint))


def holds_record(hint: Any) -> bool:
    """Tells whether an annotation is a record, or a union or collection that may hold one."""
    hint = _plain(hint)
    origin = typing.get_origin(hint)
    if is_record(origin or hint) or typing.is_typeddict(origin or hint):
        return True
    holders = (typing.Union, types.UnionType, *_LISTS, *_SETS, *_MAPPINGS, tuple)
    return origin in holders and any(map(holds_record, typing.get_args(hint)))


def misfit_of_model(error: Any, path: str = "") -> Misfit:
    """Returns what a pydantic ValidationError says, in this module's form."""
    if not hasattr(error, "errors"):
        return Misfit([(path, f"is not valid: {error}")])
    faults = []
    for fault in error.errors(include_url=False, include_context=False, include_input=False):
        at = path
        for step in fault["loc"]:
            at = f"{at}[{step}]" if isinstance(step, int) else below(at, str(step))
        faults.append((at, fault["msg"][:1].lower() + fault["msg"][1:]))
    return Misfit([(at, f"is not valid: {why}") for at, why in faults])


def _converter(hint: Any, known: dict[Any, Convert]) -> Convert:
    hint = _plain(hint)
    if _hashable(hint) and hint in known:
        return known[hint]
    if hint is Any or hint is object or isinstance(hint, str | typing.TypeVar):
        return anything
    if hint is None or hint is type(None):
        return null
    if isinstance(hint, type) and hint in SCALARS:
        return SCALARS[hint]
    origin = typing.get_origin(hint)
    if origin is typing.Literal:
        return one_of(typing.get_args(hint))
    if origin in (typing.Union, types.UnionType):
        arms = [arm for arm in typing.get_args(hint) if arm is not type(None)]
        nullable = len(arms) < len(typing.get_args(hint))
        # A string that may be text is text, not bytes in base64.
        arms.sort(key=lambda arm: arm is bytes)
        return _union([_converter(arm, known) for arm in arms], nullable=nullable)
    return _structured(hint, origin or hint, known)


def _structured(hint: Any, kind: Any, known: dict[Any, Convert]) -> Convert:
    if not isinstance(kind, type):
        raise _unfit(hint)
    arguments = typing.get_args(hint)
    if is_model(kind):
        return _model(kind)
    if dataclasses.is_dataclass(kind):
        return _dataclass(kind, hint, known)
    if typing.is_typeddict(kind):
        return _typed_dict(kind, known)
    if issubclass(kind, enum.Enum):
        return enumeration(kind)
    if kind is tuple:
        return _tuple(arguments, known)
    return _collection(hint, kind, arguments, known)


def _collection(
    hint: Any, kind: type, arguments: tuple[Any, ...], known: dict[Any, Convert]
) -> Convert:
    if kind in _LISTS:
        return _list(_converter(arguments[0] if arguments else Any, known))
    if kind in _SETS:
        make = frozenset if kind is frozenset else set
        return _set(_converter(arguments[0] if arguments else Any, known), make)
    if kind in _MAPPINGS:
        key, item = arguments if len(arguments) == 2 else (Any, Any)
        return _mapping(_key(key, known), _converter(item, known))
    raise _unfit(hint)


_LISTS = (
    list,
    collections.abc.Sequence,
    collections.abc.MutableSequence,
    collections.abc.Collection,
    collections.abc.Iterable,
)
_SETS = (set, frozenset, collections.abc.Set, collections.abc.MutableSet)
_MAPPINGS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)


def _unfit(hint: Any) -> TypeError:
    name = getattr(hint, "__qualname__", None) or repr(hint)
    return TypeError(f"no data can be checked against {name}: use a type of JSON's, or Any")


def _key(hint: Any, known: dict[Any, Convert]) -> Convert:
    """Returns how to convert the keys of an object, which JSON has as strings."""
    hint = _plain(hint)
    if hint not in (int, float):
        return _converter(hint, known)
    kind, what = (int, "an integer") if hint is int else (float, "a number")
    return parsed(kind, hint, what)


def _plain(hint: Any) -> Any:
    """Looks through Annotated, Required, NotRequired, NewType and ClassVar."""
    wrappers = (typing.Annotated, typing.Required, typing.NotRequired, typing.Final)
    while True:
        if typing.get_origin(hint) in wrappers:
            hint = typing.get_args(hint)[0]
        elif isinstance(hint, typing.NewType):
            hint = hint.__supertype__
        else:
            return hint


def _hashable(hint: Any) -> bool:
    try:
        hash(hint)
    except TypeError:
        return False
    return True


def _union(arms: Sequence[Convert], *, nullable: bool) -> Convert:
    def convert(value: Any, path: str) -> Any:
        if nullable and value is None:
            return None
        closest: Misfit | None = None
        for arm in arms:
            try:
                return arm(value, path)
            except Misfit as misfit:
                # The arm that got furthest into the value is the one that was meant.
                if closest is None or len(misfit.faults[0][0]) > len(closest.faults[0][0]):
                    closest = misfit
        assert closest is not None, "a union has arms"
        if len(arms) > 1 and all(at == path for at, _ in closest.faults):
            raise Misfit([(path, "is of none of the types it may have")])
        raise closest

    return convert


def _gathered(parts: Sequence[tuple[Any, Convert, Any, str]]) -> dict[Any, Any]:
    """Converts (key, how, value, path) each, and raises the faults of all together."""
    done: dict[Any, Any] = {}
    faults: list[tuple[str, str]] = []
    for key, convert, value, path in parts:
        try:
            done[key] = convert(value, path)
        except Misfit as misfit:
            faults += misfit.faults
    if faults:
        raise Misfit(faults)
    return done


def _list(item: Convert) -> Convert:
    def convert(value: Any, path: str) -> Any:
        if not isinstance(value, list | tuple):
            raise Misfit([(path, "is not a list")])
        parts = [(at, item, each, f"{path}[{at}]") for at, each in enumerate(value)]
        return list(_gathered(parts).values())

    return convert


def _tuple(arguments: tuple[Any, ...], known: dict[Any, Convert]) -> Convert:
    if not arguments or arguments[-1] is Ellipsis:
        many = _list(_converter(arguments[0] if arguments else Any, known))
        return lambda value, path: tuple(many(value, path))
    items = [_converter(argument, known) for argument in arguments]

    def convert(value: Any, path: str) -> Any:
        if not isinstance(value, list | tuple) or len(value) != len(items):
            raise Misfit([(path, f"is not a list of {len(items)}")])
        parts = [
            (at, item, each, f"{path}[{at}]")
            for at, (item, each) in enumerate(zip(items, value, strict=True))
        ]
        return tuple(_gathered(parts).values())

    return convert


def _set(item: Convert, make: type) -> Convert:
    many = _list(item)

    def convert(value: Any, path: str) -> Any:
        items = list(value) if isinstance(value, set | frozenset) else value
        try:
            return make(many(items, path))
        except TypeError:
            raise Misfit([(path, "holds what no set can hold: objects or lists")]) from None

    return convert


def _mapping(name: Convert, item: Convert) -> Convert:
    def convert(value: Any, path: str) -> Any:
        if not isinstance(value, dict):
            raise Misfit([(path, "is not an object")])
        at = {key: below(path, str(key)) for key in value}
        names = _gathered([(key, name, key, f"{at[key]} as a key") for key in value])
        items = _gathered([(key, item, each, at[key]) for key, each in value.items()])
        return {names[key]: each for key, each in items.items()}

    return convert


def _model(kind: Any) -> Convert:
    def convert(value: Any, path: str) -> Any:
        try:
            return kind.model_validate(value)
        except ValueError as error:
            raise misfit_of_model(error, path) from None

    return convert


def _dataclass(kind: Any, hint: Any, known: dict[Any, Convert]) -> Convert:
    fields = {field.name: field for field in dataclasses.fields(kind) if field.init}
    required = {
        name
        for name, field in fields.items()
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }
    hints = typing.get_type_hints(kind, None, None)
    parameters, arguments = getattr(kind, "__parameters__", ()), typing.get_args(hint)
    if arguments:
        given = dict(zip(parameters, arguments, strict=True))
        hints = {name: _filled(each, given) for name, each in hints.items()}
    return _record(kind, hint, fields.keys(), required, hints, known)


def _filled(hint: Any, given: dict[Any, Any]) -> Any:
    """Returns an annotation with its type variables replaced."""
    open_ones = getattr(hint, "__parameters__", ())
    if isinstance(hint, typing.TypeVar):
        return given.get(hint, hint)
    return hint[tuple(given.get(each, each) for each in open_ones)] if open_ones else hint


def _typed_dict(kind: Any, known: dict[Any, Convert]) -> Convert:
    hints = typing.get_type_hints(kind, include_extras=True)
    # Written in a module with postponed annotations, the class itself does not know.
    optional = {
        name for name, hint in hints.items() if typing.get_origin(hint) is typing.NotRequired
    }
    return _record(kind, kind, hints.keys(), kind.__required_keys__ - optional, hints, known)


def _record(
    kind: Any,
    hint: Any,
    names: collections.abc.Collection[str],
    required: collections.abc.Collection[str],
    hints: dict[str, Any],
    known: dict[Any, Convert],
) -> Convert:
    converts: dict[str, Convert] = {}

    def convert(value: Any, path: str) -> Any:
        made = isinstance(kind, type) and not typing.is_typeddict(kind) and isinstance(value, kind)
        if made:
            # Made by the program, which may have put anything into it.
            _gathered([(n, converts[n], getattr(value, n), below(path, n)) for n in names])
            return value
        if not isinstance(value, dict):
            raise Misfit([(path, "is not an object")])
        faults: list[tuple[str, str]] = [
            (below(path, name), "is missing") for name in required if name not in value
        ]
        faults += [(below(path, str(name)), "is not known") for name in value.keys() - names]
        parts = [
            (name, converts[name], value[name], below(path, name))
            for name in names
            if name in value
        ]
        try:
            done = _gathered(parts)
        except Misfit as misfit:
            faults += misfit.faults
        if faults:
            raise Misfit(sorted(faults))
        try:
            return kind(**done)
        except (TypeError, ValueError) as error:  # its own __post_init__ refuses
            raise Misfit([(path, f"is not valid: {error}")]) from None

    # Known before its fields are looked at: a record may contain itself.
    known[hint] = convert
    converts.update({name: _converter(hints[name], known) for name in names})
    return convert

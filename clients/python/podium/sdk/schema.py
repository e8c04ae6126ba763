"""Checks and converts JSON data by type annotations; every fault names its field.

Understands dataclasses, pydantic models (where the program has pydantic), typed dicts, lists,
tuples, mappings, optional and union types, literals, enumerations, dates and UUIDs. Any other
annotation accepts any value.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import enum
import types
import typing
import uuid
from collections.abc import Callable, Sequence
from datetime import date, datetime, time
from typing import Any

Convert = Callable[[Any, str], Any]
"""Takes a value and the path to it ("" at the top) and returns it converted, or raises Misfit."""

FAULTS_LEN_MAX = 20


class Misfit(ValueError):
    """Data that does not fit; `faults` are pairs of a path and what is wrong there."""

    def __init__(self, faults: Sequence[tuple[str, str]]) -> None:
        self.faults = tuple(faults)
        shown = [f"{path} {why}" if path else why for path, why in self.faults[:FAULTS_LEN_MAX]]
        if len(self.faults) > FAULTS_LEN_MAX:
            shown.append(f"and {len(self.faults) - FAULTS_LEN_MAX} more")
        super().__init__("; ".join(shown))


def converter(hint: Any) -> Convert:
    """Returns how to convert a value to an annotation.

    The conversion raises Misfit with all faults of the value at once.
    """
    return _converter(hint, {})


def is_model(hint: Any) -> bool:
    """Tells whether an annotation is a pydantic model."""
    return isinstance(hint, type) and hasattr(hint, "model_validate_json")


def is_record(hint: Any) -> bool:
    """Tells whether an annotation is a dataclass or a pydantic model."""
    return is_model(hint) or (isinstance(hint, type) and dataclasses.is_dataclass(hint))


def misfit_of_model(error: Any, path: str = "") -> Misfit:
    """Returns what a pydantic ValidationError says, in this module's form."""
    if not hasattr(error, "errors"):
        return Misfit([(path, f"is not valid: {error}")])
    faults = []
    for fault in error.errors(include_url=False, include_context=False, include_input=False):
        at = path
        for step in fault["loc"]:
            at = f"{at}[{step}]" if isinstance(step, int) else _below(at, str(step))
        faults.append((at, fault["msg"][:1].lower() + fault["msg"][1:]))
    return Misfit([(at, f"is not valid: {why}") for at, why in faults])


def _converter(hint: Any, known: dict[Any, Convert]) -> Convert:
    hint = _plain(hint)
    if _hashable(hint) and hint in known:
        return known[hint]
    if hint is Any or hint is object or isinstance(hint, str | typing.TypeVar):
        return _anything
    if hint is None or hint is type(None):
        return _null
    if isinstance(hint, type) and hint in _SCALARS:
        return _SCALARS[hint]
    origin = typing.get_origin(hint)
    if origin is typing.Literal:
        return _one_of(typing.get_args(hint))
    if origin in (typing.Union, types.UnionType):
        return _union([_converter(arm, known) for arm in typing.get_args(hint)])
    return _structured(hint, origin or hint, known)


def _structured(hint: Any, kind: Any, known: dict[Any, Convert]) -> Convert:
    if not isinstance(kind, type):
        return _anything
    arguments = typing.get_args(hint)
    if is_model(kind):
        return _model(kind)
    if dataclasses.is_dataclass(kind):
        return _dataclass(kind, known)
    if typing.is_typeddict(kind):
        return _typed_dict(kind, known)
    if issubclass(kind, enum.Enum):
        return _enumeration(kind)
    if kind is tuple:
        return _tuple(arguments, known)
    if kind in (list, collections.abc.Sequence, collections.abc.Iterable):
        return _list(_converter(arguments[0] if arguments else Any, known))
    if kind in (dict, collections.abc.Mapping, collections.abc.MutableMapping):
        return _mapping(_converter(arguments[1] if len(arguments) == 2 else Any, known))
    return _anything


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


def _below(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


# --- Values ------------------------------------------------------------------------------------


def _anything(value: Any, path: str) -> Any:
    return value


def _null(value: Any, path: str) -> None:
    if value is not None:
        raise Misfit([(path, "is not null")])


def _number(value: Any, path: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Misfit([(path, "is not a number")])
    return float(value)


def _integer(value: Any, path: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise Misfit([(path, "is not an integer")])
    return value


def _instance(kind: type, what: str) -> Convert:
    def convert(value: Any, path: str) -> Any:
        if not isinstance(value, kind):
            raise Misfit([(path, f"is not {what}")])
        return value

    return convert


def _parsed(kind: type, parse: Callable[[str], Any], what: str) -> Convert:
    def convert(value: Any, path: str) -> Any:
        if isinstance(value, kind):
            return value
        try:
            return parse(value)
        except (TypeError, ValueError, AttributeError):
            raise Misfit([(path, f"is not {what}")]) from None

    return convert


_SCALARS: dict[type, Convert] = {
    str: _instance(str, "a string"),
    bytes: _instance(bytes, "bytes"),
    bool: _instance(bool, "true or false"),
    int: _integer,
    float: _number,
    datetime: _parsed(datetime, datetime.fromisoformat, "a date and time as ISO 8601 has it"),
    date: _parsed(date, date.fromisoformat, "a date as ISO 8601 has it"),
    time: _parsed(time, time.fromisoformat, "a time as ISO 8601 has it"),
    uuid.UUID: _parsed(uuid.UUID, uuid.UUID, "a UUID"),
}


def _one_of(values: tuple[Any, ...]) -> Convert:
    def convert(value: Any, path: str) -> Any:
        for each in values:
            # 1 == True, yet true is no 1 in JSON.
            if type(each) is type(value) and each == value:
                return value
        raise Misfit([(path, "is none of " + ", ".join(repr(each) for each in values))])

    return convert


def _enumeration(kind: type[enum.Enum]) -> Convert:
    def convert(value: Any, path: str) -> Any:
        if isinstance(value, kind):
            return value
        for member in kind:
            if type(member.value) is type(value) and member.value == value:
                return member
        names = ", ".join(repr(member.value) for member in kind)
        raise Misfit([(path, f"is none of {names}")])

    return convert


def _union(arms: Sequence[Convert]) -> Convert:
    def convert(value: Any, path: str) -> Any:
        closest: Misfit | None = None
        for arm in arms:
            try:
                return arm(value, path)
            except Misfit as misfit:
                # The arm that got furthest into the value is the one that was meant.
                if closest is None or len(misfit.faults[0][0]) > len(closest.faults[0][0]):
                    closest = misfit
        assert closest is not None, "a union has arms"
        if all(at == path for at, _ in closest.faults):
            raise Misfit([(path, "is of none of the types it may have")])
        raise closest

    return convert


# --- Structures --------------------------------------------------------------------------------


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


def _mapping(item: Convert) -> Convert:
    def convert(value: Any, path: str) -> Any:
        if not isinstance(value, dict):
            raise Misfit([(path, "is not an object")])
        return _gathered([(key, item, each, _below(path, key)) for key, each in value.items()])

    return convert


def _model(kind: Any) -> Convert:
    def convert(value: Any, path: str) -> Any:
        try:
            return kind.model_validate(value)
        except ValueError as error:
            raise misfit_of_model(error, path) from None

    return convert


def _dataclass(kind: Any, known: dict[Any, Convert]) -> Convert:
    fields = {field.name: field for field in dataclasses.fields(kind) if field.init}
    required = {
        name
        for name, field in fields.items()
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }
    return _record(kind, fields.keys(), required, typing.get_type_hints(kind, None, None), known)


def _typed_dict(kind: Any, known: dict[Any, Convert]) -> Convert:
    hints = typing.get_type_hints(kind, include_extras=True)
    # Written in a module with postponed annotations, the class itself does not know.
    optional = {
        name for name, hint in hints.items() if typing.get_origin(hint) is typing.NotRequired
    }
    return _record(kind, hints.keys(), kind.__required_keys__ - optional, hints, known)


def _record(
    kind: Any,
    names: collections.abc.Collection[str],
    required: collections.abc.Collection[str],
    hints: dict[str, Any],
    known: dict[Any, Convert],
) -> Convert:
    converts: dict[str, Convert] = {}

    def convert(value: Any, path: str) -> Any:
        if isinstance(kind, type) and not typing.is_typeddict(kind) and isinstance(value, kind):
            return value
        if not isinstance(value, dict):
            raise Misfit([(path, "is not an object")])
        faults: list[tuple[str, str]] = [
            (_below(path, name), "is missing") for name in required if name not in value
        ]
        faults += [(_below(path, str(name)), "is not known") for name in value.keys() - names]
        parts = [
            (name, converts[name], value[name], _below(path, name))
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
        except ValueError as error:  # its own __post_init__ refuses
            raise Misfit([(path, f"is not valid: {error}")]) from None

    # Known before its fields are looked at: a record may contain itself.
    known[kind] = convert
    converts.update({name: _converter(hints[name], known) for name in names})
    return convert

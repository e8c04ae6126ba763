"""Payloads: Python values to bytes with a media type, and back into what a handler asks for."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable
from typing import Any

import orjson

from podium.sdk.errors import TaskError
from podium.v1 import task_pb2

JSON = "application/json"
TEXT = "text/plain; charset=utf-8"
BYTES = "application/octet-stream"
PAYLOAD_BYTES_MAX = 262_144

Decode = Callable[[task_pb2.Payload], Any]


def encode(value: Any) -> task_pb2.Payload:
    """Returns the payload of a value.

    bytes stay bytes and str becomes text; a pydantic model, a dataclass and what JSON can hold
    become JSON; a Payload is passed on; None is empty.

    Raises:
        TypeError: JSON cannot hold it.
    """
    if isinstance(value, bytes):
        return task_pb2.Payload(content_type=BYTES, data=value)
    if isinstance(value, str):
        return task_pb2.Payload(content_type=TEXT, data=value.encode())
    if value is None:
        return task_pb2.Payload()
    if isinstance(value, task_pb2.Payload):
        return value
    if hasattr(value, "model_dump_json"):
        return task_pb2.Payload(content_type=JSON, data=value.model_dump_json().encode())
    data = orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY)
    return task_pb2.Payload(content_type=JSON, data=data)


def decode(payload: task_pb2.Payload) -> Any:
    """Returns the value of a payload by its media type.

    JSON becomes Python data, text becomes str, anything else stays bytes; empty is None.

    Raises:
        ValueError: the bytes are not what the media type says.
    """
    kind = payload.content_type.partition(";")[0].strip().lower()
    if kind == JSON or kind.endswith("+json"):
        return orjson.loads(payload.data)
    if kind.startswith("text/"):
        return payload.data.decode()
    if not kind and not payload.data:
        return None
    return payload.data


def decoder(annotation: Any) -> Decode:
    """Returns how to make a handler's argument of the annotated type from a payload.

    Args:
        annotation: bytes, str, Payload, a dataclass, a pydantic model, or anything else for what
            `decode` returns.
    """
    if annotation is bytes:
        return lambda payload: payload.data
    if annotation is str:
        return _text
    if annotation is task_pb2.Payload:
        return lambda payload: payload
    if hasattr(annotation, "model_validate_json"):
        return lambda payload: _model(annotation, payload)
    if dataclasses.is_dataclass(annotation) and isinstance(annotation, type):
        return _dataclass_decoder(annotation)
    return _data


def invalid(message: str) -> TaskError:
    """Returns the error of an attempt whose payload the handler cannot take."""
    return TaskError(message, reason="PAYLOAD_INVALID", retryable=False)


def _data(payload: task_pb2.Payload) -> Any:
    try:
        return decode(payload)
    except ValueError as error:
        raise invalid(f"the payload is not {payload.content_type}: {error}") from None


def _text(payload: task_pb2.Payload) -> str:
    try:
        return payload.data.decode()
    except UnicodeDecodeError as error:
        raise invalid(f"the payload is not UTF-8: {error.reason} at {error.start}") from None


def _model(model: Any, payload: task_pb2.Payload) -> Any:
    try:
        return model.model_validate_json(payload.data)
    except ValueError as error:
        raise invalid(f"the payload does not fit: {error}") from None


def _dataclass_decoder(kind: type[Any]) -> Decode:
    hints = typing.get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind) if field.init}
    required = {
        name
        for name, field in fields.items()
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }

    def build(payload: task_pb2.Payload) -> Any:
        values = _data(payload)
        if not isinstance(values, dict):
            raise invalid("the payload is not a JSON object")
        faults = [f"{name} is missing" for name in sorted(required - values.keys())]
        faults += [f"{name} is not known" for name in sorted(values.keys() - fields.keys())]
        faults += [
            f"{name} is not {_named(hints[name])}"
            for name in sorted(fields.keys() & values.keys())
            if not _fits(values[name], hints[name])
        ]
        if faults:
            raise invalid("the payload does not fit: " + "; ".join(faults))
        return kind(**values)

    return build


_PLAIN = (str, int, float, bool, list, dict)


def _fits(value: Any, hint: Any) -> bool:
    """Tells whether a JSON value fits a field; hints beyond plain types accept anything."""
    plain = typing.get_origin(hint) or hint
    if plain is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if plain is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, plain) if plain in _PLAIN else True


def _named(hint: Any) -> str:
    plain = typing.get_origin(hint) or hint
    return str(getattr(plain, "__name__", plain))

"""Payloads: Python values to bytes with a media type, and back into what a handler asks for."""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import orjson

from podium.sdk import finite, schema
from podium.sdk.errors import TaskError
from podium.v1 import task_pb2

NotFinite = finite.NotFinite

JSON = "application/json"
TEXT = "text/plain; charset=utf-8"
BYTES = "application/octet-stream"
PAYLOAD_BYTES_MAX = 262_144

Decode = Callable[[task_pb2.Payload], Any]


def encode(value: Any) -> task_pb2.Payload:
    """Returns the payload of a value.

    bytes stay bytes and str becomes text; a pydantic model, a dataclass and what JSON can hold
    become JSON (sets as lists, decimals as strings, spans in seconds, bytes within it in base64); a
    Payload is passed on; None is empty.

    Raises:
        TypeError: JSON cannot hold it; NotFinite for NaN and infinity.
        UnicodeEncodeError: it is text with half a character in it.
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
        return task_pb2.Payload(content_type=JSON, data=_dumped(value))
    options = orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY
    data = orjson.dumps(value, _json, option=options)
    # To look at each value costs more than all else, and only a null can have been such a number.
    if b"null" in data:
        finite.check(value)
    return task_pb2.Payload(content_type=JSON, data=data)


def _json(value: Any) -> Any:
    if isinstance(value, set | frozenset):
        return list(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, timedelta):
        return value.total_seconds()
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    raise TypeError(f"JSON cannot hold {type(value).__name__}")


def _dumped(model: Any) -> bytes:
    data: bytes = model.model_dump_json().encode()
    chosen = getattr(model, "model_config", {}).get("ser_json_inf_nan")
    # A model may have chosen null for them, or text; the constants are no JSON.
    lost = chosen is None and b"null" in data
    if lost or (chosen == "constants" and (b"NaN" in data or b"Infinity" in data)):
        finite.check(model.model_dump())
    return data


def plain(text: str, len_max: int) -> str:
    """Returns a text for people as the wire takes it, cut to `len_max` characters.

    Names of files may have brought bytes into it that are no characters: they are spelled out.
    """
    text = str(text)[:len_max]
    return text.encode("utf-8", "backslashreplace").decode()[:len_max]


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
        annotation: as `reader`. What does not fit is a TaskError, INVALID_PAYLOAD.
    """
    read = reader(annotation)

    def take(payload: task_pb2.Payload) -> Any:
        try:
            return read(payload)
        except schema.Misfit as misfit:
            raise _refusal(misfit) from None

    return take


def reader(annotation: Any) -> Decode:
    """Returns how to make a value of the annotated type from a payload.

    The reading raises Misfit, with all faults of the payload at once.

    Args:
        annotation: bytes, str, Payload, a dataclass, a pydantic model, or any other type that
            `schema` understands; without one, what `decode` returns.
    """
    if annotation is bytes:
        return lambda payload: payload.data
    if annotation is str:
        return _text
    if annotation is task_pb2.Payload:
        return lambda payload: payload
    if schema.is_model(annotation):
        return lambda payload: _model(annotation, payload)
    if annotation in (None, Any, object):
        return _data
    convert = schema.converter(annotation)
    return lambda payload: convert(_data(payload), "")


def checker(annotation: Any) -> Callable[[Any], Any]:
    """Returns how to check what a handler returns, where records are part of its annotation."""
    if not schema.holds_record(annotation):
        return lambda value: value
    convert = schema.converter(annotation)

    def check(value: Any) -> Any:
        try:
            return convert(value, "")
        except schema.Misfit as misfit:
            message = f"the result does not fit: {misfit}"
            # What it returned may have come from a model or a service: next time it may be right.
            raise TaskError(message, reason="INVALID_RESULT", retryable=True) from None

    return check


def invalid(message: str) -> TaskError:
    """Returns the error of an attempt whose payload the handler cannot take."""
    return TaskError(message, reason="INVALID_PAYLOAD", retryable=False)


def _data(payload: task_pb2.Payload) -> Any:
    try:
        return decode(payload)
    except ValueError as error:
        raise schema.Misfit([("", f"is not {payload.content_type}: {error}")]) from None


def _text(payload: task_pb2.Payload) -> str:
    try:
        return payload.data.decode()
    except UnicodeDecodeError as error:
        fault = f"is not UTF-8: {error.reason} at {error.start}"
        raise schema.Misfit([("", fault)]) from None


def _model(model: Any, payload: task_pb2.Payload) -> Any:
    try:
        return model.model_validate_json(payload.data)
    except ValueError as error:
        raise schema.misfit_of_model(error) from None


def _refusal(misfit: schema.Misfit) -> TaskError:
    whole = len(misfit.faults) == 1 and not misfit.faults[0][0]
    return invalid(f"the payload {misfit}" if whole else f"the payload does not fit: {misfit}")

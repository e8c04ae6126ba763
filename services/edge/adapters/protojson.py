"""Protobuf messages from and to ProtoJSON, by converters compiled once from the descriptors.

Stricter than ProtoJSON where leniency hides mistakes: exact lowerCamelCase names, no unknown field,
no number in a string (but 64-bit ones), no bad base64, no NaN, one arm of a choice. Several times
faster than google.protobuf.json_format, which is lenient in all of these.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import orjson
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from podium.v1.bridge_pb2 import BridgeRequest, BridgeResponse
from services.edge.adapters import scalars
from services.edge.adapters.scalars import Convert, wrong
from services.edge.adapters.strict import Fault, parse

F = FieldDescriptor

_READ: dict[int, Convert] = {
    F.TYPE_STRING: scalars.to_text,
    F.TYPE_BYTES: scalars.to_bytes,
    F.TYPE_BOOL: scalars.to_bool,
    F.TYPE_DOUBLE: scalars.to_number,
    F.TYPE_FLOAT: scalars.to_number,
    F.TYPE_INT32: scalars.to_integer(-(2**31), 2**31 - 1, text=False),
    F.TYPE_UINT32: scalars.to_integer(0, 2**32 - 1, text=False),
    F.TYPE_INT64: scalars.to_integer(-(2**63), 2**63 - 1, text=True),
    F.TYPE_UINT64: scalars.to_integer(0, 2**64 - 1, text=True),
}
_WRITE: dict[int, Convert] = {
    F.TYPE_BYTES: scalars.from_bytes,
    F.TYPE_FLOAT: scalars.from_float,
    F.TYPE_INT64: str,
    F.TYPE_UINT64: str,
}
_READ_KNOWN: dict[str, Convert] = {
    "google.protobuf.Duration": scalars.to_duration,
    "google.protobuf.Timestamp": scalars.to_timestamp,
}
_WRITE_KNOWN: dict[str, Convert] = {
    "google.protobuf.Duration": scalars.from_duration,
    "google.protobuf.Timestamp": scalars.from_timestamp,
}


class _Field(NamedTuple):
    name: str
    read: Convert
    choice: str
    """The oneof it is an arm of; empty for none."""


class Reader:
    """Makes messages of one type from plain objects."""

    def __init__(self, descriptor: Descriptor, known: dict[str, Reader]) -> None:
        known[descriptor.full_name] = self
        self._message: Any = GetMessageClass(descriptor)
        # Its parent copies it, so all parents may have the same.
        self._empty: Any = self._message()
        self._fields: dict[str, _Field] = {}
        for field in descriptor.fields:
            oneof = field.containing_oneof
            choice = "" if oneof is None or len(oneof.fields) == 1 else oneof.name
            self._fields[field.json_name] = _Field(field.name, _reader(field, known), choice)

    def __call__(self, value: Any) -> Any:
        """Return the message that `value` describes.

        Raises:
            Fault: UNKNOWN_FIELD or INVALID_FIELD, with its path.
        """
        if type(value) is not dict:
            raise wrong("must be an object")
        if not value:
            return self._empty
        fields = self._fields
        found: dict[str, Any] = {}
        chosen: set[str] | None = None
        for key, item in value.items():
            field = fields.get(key)
            if field is None:
                raise Fault("UNKNOWN_FIELD", "there is no such field").under(key[:64])
            if item is None:
                continue
            name, read, choice = field
            if choice:
                if chosen is None:
                    chosen = {choice}
                elif choice in chosen:
                    raise wrong(f"must be the only field of {choice}").under(key)
                else:
                    chosen.add(choice)
            try:
                found[name] = read(item)
            except Fault as fault:
                raise fault.under(key) from None
        return self._message(**found)


class Writer:
    """Makes plain objects from messages of one type."""

    def __init__(self, descriptor: Descriptor, known: dict[str, Writer]) -> None:
        known[descriptor.full_name] = self
        self._fields: dict[int, tuple[str, Convert]] = {
            field.number: (field.json_name, _writer(field, known)) for field in descriptor.fields
        }

    def __call__(self, message: Message) -> dict[str, Any]:
        """Return the set fields by their JSON names."""
        fields = self._fields
        found = {}
        for field, value in message.ListFields():
            name, write = fields[field.number]
            found[name] = write(value)
        return found


def _reader(field: FieldDescriptor, known: dict[str, Reader]) -> Convert:
    if _is_map(field):
        return _map_reader(_reader_of_one(_value_of(field), known))
    one = _reader_of_one(field, known)
    return _list_reader(one) if field.is_repeated else one


def _reader_of_one(field: FieldDescriptor, known: dict[str, Reader]) -> Convert:
    if field.enum_type is not None:
        values = field.enum_type.values_by_name
        return scalars.to_enum({name: value.number for name, value in values.items()})
    if field.message_type is None:
        return _READ[field.type]
    name = field.message_type.full_name
    return _READ_KNOWN.get(name) or known.get(name) or Reader(field.message_type, known)


def _list_reader(one: Convert) -> Convert:
    def read(value: Any) -> list[Any]:
        if type(value) is not list:
            raise wrong("must be a list")
        found: list[Any] = []
        try:
            for item in value:
                found.append(one(item))
        except Fault as fault:
            raise fault.under(f"[{len(found)}]") from None
        return found

    return read


def _map_reader(one: Convert) -> Convert:
    def read(value: Any) -> dict[str, Any]:
        if type(value) is not dict:
            raise wrong("must be an object")
        found = {}
        for key, item in value.items():
            try:
                found[scalars.to_text(key)] = one(item)
            except Fault as fault:
                shown = key[:64].encode("utf-8", "replace").decode()
                raise fault.under(f'["{shown}"]') from None
        return found

    return read


def _writer(field: FieldDescriptor, known: dict[str, Writer]) -> Convert:
    if _is_map(field):
        write = _writer_of_one(_value_of(field), known)
        return lambda value: {key: write(item) for key, item in value.items()}
    one = _writer_of_one(field, known)
    if not field.is_repeated:
        return one
    return list if one is _as_is else lambda value: [one(item) for item in value]


def _writer_of_one(field: FieldDescriptor, known: dict[str, Writer]) -> Convert:
    if field.enum_type is not None:
        names = field.enum_type.values_by_number
        return scalars.from_enum({number: value.name for number, value in names.items()})
    if field.message_type is None:
        return _WRITE.get(field.type, _as_is)
    name = field.message_type.full_name
    return _WRITE_KNOWN.get(name) or known.get(name) or Writer(field.message_type, known)


def _as_is(value: Any) -> Any:
    return value


def _is_map(field: FieldDescriptor) -> bool:
    # Every map of the contract has strings as keys.
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _value_of(field: Any) -> FieldDescriptor:
    found: FieldDescriptor = field.message_type.fields_by_name["value"]
    return found


class JsonCodec:
    """The messages of the bridge as JSON, subprotocol `podium.v1.json`."""

    subprotocol = "podium.v1.json"
    binary = False

    def __init__(self) -> None:
        request: Any = BridgeRequest.DESCRIPTOR
        response: Any = BridgeResponse.DESCRIPTOR
        self._read = Reader(request, {})
        self._write = Writer(response, {})

    def decode(self, message: str) -> BridgeRequest:
        """Return the request that `message` holds.

        Raises:
            InvalidArgument: INVALID_JSON, DUPLICATE_KEY, JSON_TOO_DEEP, UNKNOWN_FIELD or
                INVALID_FIELD; `metadata` has the request's `ref` where it could be read.
        """
        value: Any = None
        try:
            value = parse(message)
            request: BridgeRequest = self._read(value)
            return request
        except Fault as fault:
            error = fault.error()
            error.metadata = {"ref": _ref(value)}
            raise error from None

    def encode(self, response: BridgeResponse) -> bytes:
        """Return the JSON of `response`."""
        return orjson.dumps(self._write(response))

    def address(self, ref: str, body: bytes) -> bytes:
        """Return `body` with `ref` as its first field."""
        head = b'{"ref":' + orjson.dumps(ref)
        return head + body[1:] if body == b"{}" else head + b"," + body[1:]


def _ref(value: Any) -> str:
    ref = value.get("ref") if type(value) is dict else None
    return ref if type(ref) is str and len(ref) <= 64 and ref.isprintable() else ""


__all__ = ["JsonCodec", "Reader", "Writer"]

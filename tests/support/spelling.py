"""The two spellings of the bridge's messages, to tests that think in plain objects."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

from google.protobuf import json_format

from podium.v1.bridge_pb2 import BridgeRequest, BridgeResponse


class Spelling(NamedTuple):
    """How a connection to a bridge spells its messages."""

    subprotocol: str
    write: Callable[[dict[str, Any]], str | bytes]
    read: Callable[[Any], dict[str, Any]]


def _to_binary(said: dict[str, Any]) -> bytes:
    return json_format.ParseDict(said, BridgeRequest()).SerializeToString()


def _from_binary(heard: bytes) -> dict[str, Any]:
    return json_format.MessageToDict(BridgeResponse.FromString(heard))


JSON = Spelling("podium.v1.json", json.dumps, json.loads)
BINARY = Spelling("podium.v1.proto", _to_binary, _from_binary)

"""The bridge's messages as they are on every other wire of the suite: binary protobuf."""

from __future__ import annotations

from podium.v1.bridge_pb2 import BridgeRequest, BridgeResponse
from services.kernel.errors import InvalidArgument


class ProtoCodec:
    """The messages of the bridge as binary protobuf, subprotocol `podium.v1.proto`."""

    subprotocol = "podium.v1.proto"
    binary = True

    def decode(self, message: bytes) -> BridgeRequest:
        """Return the request that `message` holds.

        Raises:
            InvalidArgument: MALFORMED_REQUEST.
        """
        try:
            return BridgeRequest.FromString(message)
        # The decoder of protobuf raises more than its DecodeError; none of it may get out.
        except Exception:
            raise InvalidArgument(
                "MALFORMED_REQUEST", "The message is no BridgeRequest: malformed bytes."
            ) from None

    def encode(self, response: BridgeResponse) -> bytes:
        """Return the bytes of `response`."""
        return response.SerializeToString()

    def address(self, ref: str, body: bytes) -> bytes:
        """Return `body` with `ref`: bytes of messages one after the other are their sum."""
        return BridgeResponse(ref=ref).SerializeToString() + body

"""Pages of a list: a size that cannot hurt, and tokens nobody can forge or carry elsewhere."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac

from services.kernel import limits
from services.kernel.errors import InvalidArgument, Violation

_MAC_LEN = 16
_TOKEN_LEN_MAX = 4_096


def encode_token(position: str, arguments: bytes, key: bytes) -> str:
    """Return the token that continues at `position`.

    Args:
        position: Where the next page begins.
        arguments: The other arguments of the list and who asked, so that the token fits no other.
        key: Secret of the service.
    """
    raw = position.encode()
    mac = _mac(raw, arguments, key)
    return base64.urlsafe_b64encode(mac + raw).rstrip(b"=").decode()


def decode_token(token: str, arguments: bytes, key: bytes) -> str:
    """Return the position of `token`; empty for the first page, which has no token.

    Raises:
        InvalidArgument: PAGE_TOKEN_INVALID, not made by this list with these arguments.
    """
    if not token:
        return ""
    try:
        if len(token) > _TOKEN_LEN_MAX:
            raise ValueError
        padded = token.encode("ascii") + b"=" * (-len(token) % 4)
        raw = base64.b64decode(padded, altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        raise _invalid() from None
    mac, position = raw[:_MAC_LEN], raw[_MAC_LEN:]
    if not hmac.compare_digest(mac, _mac(position, arguments, key)):
        raise _invalid()
    return position.decode()


def page_size(
    requested: int,
    default: int = limits.page_len_default,
    maximum: int = limits.page_len_max,
) -> int:
    """Return the size of a page: the default for 0, the maximum for more than it.

    Raises:
        InvalidArgument: INVALID_FIELD, the size is negative.
    """
    if requested < 0:
        raise InvalidArgument(
            "INVALID_FIELD",
            "page_size must not be negative.",
            metadata={"field": "page_size"},
            violations=[Violation("page_size", "must not be negative")],
        )
    return min(requested or default, maximum)


def _mac(position: bytes, arguments: bytes, key: bytes) -> bytes:
    # Both lengths are fixed by hashing the arguments, so no two pairs share an input.
    digest = hashlib.sha256(arguments).digest() + position
    return hmac.new(key, digest, hashlib.sha256).digest()[:_MAC_LEN]


def _invalid() -> InvalidArgument:
    return InvalidArgument(
        "PAGE_TOKEN_INVALID",
        "page_token is not from this list with these arguments; begin again without one.",
        violations=[Violation("page_token", "must be the next_page_token of the same list")],
    )

"""JSON text into plain objects, refusing everything that JSON parsers usually let pass.

Duplicate keys, NaN, endless nesting and numbers of thousands of digits are errors here, so that
what the bridge understands is what every other reader of the same text would understand.
"""

from __future__ import annotations

import json
from typing import Any

from services.kernel.errors import InvalidArgument, Violation


class Fault(Exception):
    """Something in the text is not what it must be; the path is completed on the way out."""

    def __init__(self, reason: str, description: str) -> None:
        super().__init__(description)
        self.reason = reason
        self.description = description
        self.path = ""

    def under(self, key: str) -> Fault:
        """Return this fault as seen from the object that holds `key`."""
        joint = "." if self.path and not self.path.startswith("[") else ""
        self.path = f"{key}{joint}{self.path}"
        return self

    def error(self) -> InvalidArgument:
        """Return what the peer is told."""
        where = f" at {self.path[:256]}" if self.path else ""
        return InvalidArgument(
            self.reason,
            f"The message is not valid{where}: {self.description}.",
            violations=[Violation(self.path[:256], self.description)] if self.path else (),
        )


def parse(text: str) -> Any:
    """Return the value that `text` holds.

    Raises:
        Fault: INVALID_JSON, DUPLICATE_KEY or JSON_TOO_DEEP.
    """
    try:
        start = 0 if text[:1] in ("{", "[") else len(text) - len(text.lstrip(_SPACE))
        value, end = _scan(text, start)
    except StopIteration as error:
        raise Fault("INVALID_JSON", f"Expecting value at character {error.value}") from None
    except RecursionError:
        raise Fault("JSON_TOO_DEEP", "it nests deeper than any message does") from None
    except json.JSONDecodeError as error:
        raise Fault("INVALID_JSON", f"{error.msg} at character {error.pos}") from None
    except ValueError:
        # int() refuses thousands of digits with a ValueError of its own.
        raise Fault("INVALID_JSON", "it holds a number that no field can hold") from None
    if end != len(text) and text[end:].strip(_SPACE):
        raise Fault("INVALID_JSON", f"Extra data at character {end}")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise Fault("DUPLICATE_KEY", f"the key {json.dumps(key[:64])} occurs twice")
            seen.add(key)
    return found


def _constant(name: str) -> Any:
    raise Fault("INVALID_JSON", f"{name} is not JSON")


_SPACE = " \t\n\r"
# The scanner itself: around it, the decoder spends more than the scanner on a short message.
_scan: Any = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant).scan_once  # type: ignore[attr-defined]  # not in the stubs

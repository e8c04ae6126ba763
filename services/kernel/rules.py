"""Rules of messages at the edges: every field that breaks one is told, all in one answer."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Protocol

from services.kernel import limits, versions
from services.kernel.errors import InvalidArgument, Violation

key_len_max = 128

_IDENTIFIER = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?").fullmatch
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}").fullmatch
_CAPABILITY = re.compile(r"[a-z0-9][a-z0-9._:-]{0,63}").fullmatch
_LABEL_KEY = re.compile(r"[a-z0-9](?:[a-z0-9._/-]{0,62}[a-z0-9])?").fullmatch
_PLAIN = re.compile(r"[ -~]*").fullmatch

# Control, format (which has the bidirectional overrides), surrogate, private, unassigned, and the
# two separators that end a line in places.
_UNPRINTABLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def is_key(value: str, len_max: int = key_len_max) -> bool:
    """Whether a value is a key as callers choose them: A-Z a-z 0-9 . _ : -, at most `len_max`."""
    return _KEY(value) is not None and len(value) <= len_max


class Duration(Protocol):
    """What `google.protobuf.Duration` has; not imported, so that cores may use these rules."""

    @property
    def seconds(self) -> int:
        """Whole seconds."""

    @property
    def nanos(self) -> int:
        """The rest, in nanoseconds."""


class Checker:
    """Collects what breaks a rule; `done` raises when anything did.

    Each method returns whether the value is right.
    """

    __slots__ = ("_violations",)

    def __init__(self) -> None:
        self._violations: list[Violation] = []

    def __bool__(self) -> bool:
        """True while everything was right."""
        return not self._violations

    def done(self) -> None:
        """Raise if anything broke a rule.

        Raises:
            InvalidArgument: INVALID_FIELD, with every violation.
        """
        if not self._violations:
            return
        first = self._violations[0]
        more = len(self._violations) - 1
        suffix = f" ({more} more)" if more else ""
        raise InvalidArgument(
            "INVALID_FIELD",
            f"{first.field} {first.description}{suffix}.",
            metadata={"field": first.field},
            violations=self._violations,
        )

    def fault(self, path: str, description: str) -> bool:
        """Note that `path` breaks a rule; `description` says what it must be."""
        self._violations.append(Violation(path, description))
        return False

    def require(self, path: str, holds: bool, description: str) -> bool:
        """Check a rule of the caller's own."""
        return holds or self.fault(path, description)

    def identifier(self, path: str, value: str, *, optional: bool = False) -> bool:
        """Check an identifier: lower case letters, digits and inner hyphens, up to 64."""
        if _IDENTIFIER(value) or (optional and not value):
            return True
        return self.fault(path, "must be 1 to 64 of a-z, 0-9 and inner hyphens")

    def key(
        self, path: str, value: str, *, optional: bool = False, len_max: int = key_len_max
    ) -> bool:
        """Check a key the caller chose, as a request id: A-Z a-z 0-9 . _ : -, at most `len_max`."""
        if is_key(value, len_max) or (optional and not value):
            return True
        return self.fault(path, f"must be 1 to {len_max} of A-Z, a-z, 0-9 and . _ : -")

    def capability(self, path: str, value: str) -> bool:
        """Check the name of a capability or of a task type; there are no wildcards."""
        if _CAPABILITY(value):
            return True
        return self.fault(
            path, "must be 1 to 64 of a-z, 0-9 and . _ : -, beginning with a letter or digit"
        )

    def capabilities(
        self, path: str, values: Iterable[str], len_max: int = limits.capabilities_len_max
    ) -> bool:
        """Check names of capabilities; repetitions are the caller's to drop."""
        listed = list(values)
        right = self.length(path, len(listed), len_max)
        for index, value in enumerate(listed[:len_max]):
            if not _CAPABILITY(value):
                right = self.capability(f"{path}[{index}]", value)
        return right

    def requirements(
        self, path: str, values: Iterable[str], len_max: int = limits.capabilities_len_max
    ) -> bool:
        """Check names of capabilities, each with the least version after an `@` or without."""
        listed = list(values)
        right = self.length(path, len(listed), len_max)
        for index, value in enumerate(listed[:len_max]):
            name, asks, version = value.partition(versions.mark)
            if not _CAPABILITY(name):
                right = self.capability(f"{path}[{index}]", name)
            elif asks and versions.rank(version) is None:
                right = self.fault(
                    f"{path}[{index}]",
                    f"must name a version after the @, as {name}@2.1: numbers with dots, at most"
                    f" {versions.version_len_max} characters",
                )
        return right

    def name(self, path: str, value: str, *, optional: bool = True) -> bool:
        """Check a name for people: printable, no control or bidirectional characters."""
        if not value and not optional:
            return self.fault(path, "must not be empty")
        return self.text(path, value, limits.name_len_max)

    def text(self, path: str, value: str, len_max: int = limits.text_len_max) -> bool:
        """Check text for people: at most `len_max` printable characters, normalized (NFC)."""
        if len(value) > len_max:
            return self.fault(path, f"must be at most {len_max} characters")
        if _PLAIN(value):
            return True
        if any(unicodedata.category(character) in _UNPRINTABLE for character in value):
            return self.fault(path, "must be printable, without control characters")
        if not unicodedata.is_normalized("NFC", value):
            return self.fault(path, "must be normalized text (NFC)")
        return True

    def integer(self, path: str, value: int, low: int, high: int) -> bool:
        """Check that `value` is from `low` to `high`."""
        return low <= value <= high or self.fault(path, f"must be from {low} to {high}")

    def finite(
        self, path: str, value: float, low: float = -math.inf, high: float = math.inf
    ) -> bool:
        """Check that `value` is a number, not infinite, and from `low` to `high`."""
        if low <= value <= high and math.isfinite(value):
            return True
        if math.isinf(low) and math.isinf(high):
            return self.fault(path, "must be a finite number")
        if math.isinf(high):
            return self.fault(path, f"must be a finite number of at least {low:g}")
        return self.fault(path, f"must be a number from {low:g} to {high:g}")

    def duration(
        self,
        path: str,
        value: Duration,
        low_s: float = 0.0,
        high_s: float = limits.deadline_s_max,
    ) -> bool:
        """Check that a duration is well formed and from `low_s` to `high_s` seconds."""
        seconds, nanos = value.seconds, value.nanos
        formed = abs(nanos) <= 999_999_999 and (
            seconds == 0 or nanos == 0 or (seconds < 0) == (nanos < 0)
        )
        if formed and low_s <= seconds + nanos / 1e9 <= high_s:
            return True
        return self.fault(path, f"must be a duration from {low_s:g} s to {high_s:.10g} s")

    def length(self, path: str, value: int, high: int, low: int = 0) -> bool:
        """Check the number of items of a list."""
        if low <= value <= high:
            return True
        if low:
            return self.fault(path, f"must have {low} to {high} items")
        return self.fault(path, f"must have at most {high} items")

    def size(self, path: str, value: int, high: int) -> bool:
        """Check a number of bytes."""
        return value <= high or self.fault(path, f"must be at most {high} bytes")

    def labels(self, path: str, values: Mapping[str, str]) -> bool:
        """Check labels: up to 32, keys of 64 and values of 256 characters."""
        right = self.length(path, len(values), limits.labels_len_max)
        if not right:
            return False
        for key, value in values.items():
            if not _LABEL_KEY(key):
                right = self.fault(
                    f"{path}[{key[:80]!a}]",
                    "must have a key of 1 to 64 of a-z, 0-9 and inner . _ / -",
                )
            elif not self.text(f"{path}[{key}]", value, limits.label_value_len_max):
                right = False
        return right

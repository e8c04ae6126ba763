"""Logs: JSON lines in production, readable lines in development, safe with hostile text in both."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any, TextIO

_PLAIN = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}

# Control characters, the separators some viewers break lines at, and bidirectional overrides:
# whoever names an agent must not be able to forge or reorder a line.
_UNSAFE = {
    code: f"\\u{code:04x}"
    for code in (
        *range(0x20),
        *range(0x7F, 0xA0),
        0x061C,
        0x200E,
        0x200F,
        *range(0x2028, 0x202F),
        *range(0x2066, 0x206A),
        0xFEFF,
    )
}
_UNSAFE |= {0x0A: "\\n", 0x0D: "\\r", 0x09: "\\t", 0x1B: "\\x1b"}
_UNSAFE_IN_TRACE = {code: text for code, text in _UNSAFE.items() if code != 0x0A}


def setup_logging(
    profile: str, level: str, *, service: str = "", stream: TextIO | None = None
) -> None:
    """Send all logs to `stream` (standard error) in the form of the profile."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(_Json(service) if profile == "production" else _Readable())
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    logging.getLogger("podium").setLevel(level.upper())


def escaped(text: str) -> str:
    """Return `text` on one line, with nothing in it a terminal would obey."""
    return text.translate(_UNSAFE)


def _extras(record: logging.LogRecord) -> dict[str, Any]:
    return {key: value for key, value in record.__dict__.items() if key not in _PLAIN}


class _Json(logging.Formatter):
    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "service": self._service,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= _extras(record)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        # ASCII only: every character a viewer could obey leaves as an escape.
        return json.dumps(line, default=str, ensure_ascii=True)


class _Readable(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%H:%M:%S", time.localtime(record.created))
        name = record.name.removeprefix("podium.")
        fields = "".join(f" {key}={escaped(str(value))}" for key, value in _extras(record).items())
        line = (
            f"{moment}.{int(record.msecs):03d} {record.levelname[0]} {name}: "
            f"{escaped(record.getMessage())}{fields}"
        )
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info).translate(_UNSAFE_IN_TRACE)
        return line

"""How tasks, times and payloads look to people."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC
from typing import cast

import orjson
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from rich.table import Table
from rich.text import Text

from podium.cli.output import plain
from podium.sdk import payloads
from podium.v1 import event_pb2, task_pb2

State = task_pb2.Task.State

COLOURS = {
    task_pb2.Task.STATE_COMPLETED: "green",
    task_pb2.Task.STATE_RUNNING: "cyan",
    task_pb2.Task.STATE_ASSIGNED: "cyan",
    task_pb2.Task.STATE_FAILED: "red",
    task_pb2.Task.STATE_EXPIRED: "red",
    task_pb2.Task.STATE_REJECTED: "red",
    task_pb2.Task.STATE_CANCELED: "yellow",
    task_pb2.Task.STATE_RETRY_WAIT: "yellow",
    task_pb2.Task.STATE_INPUT_REQUIRED: "magenta",
}
ENDED = (
    task_pb2.Task.STATE_COMPLETED,
    task_pb2.Task.STATE_FAILED,
    task_pb2.Task.STATE_CANCELED,
    task_pb2.Task.STATE_EXPIRED,
    task_pb2.Task.STATE_REJECTED,
)
"""States from which nothing but a requeue leads on."""
PAYLOAD_LEN_MAX = 2_000
STATES = {
    # The stubs type the enum's items as int.
    name.removeprefix("STATE_").lower(): cast("State", number)
    for name, number in State.items()
    if number
}


def state_name(state: State) -> str:
    """Returns a state in small letters."""
    return State.Name(state).removeprefix("STATE_").lower()


def state(value: State) -> str:
    """Returns a state with its colour."""
    return f"[{COLOURS.get(value, 'default')}]{state_name(value)}[/]"


def event_name(kind: event_pb2.Event.Type) -> str:
    """Returns an event's name as over the bridge, for example task:created."""
    return "task:" + event_pb2.Event.Type.Name(kind).removeprefix("TYPE_").lower()


def clock(when: Timestamp) -> str:
    """Returns a local time of day with milliseconds; empty for none."""
    if not when.seconds:
        return ""
    local = when.ToDatetime(tzinfo=UTC).astimezone()
    return local.strftime("%H:%M:%S.") + f"{local.microsecond // 1000:03d}"


def moment(when: Timestamp) -> str:
    """Returns a local date and time of day with seconds and its zone; empty for none."""
    if not when.seconds:
        return ""
    return when.ToDatetime(tzinfo=UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")


def age(when: Timestamp, now: Timestamp | None = None) -> str:
    """Returns how long ago something was."""
    if not when.seconds:
        return ""
    if now is None:
        now = Timestamp()
        now.GetCurrentTime()
    return seconds(max(0.0, (now.ToNanoseconds() - when.ToNanoseconds()) / 1e9))


def seconds(value: float) -> str:
    """Returns a span of time in the unit that suits it."""
    if value < 1.0:
        return f"{value * 1e3:.1f} ms"
    if value < 120.0:
        return f"{value:.1f} s"
    if value < 7_200.0:
        return f"{value / 60:.0f} min"
    return f"{value / 3600:.0f} h"


def span(duration: Duration) -> str:
    """Returns a Duration in the unit that suits it; empty for none."""
    value = duration.ToNanoseconds() / 1e9
    return seconds(value) if value else ""


def payload(value: task_pb2.Payload) -> str:
    """Returns a payload as text: JSON indented, bytes by their length.

    What has no type and reads as text is shown as such: short agents name none.
    """
    try:
        decoded = payloads.decode(value)
    except ValueError:
        decoded = value.data
    if decoded is None:
        return ""
    if isinstance(decoded, bytes) and not value.content_type and _is_text(decoded):
        decoded = decoded.decode()
    if isinstance(decoded, bytes):
        return f"{len(decoded)} bytes of {plain(value.content_type) or 'unknown type'}"
    if not isinstance(decoded, str):
        decoded = orjson.dumps(decoded, option=orjson.OPT_INDENT_2).decode()
    lines = [plain(line) for line in decoded[:PAYLOAD_LEN_MAX].splitlines()]
    more = len(decoded) - PAYLOAD_LEN_MAX
    return "\n".join(lines) + (f"\n… {more} characters more" if more > 0 else "")


def table(names: Sequence[str], rows: Iterable[Sequence[str]], *, cut: str = "") -> Table:
    """Returns a table of one line a row; only the column `cut` gives way where it is narrow."""
    cells = list(rows)
    made = Table(box=None)
    for index, name in enumerate(names):
        width = max((Text.from_markup(row[index]).cell_len for row in cells), default=0)
        least = None if name == cut else max(width, len(name))
        made.add_column(name, no_wrap=True, min_width=least)
    for row in cells:
        made.add_row(*row)
    return made


def _is_text(data: bytes) -> bool:
    try:
        return all(each.isprintable() or each in "\n\t" for each in data.decode())
    except UnicodeDecodeError:
        return False

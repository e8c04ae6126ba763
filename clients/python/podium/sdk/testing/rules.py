"""What a scheduler would refuse at the door, of that which no agent could ever serve."""

from __future__ import annotations

import re

from podium.sdk.errors import InvalidArgument, Violation
from podium.sdk.versions import rank
from podium.v1 import task_pb2

_NAME = re.compile(r"[a-z0-9][a-z0-9._:-]{0,63}")


def check(spec: task_pb2.TaskSpec) -> None:
    """Checks the names in a task.

    Raises:
        InvalidArgument: INVALID_FIELD; `violations` say what.
    """
    wrong = [] if _NAME.fullmatch(spec.type) else [Violation("type", "is no task type")]
    for field in ("required_capabilities", "preferred_capabilities"):
        for index, wanted in enumerate(getattr(spec, field)):
            name, asks, version = wanted.partition("@")
            if not _NAME.fullmatch(name) or (asks and rank(version) is None):
                why = f"must be a capability, as name or name@2.1, not {wanted[:64]!r}"
                wrong.append(Violation(f"{field}[{index}]", why))
    if wrong:
        raise InvalidArgument("INVALID_FIELD", "the task is not valid", violations=wrong)

"""Signs of life: whether a peer that says nothing is quiet, or gone."""

from __future__ import annotations

from typing import Literal

Verdict = Literal["alive", "ask", "dead"]


class Pulse:
    """The pulse of one connection, looked at again and again.

    Whatever comes is noted without the time, since that is done for every message; when it came is
    as exact as somebody looks often.

    Args:
        quiet_s: seconds of silence after which the peer is asked for a sign.
        answer_s: seconds it has to give one.
    """

    __slots__ = ("_answer_s", "_asked_s", "_quiet_s", "_since_s", "heard")

    def __init__(self, quiet_s: float, answer_s: float) -> None:
        self.heard = True
        """Set by whoever hears something of the peer."""
        self._quiet_s = quiet_s
        self._answer_s = answer_s
        self._since_s = 0.0
        self._asked_s: float | None = None

    def look(self, now_s: float) -> Verdict:
        """Tell how the peer is; after `ask` it must be asked for a sign, once."""
        if self.heard:
            self.heard = False
            self._since_s, self._asked_s = now_s, None
        elif self._asked_s is not None:
            return "dead" if now_s - self._asked_s >= self._answer_s else "alive"
        elif now_s - self._since_s >= self._quiet_s:
            self._asked_s = now_s
            return "ask"
        return "alive"

"""Which model is in use, which are kept, and how far the model decides."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import NamedTuple

from services.kernel.errors import NotFound
from services.ml_router.core.learner import Sums

kept_len_max = 24


class Mode(Enum):
    """How far the model decides."""

    OFF = "off"
    SHADOW = "shadow"
    CANARY = "canary"
    LIVE = "live"


class Kept(NamedTuple):
    """One version that is kept, without its matrices."""

    version: str
    create_ms: int
    event_seq: int
    agent_count: int
    task_type_count: int
    outcome_count: int


@dataclass(frozen=True)
class Policy:
    """What operators decided; survives restarts."""

    mode: Mode = Mode.LIVE
    canary_fraction: float = 0.0
    pinned: str = ""
    """The version returned to; empty: the newest is in use."""


@dataclass(frozen=True)
class Checkpoint:
    """A version with what it was derived from, as kept on disk."""

    kept: Kept
    cursor: str
    """Where the event log continues after it."""
    sums: Sums


class Versions:
    """The versions on record, oldest first, and the policy in force."""

    def __init__(self, policy: Policy, kept: Iterable[Kept] = ()) -> None:
        self.policy = policy
        self._kept = sorted(kept)
        self._last_ms = max((entry.create_ms for entry in self._kept), default=0)

    def next_version(self, now_ms: int) -> tuple[str, int]:
        """Return a name that sorts after all before it, and the time in it.

        Names hold the time, since a counter would begin again where the last version on record
        stood, and name two models alike.
        """
        self._last_ms = max(now_ms, self._last_ms + 1)
        seconds, ms = divmod(self._last_ms, 1_000)
        moment = datetime.fromtimestamp(seconds, UTC)
        return f"{moment:%Y%m%dT%H%M%S}.{ms:03d}", self._last_ms

    def keep(self, entry: Kept) -> list[str]:
        """Put a version on record; return those to delete for it.

        The newest stay close together and the older ones spread out, so that there is always a
        version from minutes, hours and days ago.
        """
        self._kept.append(entry)
        dropped = []
        while len(self._kept) > kept_len_max:
            dropped.append(self._kept.pop(self._least_missed()).version)
        return dropped

    def drop(self, version: str) -> None:
        """Take a version off the record: it cannot be read any more."""
        self._kept = [entry for entry in self._kept if entry.version != version]

    def find(self, version: str) -> Kept | None:
        """Return a version on record."""
        return next((entry for entry in self._kept if entry.version == version), None)

    def newest_first(self) -> list[Kept]:
        """Return all versions on record."""
        return self._kept[::-1]

    def target(self, version: str, current: str) -> str:
        """Return the version a roll-back leads to; empty means the one before `current`.

        Raises:
            NotFound: MODEL_NOT_FOUND.
        """
        if version:
            if self.find(version) is not None:
                return version
            raise NotFound(
                "MODEL_NOT_FOUND",
                f"There is no model {version!r}: ListModels tells which are kept.",
                metadata={"model_version": version},
            )
        earlier = [entry.version for entry in self._kept if entry.version < current]
        if not earlier:
            raise NotFound("MODEL_NOT_FOUND", "No model is kept from before the current one.")
        return earlier[-1]

    def pin(self, version: str) -> None:
        """Use `version` until the mode is set."""
        self.policy = Policy(self.policy.mode, self.policy.canary_fraction, version)

    def set_mode(self, mode: Mode, canary_fraction: float) -> None:
        """Change the mode and use the newest version again."""
        # A share means something in mode CANARY alone.
        self.policy = Policy(mode, canary_fraction if mode is Mode.CANARY else 0.0)

    def _least_missed(self) -> int:
        newest = self._kept[-1].create_ms
        pinned = self.policy.pinned

        def loss(index: int) -> tuple[float, int]:
            entry = self._kept[index]
            gap = self._kept[index + 1].create_ms - self._kept[index - 1].create_ms
            return (gap / (newest - entry.create_ms + 1), index)

        # The oldest and the newest stay, and so does the one in use.
        inner = [i for i in range(1, len(self._kept) - 1) if self._kept[i].version != pinned]
        return min(inner, key=loss)

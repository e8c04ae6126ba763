"""What MLRouter needs of the world."""

from __future__ import annotations

from typing import Protocol

from services.ml_router.core.evaluation import Decided
from services.ml_router.core.model import Model
from services.ml_router.core.versions import Checkpoint, Kept, Mode, Policy


class SnapshotRefused(Exception):
    """A snapshot cannot be used; the message says why in a sentence."""


class Snapshots(Protocol):
    """Keeps checkpoints and the policy across restarts. Calls block: use a thread."""

    def list(self) -> list[Kept]:
        """Return the readable versions, oldest first; those that are not are put aside."""

    def load(self, version: str) -> Checkpoint:
        """Return a checkpoint.

        Raises:
            SnapshotRefused: It is damaged, of another schema, or gone.
        """

    def save(self, checkpoint: Checkpoint) -> None:
        """Keep a checkpoint: all of it or, after a crash, nothing."""

    def delete(self, version: str) -> None:
        """Drop a checkpoint; one that is gone is no error."""

    def load_policy(self) -> Policy | None:
        """Return what operators decided, or None when they have not or it cannot be read."""

    def save_policy(self, policy: Policy) -> None:
        """Keep what operators decided."""


class Decisions(Protocol):
    """The logged decisions whose outcomes are known."""

    def recent(self, count: int) -> list[Decided]:
        """Return the last `count`, newest first."""


class Models(Protocol):
    """The model in use and how it is governed."""

    @property
    def revision(self) -> int:
        """Counts what watchers are told: new models, policies, repetitions."""

    @property
    def current(self) -> Model:
        """The model in use."""

    @property
    def policy(self) -> Policy:
        """How far it decides."""

    @property
    def closed(self) -> bool:
        """Whether the service stops, so that watchers should go."""

    def listed(self) -> list[Kept]:
        """Return the versions on record and the one in use, newest first."""

    async def changed(self, revision: int) -> None:
        """Return when there is something newer to tell than `revision`, or never will be."""

    async def set_mode(self, mode: Mode, canary_fraction: float) -> None:
        """Change the mode and use the newest model."""

    async def roll_back(self, version: str) -> str:
        """Use an earlier version, or the one before the current if `version` is empty."""

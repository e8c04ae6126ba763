"""The learning loop: derives, pushes and keeps models while the event log is followed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from services.kernel.clock import Clock
from services.kernel.errors import NotFound
from services.ml_router.core.learner import Learner, empty
from services.ml_router.core.model import Model, Tuning, derive
from services.ml_router.core.versions import Checkpoint, Kept, Mode, Policy, Versions
from services.ml_router.ports import SnapshotRefused, Snapshots

log = logging.getLogger("podium.ml_router.learning")


@dataclass(frozen=True)
class Pace:
    """How often things are done."""

    update_s: float
    push_interval_s: float
    checkpoint_s: float


class Learning:
    """Owns the model in use. Implements `ports.Models`."""

    def __init__(
        self,
        learner: Learner,
        snapshots: Snapshots,
        *,
        policy: Policy,
        tuning: Tuning,
        pace: Pace,
        clock: Clock,
    ) -> None:
        self._learner = learner
        self._snapshots = snapshots
        self._tuning = tuning
        self._pace = pace
        self._clock = clock
        self._versions = Versions(snapshots.load_policy() or policy, snapshots.list())
        self._cursor: Callable[[], str] = str
        self._told = asyncio.Event()
        self._pushed_s = clock.now().mono_s
        self._checkpoint_s = clock.now().mono_s
        self._kept_outcomes = 0
        self._writing = asyncio.Lock()
        self.revision = 1
        self.closed = False
        self.restored_cursor = self._restore()
        self._newest = self._derive()
        self.current = self._pinned() or self._newest

    @property
    def policy(self) -> Policy:
        """How far the model decides."""
        return self._versions.policy

    def follow(self, cursor: Callable[[], str]) -> None:
        """Ask `cursor` from now on where the event log continues after what was learned."""
        self._cursor = cursor

    def begin_anew(self) -> None:
        """Forget everything: the event log is another one."""
        self._learner.reset(empty())
        self._kept_outcomes = 0
        self._newest = self._derive()
        if not self.policy.pinned:
            self._use(self._newest)

    async def run(self) -> None:
        """Keep the model current until cancelled."""
        while True:
            await self._clock.sleep(self._pace.update_s)
            self.update()
            if self._clock.now().mono_s - self._checkpoint_s >= self._pace.checkpoint_s:
                await self.checkpoint()

    def update(self) -> None:
        """Push a new version if something was learned, or the same one when it is time again."""
        if self._learner.sums.outcome_count != self._newest.outcome_count:
            self._newest = self._derive()
            if not self.policy.pinned:
                self._use(self._newest)
                return
        if self._clock.now().mono_s - self._pushed_s >= self._pace.push_interval_s:
            self._push()

    async def checkpoint(self) -> None:
        """Keep what is known now as a version, unless nothing was learned since the last one."""
        async with self._writing:
            self._checkpoint_s = self._clock.now().mono_s
            if self._learner.sums.outcome_count == self._kept_outcomes:
                return
            # Sums and cursor must be of the same moment, and the version that of the model in use.
            sums, cursor = self._learner.sums.copy(), self._cursor()
            self.update()
            model = self._newest
            try:
                await asyncio.to_thread(
                    self._snapshots.save, Checkpoint(_entry(model), cursor, sums)
                )
                for version in self._versions.keep(_entry(model)):
                    await asyncio.to_thread(self._snapshots.delete, version)
            except OSError as error:
                log.warning("The model could not be kept on disk: %s", error)
                return
            self._kept_outcomes = sums.outcome_count

    def listed(self) -> list[Kept]:
        """Return the versions on record and the one in use, newest first."""
        listed = self._versions.newest_first()
        if self._versions.find(self.current.version) is None:
            listed.append(_entry(self.current))
        return sorted(listed, reverse=True)

    async def changed(self, revision: int) -> None:
        """Return when there is something newer to tell than `revision`, or never will be."""
        while self.revision <= revision and not self.closed:
            await self._told.wait()

    async def drain(self) -> None:
        """Let watchers go, and keep what was learned."""
        self.closed = True
        self._told.set()
        await self.checkpoint()

    async def set_mode(self, mode: Mode, canary_fraction: float) -> None:
        """Change the mode and use the newest model."""
        self._versions.set_mode(mode, canary_fraction)
        self._use(self._newest)
        await self._save_policy()

    async def roll_back(self, version: str) -> str:
        """Use an earlier version, or the one before the current if `version` is empty.

        Raises:
            NotFound: MODEL_NOT_FOUND.
        """
        target = self._versions.target(version, self.current.version)
        try:
            checkpoint = await asyncio.to_thread(self._snapshots.load, target)
        except SnapshotRefused as error:
            self._versions.drop(target)
            raise NotFound(
                "MODEL_NOT_FOUND",
                f"The model {target} cannot be used: {error}.",
                metadata={"model_version": target},
            ) from None
        self._versions.pin(target)
        self._use(self._model(checkpoint))
        await self._save_policy()
        return target

    def _restore(self) -> str:
        """Continue from the newest readable checkpoint; return where the log continues after it."""
        for kept in self._versions.newest_first():
            try:
                checkpoint = self._snapshots.load(kept.version)
            except SnapshotRefused as error:
                log.warning("A model snapshot is not used: %s", error)
                self._versions.drop(kept.version)
                continue
            self._learner.reset(checkpoint.sums)
            self._kept_outcomes = checkpoint.sums.outcome_count
            log.info("Learning continues from version %s", kept.version)
            return checkpoint.cursor
        return ""

    def _pinned(self) -> Model | None:
        pinned = self.policy.pinned
        if not pinned:
            return None
        try:
            return self._model(self._snapshots.load(pinned))
        except SnapshotRefused as error:
            log.warning("The newest model is used, not the one that was chosen: %s", error)
            self._versions.set_mode(self.policy.mode, self.policy.canary_fraction)
            return None

    def _derive(self) -> Model:
        version, create_ms = self._versions.next_version(self._clock.now().wall_ms)
        return derive(self._learner.sums, version=version, create_ms=create_ms, tuning=self._tuning)

    def _model(self, checkpoint: Checkpoint) -> Model:
        kept = checkpoint.kept
        return derive(
            checkpoint.sums, version=kept.version, create_ms=kept.create_ms, tuning=self._tuning
        )

    def _use(self, model: Model) -> None:
        self.current = model
        self._push()

    def _push(self) -> None:
        self.revision += 1
        self._pushed_s = self._clock.now().mono_s
        self._told.set()
        self._told = asyncio.Event()

    async def _save_policy(self) -> None:
        try:
            await asyncio.to_thread(self._snapshots.save_policy, self.policy)
        except OSError as error:
            log.warning("The mode could not be kept on disk, a restart forgets it: %s", error)


def _entry(model: Model) -> Kept:
    return Kept(
        model.version,
        model.create_ms,
        model.event_seq,
        len(model.agent_ids),
        len(model.task_types),
        model.outcome_count,
    )

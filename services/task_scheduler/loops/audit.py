"""Reads the whole log again now and then, so that damage of the disk is found while there is help.

It checks the chain of hashes slice by slice and rests after each, so that nobody waits for it.
Damage stops nothing: the tasks are in memory and in snapshots, and only what happened before is in
question.
"""

from __future__ import annotations

import logging

from services.kernel.clock import Clock
from services.kernel.errors import FailedPrecondition, Unavailable
from services.task_scheduler.loops.commit import Committer

log = logging.getLogger("podium.task_scheduler.audit")

WORK_SHARE = 0.05
"""Share of the time in which a check reads and hashes."""
PAUSE_S_MIN = 0.02


class Audit:
    """Checks the log of a committer.

    Args:
        committer: Whose log it is, and where what is found is noted.
        clock: The time.
        every_s: From the end of one check to the begin of the next, and before the first.
    """

    def __init__(self, committer: Committer, clock: Clock, every_s: float) -> None:
        self.checks = 0
        """Checks that came to the end of the log."""
        self._committer = committer
        self._clock = clock
        self._every_s = every_s

    async def run(self) -> None:
        """Check until cancelled."""
        await self._committer.started()
        while True:
            # What recovery reads it has checked.
            await self._clock.sleep(self._every_s)
            try:
                await self.check()
            except Unavailable as failed:
                log.warning("the log was not checked: %s", failed.message)

    async def check(self) -> None:
        """Check all of the log that there is now.

        Raises:
            Unavailable: The journal cannot be reached.
        """
        committer = self._committer
        end_seq, checked_seq = committer.durable_seq, 0
        while checked_seq < end_seq:
            began_s = self._clock.now().mono_s
            try:
                further_seq = await committer.verify(checked_seq)
            except FailedPrecondition as damaged:
                if damaged.message != committer.damage:
                    log.critical("the log is damaged, tasks go on: %s", damaged.message)
                committer.damage = damaged.message
                return
            committer.checked_seq = further_seq
            if further_seq <= checked_seq:
                break
            checked_seq = further_seq
            took_s = self._clock.now().mono_s - began_s
            await self._clock.sleep(max(PAUSE_S_MIN, took_s * (1 / WORK_SHARE - 1)))
        committer.damage = ""
        self.checks += 1

"""The chain of hashes that ties each group of events to all before it."""

from __future__ import annotations

import hashlib

from services.kernel.errors import FailedPrecondition

NO_HASH = b"\0" * 32


def chained(before: bytes, frames: bytes) -> bytes:
    """Return the hash of a group, given the hash of the one before it."""
    digest = hashlib.sha256(before)
    digest.update(frames)
    return digest.digest()


class Chain:
    """Follows the chain from an event on.

    Args:
        where: What is read, for people.
        last_seq: Event behind which the groups begin.
        last_hash: Hash of the group that ends with it.
    """

    def __init__(self, where: str, last_seq: int = 0, last_hash: bytes = NO_HASH) -> None:
        self.where = where
        self.last_seq = last_seq
        self.last_hash = last_hash

    def follow(self, first_seq: int, last_seq: int, frames: bytes, stored: bytes) -> None:
        """Take the next group.

        Raises:
            FailedPrecondition: JOURNAL_DAMAGED, with the position.
        """
        following = chained(self.last_hash, frames)
        if stored != following or first_seq != self.last_seq + 1 or last_seq < first_seq:
            raise damaged(self.where, self.last_seq + 1, "what follows cannot be trusted")
        self.last_seq, self.last_hash = last_seq, following


def damaged(where: str, seq: int, what: str) -> FailedPrecondition:
    """Return the error for a log that is not what was written."""
    return FailedPrecondition(
        "JOURNAL_DAMAGED",
        f"the journal {where} is damaged at event {seq}: {what}; restore it from a backup, or see "
        "`python -m services.task_scheduler log --help` for what can be saved",
        metadata={"seq": str(seq)},
    )


def too_new(where: str, schema: object, known: int) -> FailedPrecondition:
    """Return the error for a log whose tables this version does not know."""
    return FailedPrecondition(
        "JOURNAL_TOO_NEW",
        f"the journal {where} was written by a newer Podium (schema {schema}, this one reads "
        f"{known}): run that version, or set PODIUM_DATA_DIR elsewhere",
        metadata={"schema": str(schema)},
    )

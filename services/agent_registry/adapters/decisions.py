"""What operators have decided, in a file: for a registry that has no store to share.

All else that such a registry knows its sessions tell it again. Decisions are few, so the whole file
is written for each: beside the old one, synced, and put in its place.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

import orjson

from services.agent_registry.adapters.records import read, written
from services.agent_registry.core.breaker import Standing
from services.agent_registry.core.kept import Kept
from services.kernel import durable
from services.kernel.errors import Unavailable

log = logging.getLogger("podium.agent_registry.decisions")

FIELDS = ("facts", "status", "health")


class DecisionFile:
    """Keeps those agents of which something was decided: a line of JSON for each."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines: dict[str, bytes] = {}
        self._decided: dict[str, object] = {}
        self._unwritten = False
        self._writing = asyncio.Lock()

    def read(self) -> list[Kept]:
        """Return what was kept; a line that cannot be read is left out, and told."""
        try:
            lines = self._path.read_bytes().splitlines()
        except FileNotFoundError:
            return []
        except OSError as error:
            log.error(
                "%s cannot be read, decisions of operators are missing: %s", self._path, error
            )
            return []
        found = []
        for number, line in enumerate(lines, 1):
            kept = _parsed(line)
            if kept is None:
                log.error("line %d of %s cannot be read: a decision is missing", number, self._path)
                continue
            self._note(kept)
            found.append(kept)
        return found

    async def keep(self, saved: Iterable[Kept], removed: Sequence[str]) -> None:
        """Return when what was decided of these agents is on the disk.

        Raises:
            Unavailable: REGISTRY_STORE_UNREACHABLE, it cannot be written.
        """
        for kept in saved:
            if kept.acts and self._decided.get(kept.facts.agent_id) != kept.acts:
                self._note(kept)
                self._unwritten = True
        for agent_id in removed:
            if self._decided.pop(agent_id, None) is not None:
                del self._lines[agent_id]
                self._unwritten = True
        async with self._writing:
            if self._unwritten:
                await self._write()

    def _note(self, kept: Kept) -> None:
        agent_id = kept.facts.agent_id
        self._decided[agent_id] = kept.acts
        # Its session, and its breaker, are told by routers.
        bare = kept._replace(
            present=False, router_id="", silent=False, in_flight=0, breaker=Standing(), tallies=()
        )
        *_, facts, status, health = written(bare)
        line = b'{"facts":%s,"status":%s,"health":%s}\n' % (facts, status, health)
        self._lines[agent_id] = line

    async def _write(self) -> None:
        self._unwritten = False
        try:
            await asyncio.to_thread(durable.replace, self._path, b"".join(self._lines.values()))
        except BaseException as error:
            self._unwritten = True
            if isinstance(error, OSError):
                raise Unavailable(
                    "REGISTRY_STORE_UNREACHABLE",
                    f"{self._path} cannot be written: {error.strerror}",
                    retry_after_s=1.0,
                ) from error
            raise


def _parsed(line: bytes) -> Kept | None:
    try:
        record = orjson.loads(line)
        return read({name.encode(): orjson.dumps(record[name]) for name in FIELDS})
    except (KeyError, TypeError, ValueError):
        return None

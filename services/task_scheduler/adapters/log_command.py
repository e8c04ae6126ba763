"""The event log, looked at and mended without a scheduler: a directory or a database.

python -m services.task_scheduler log verify JOURNAL
python -m services.task_scheduler log export JOURNAL > events.jsonl
python -m services.task_scheduler log backup JOURNAL TO
python -m services.task_scheduler log repair JOURNAL --yes
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sqlite3
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import orjson
from google.protobuf.json_format import MessageToDict

from podium.v1 import task_scheduler_pb2
from services.kernel.errors import FailedPrecondition
from services.task_scheduler.adapters.log import LogFile
from services.task_scheduler.adapters.log_database import LogDatabase
from services.task_scheduler.adapters.snapshots import Facts

PASSWORD_FILE = "PODIUM_POSTGRES_PASSWORD_FILE"
UNCHANGED = "Nothing was changed: say --yes to do that."


def main(arguments: Sequence[str]) -> int:
    """Run one of the commands; 0 = the log is whole, 1 = it is not, 2 = called wrongly."""
    chosen = _parser().parse_args(arguments)
    in_database = "://" in chosen.journal
    try:
        if in_database:
            return asyncio.run(_in_database(chosen))
        return _in_directory(chosen)
    except FailedPrecondition as error:
        print(error.message, file=sys.stderr)
        return 1
    except OSError as error:
        print(f"it cannot be read, or what was asked for not written: {error}", file=sys.stderr)
        return 1
    except sqlite3.Error as error:
        print(f"the journal in {chosen.journal} cannot be read: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m services.task_scheduler log",
        description="Look at the event log and mend it: that of a data directory "
        "(PODIUM_DATA_DIR), or those of all partitions of a PostgreSQL database "
        f"(PODIUM_POSTGRES_URL; its password may be in the file that {PASSWORD_FILE} names).",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("verify", "check the chain of hashes from the first event to the last, also in use"),
        ("export", "write the events as JSON Lines, one partition after the other"),
        ("backup", "copy the log and its snapshots, also while schedulers use them"),
        ("repair", "cut off what cannot be trusted; make a copy of it all before"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("journal", help="a directory, or postgresql://USER@HOST:PORT/NAME")
        if name == "backup":
            command.add_argument(
                "to", help="a directory, or the URL of a database, that is empty or is not yet"
            )
        if name == "export":
            command.add_argument("--partition", type=int, help="only this one")
        if name == "repair":
            command.add_argument("--yes", action="store_true", help="do it, and not only tell")
    return parser


def _in_directory(chosen: argparse.Namespace) -> int:
    log = LogFile(Path(chosen.journal))
    if chosen.command == "export":
        if chosen.partition in (None, 0):
            for frames in log.events():
                _write(frames)
        return 0
    if chosen.command == "backup":
        if "://" in chosen.to:
            raise _other_kind("a directory is copied to a directory")
        backup = log.backup(Path(chosen.to))
        print(f"{chosen.to} holds what happened up to event {backup.end.seq}")
        return 0
    found = log.check()
    snapshots = [facts for facts, _ in found.snapshots]
    whole = _told(found.base, found.end, found.damage, snapshots, "")
    if whole or chosen.command == "verify":
        return int(not whole)
    if chosen.yes:
        print(log.repair())
        return 0
    print(log.cost())
    print(UNCHANGED, file=sys.stderr)
    return 1


async def _in_database(chosen: argparse.Namespace) -> int:
    log = LogDatabase(chosen.journal, os.environ.get(PASSWORD_FILE, ""))
    if chosen.command == "export":
        async for frames in log.events(chosen.partition):
            _write(frames)
        return 0
    if chosen.command == "backup":
        if "://" not in chosen.to:
            raise _other_kind("a database is copied to a database; pg_dump makes files of it")
        for one in await log.backup(chosen.to):
            print(f"partition {one.partition} of the copy holds all up to event {one.end.seq}")
        return 0
    found = await log.check()
    # All are told, also behind a damaged one.
    damaged = [one for one in found if not _told(*one[1:], f"partition {one.partition}: ")]
    if not damaged or chosen.command == "verify":
        return int(bool(damaged))
    mend = log.repair if chosen.yes else log.cost
    failed = False
    for one in damaged:
        try:
            print(await mend(one.partition))
        except FailedPrecondition as error:
            # The others can be mended all the same.
            failed = True
            print(f"partition {one.partition}: {error.message}", file=sys.stderr)
    if not chosen.yes:
        print(UNCHANGED, file=sys.stderr)
    return int(failed or not chosen.yes)


def _told(base: Facts, end: Facts, damage: str, snapshots: Iterable[Facts], which: str) -> bool:
    """Say what was found, and return whether it is whole."""
    seqs = ", ".join(str(one.seq) for one in snapshots) or "none"
    print(f"{which}events {base.seq + 1} to {end.seq} are whole; snapshots at: {seqs}")
    if damage:
        print(damage, file=sys.stderr)
    return not damage


def _write(frames: bytes) -> None:
    events = task_scheduler_pb2.WatchEventsResponse.FromString(frames).events
    lines = [orjson.dumps(MessageToDict(event)) + b"\n" for event in events]
    sys.stdout.buffer.writelines(lines)
    sys.stdout.flush()


def _other_kind(what: str) -> FailedPrecondition:
    return FailedPrecondition("BACKUP_OTHER_KIND", what)

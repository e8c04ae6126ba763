"""The database that replicas share: its connections, its schema, how many partitions it has."""

from __future__ import annotations

import asyncio
import secrets
import socket
from pathlib import Path
from typing import Any

import asyncpg

from services.kernel.errors import FailedPrecondition
from services.task_scheduler.adapters.chain import too_new
from services.task_scheduler.adapters.lease import CUT_OFF
from services.task_scheduler.adapters.statements import migrations, statements
from services.task_scheduler.ports import StorageFailed

CONNECTIONS_MAX = 6
PARTITION_CONNECTIONS = 2
"""More connections for each partition beyond the first: a commit and something beside it."""
PARTITIONS_DEFAULT = 4
SHARDED_SCHEMA = 2
"""The oldest schema whose program knows that there may be several partitions."""
CONNECT_S = 5.0
COMMAND_S = 10.0
CLOSE_S = 2.0

_MIGRATIONS = migrations("postgres")
SQL = statements("postgres")
SCHEMA_VERSION = len(_MIGRATIONS)


class Database:
    """Connections that all journals of a process share.

    Args:
        url: The database.
        password_file: Where its password is, if not in the URL.
        partitions: How many it must have; 0 = as many as it has, and a new one the default.
    """

    def __init__(self, url: str, *, password_file: str = "", partitions: int = 0) -> None:
        self.owner = f"{socket.gethostname()}/{secrets.token_hex(6)}"
        """This process, unique: the machine's name, a slash, and what tells its processes apart."""
        self.partitions = 1
        self.page_key = b""
        """Secret of page tokens, the same for all replicas."""
        self._url = url
        self._password = Path(password_file) if password_file else None
        self._wanted = partitions
        self._pool: asyncpg.Pool | None = None
        self._users = 0

    @property
    def connected(self) -> asyncpg.Pool:
        """The connections.

        Raises:
            StorageFailed: There are none any more.
        """
        if self._pool is None:
            raise StorageFailed("the journal is closed")
        return self._pool

    async def open(self) -> None:
        """Connect, check that commits will be durable, and bring the tables up to date.

        Each call is made up for by one of `close`.

        Raises:
            FailedPrecondition: JOURNAL_UNREADABLE, JOURNAL_NOT_DURABLE, JOURNAL_TOO_NEW or
                PARTITIONS_MISMATCH.
        """
        if self._pool is None:
            await self._open()
        self._users += 1

    async def _open(self) -> None:
        try:
            connection = await asyncpg.connect(self._url, **self._options())
            try:
                await _check_durable(connection)
                await self._prepare(connection)
            finally:
                await connection.close()
            more = PARTITION_CONNECTIONS * (self.partitions - 1)
            self._pool = await asyncpg.create_pool(
                self._url, min_size=1, max_size=CONNECTIONS_MAX + more, **self._options()
            )
        except (*CUT_OFF, asyncpg.PostgresError) as error:
            raise FailedPrecondition(
                "JOURNAL_UNREADABLE",
                f"the journal in PostgreSQL cannot be opened: {error}; check PODIUM_POSTGRES_URL",
            ) from None

    async def close(self) -> None:
        """Disconnect when nobody needs it any more."""
        self._users = max(0, self._users - 1)
        if self._users > 0 or self._pool is None:
            return
        pool, self._pool = self._pool, None
        try:
            async with asyncio.timeout(CLOSE_S):
                await pool.close()
        except CUT_OFF:
            pool.terminate()

    def _options(self) -> dict[str, Any]:
        return {
            "password": self._read_password if self._password is not None else None,
            "timeout": CONNECT_S,
            "command_timeout": COMMAND_S,
            "server_settings": {"synchronous_commit": "on", "application_name": "podium"},
        }

    def _read_password(self) -> str:
        assert self._password is not None
        return self._password.read_text("utf-8").rstrip("\r\n")

    async def _prepare(self, connection: Any) -> None:
        async with connection.transaction():
            await connection.execute(SQL["one_migrates"])
            schema = readable_by = 0
            if await connection.fetchval(SQL["has_tables"]):
                schema, readable_by = await connection.fetchrow(SQL["schema"])
            # A newer replica may have come first: what it added is no hindrance if it says so.
            if readable_by > SCHEMA_VERSION:
                raise too_new("in PostgreSQL", schema, SCHEMA_VERSION)
            for step in _MIGRATIONS[schema:]:
                await connection.execute(step.text)
            # What was made before there could be several partitions has one.
            new_len = self._wanted or PARTITIONS_DEFAULT
            facts = {
                "partitions": "1" if schema else str(new_len),
                "page_key": secrets.token_hex(32),
            }
            for name, value in facts.items():
                await connection.execute(SQL["set_about"], name, value)
            self.partitions = int(await connection.fetchval(SQL["about"], "partitions"))
            self.page_key = bytes.fromhex(await connection.fetchval(SQL["about"], "page_key"))
            if self._wanted not in (0, self.partitions):
                raise _mismatch(self._wanted, self.partitions)
            if schema < SCHEMA_VERSION:
                least = max(_MIGRATIONS[-1].readable_by, readable_by)
                if self.partitions > 1:
                    least = max(least, SHARDED_SCHEMA)
                await connection.execute(SQL["set_schema"], str(SCHEMA_VERSION), str(least))
            for partition in range(self.partitions):
                await connection.execute(SQL["add_partition"], partition)
                await connection.execute(SQL["add_lease"], partition)


def _mismatch(wanted: int, actual: int) -> FailedPrecondition:
    return FailedPrecondition(
        "PARTITIONS_MISMATCH",
        f"the database was made with {actual} partitions, and PODIUM_PARTITIONS asks for {wanted}: "
        "the number cannot change; leave the setting out, or use another database",
        metadata={"partitions": str(actual), "wanted": str(wanted)},
    )


async def _check_durable(connection: Any) -> None:
    found = dict(await connection.fetchrow(SQL["settings"]))
    if found["synchronous_commit"] not in ("on", "remote_apply") or found["fsync"] != "on":
        raise FailedPrecondition(
            "JOURNAL_NOT_DURABLE",
            "the database does not keep what it has committed: it runs with fsync = "
            f"{found['fsync']} and synchronous_commit = {found['synchronous_commit']}; both must "
            "be on",
            metadata=found,
        )

"""Agents kept in Redis, for several replicas of the registry.

An agent is a hash; each capability has the set of agents that have it; leases are a sorted set by
when the server last heard of the agent; what changed is a stream that every replica reads. Redis
may lose all of it: whoever reads notices by the server's run id and by a mark that goes with the
data, and says again what it knows.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Collection, Coroutine, Iterable, Sequence
from pathlib import Path
from typing import Any, ParamSpec, TypeVar
from urllib.parse import urlsplit

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from services.agent_registry.adapters.records import note_read, note_written, read, written
from services.agent_registry.core.kept import Kept, Note
from services.agent_registry.ports import News
from services.kernel.errors import Unavailable

PREFIX = "{podium:registry}"
ENTRIES_MAX = 16_384
READ_LEN = 512
LOAD_LEN = 500
COMMAND_S = 5.0
"""How long Redis may take to answer; longer than a reader waits there for news."""
COMMAND_S_MIN = 1.5
CONNECT_S = 2.0

_LUA = Path(__file__).parent / "lua"

P = ParamSpec("P")
R = TypeVar("R")


def store_errors(
    method: Callable[P, Coroutine[Any, Any, R]],
) -> Callable[P, Coroutine[Any, Any, R]]:
    """Translate what goes wrong on the way to Redis."""

    async def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return await method(*args, **kwargs)
        except (RedisError, OSError, TimeoutError) as error:
            raise Unavailable(
                "REGISTRY_STORE_UNREACHABLE",
                f"Redis does not answer as it should: {error or type(error).__name__}",
                retry_after_s=1.0,
            ) from error

    return guarded


def connected(url: str, command_s: float = COMMAND_S) -> tuple[Any, Sequence[Any]]:
    """Return a client of Redis, and those of the sentinels that it asks for the primary.

    Args:
        url: `redis://[user:password@]host:port/database`, `rediss://` for TLS, or
            `redis+sentinel://host:port,host:port/name/database` for the server that sentinels
            hold to be the primary of that name.
        command_s: How long a command may take.
    """
    options: dict[str, Any] = {
        "socket_timeout": command_s,
        "socket_connect_timeout": min(CONNECT_S, command_s),
        "health_check_interval": 15,
        # Once, for a connection that has gone stale: what calls tries again by itself, and must
        # learn soon that Redis is away. Of itself the client would try ten times.
        "retry": Retry(NoBackoff(), 1),
    }
    if not url.startswith("redis+sentinel://"):
        return redis.asyncio.Redis.from_url(url, **options), ()
    parts = urlsplit(url)
    _, name, database = [*parts.path.split("/"), "0", "0"][:3]
    userinfo, _, hosts = parts.netloc.rpartition("@")
    user, _, password = userinfo.partition(":")
    addresses = []
    for each in hosts.split(","):
        host, _, port = each.rpartition(":")
        addresses.append((host, int(port)))
    sentinel: Any = Sentinel(addresses, **options)  # type: ignore[no-untyped-call]  # theirs
    primary = sentinel.master_for(
        name, db=int(database), username=user or None, password=password or None, **options
    )
    return primary, sentinel.sentinels


class RedisStore:
    """Keeps agents in Redis.

    Args:
        url: Where it is; see `connected`.
        prefix: Of every key; in braces, so that a cluster keeps them together.
        entries_max: Entries of the stream, about; a replica that falls behind reads all anew.
        suspect_s: Seconds after which silence is held against an agent; that Redis is away is
            noticed sooner, so that nobody is blamed for what it does not pass on.
    """

    def __init__(
        self,
        url: str,
        prefix: str = PREFIX,
        entries_max: int = ENTRIES_MAX,
        suspect_s: float = 2 * COMMAND_S,
    ) -> None:
        command_s = max(COMMAND_S_MIN, min(COMMAND_S, suspect_s / 2))
        self._redis, self._sentinels = connected(url, command_s)
        self._prefix = prefix
        self._entries_max = entries_max
        self._writer = secrets.token_hex(8)
        self._save = self._redis.register_script((_LUA / "save.lua").read_text("utf-8"))
        self._renew = self._redis.register_script((_LUA / "renew.lua").read_text("utf-8"))

    @store_errors
    async def load(self, agent_ids: Collection[str] | None = None) -> list[Kept]:
        """Return what is kept, by agent id: of some agents, or of all."""
        if agent_ids is None:
            agent_ids = {each.decode() for each in await self._redis.smembers(self._key("agents"))}
        return await self._load(sorted(agent_ids))

    @store_errors
    async def save(self, kept: Sequence[Kept], removed: Sequence[str]) -> dict[str, int]:
        """Keep agents as they are now, and forget others, in one step."""
        if not kept and not removed:
            return {}
        arguments: list[str | bytes | int] = [self._writer, self._entries_max, len(kept)]
        for each in kept:
            arguments += written(each)
        answer = iter(await self._save([self._prefix], [*arguments, *removed]))
        return {agent_id.decode(): int(next(answer)) for agent_id in answer}

    @store_errors
    async def publish(self, notes: Sequence[Note]) -> None:
        """Tell notes to all who read."""
        if notes:
            fields: dict[str, Any] = {"writer": self._writer}
            fields["notes"] = b"\n".join(map(note_written, notes))
            await self._redis.xadd(self._key("changes"), fields, maxlen=self._entries_max)

    @store_errors
    async def news(self, cursor: str, wait_s: float) -> News:
        """Return what others have told after a cursor; wait so long when there is nothing."""
        mark, _, position = cursor.partition(" ")
        now, last, first = await self._stand()
        if mark != now or _before(position, first):
            return News(f"{now} {last}", lost=True)
        streams = await self._redis.xread(
            {self._key("changes"): position}, count=READ_LEN, block=max(1, round(wait_s * 1e3))
        )
        entries = [entry for _, found in streams or () for entry in found]
        if not entries:
            return News(cursor)
        last = entries[-1][0].decode()
        fields = [each for _, each in entries if each.get(b"writer") != self._writer.encode()]
        saved, removed = _ids(fields, b"saved"), _ids(fields, b"removed")
        found = await self._load(list(dict.fromkeys(saved + removed)))
        there = {each.facts.agent_id for each in found}
        lines = [line for each in fields for line in each.get(b"notes", b"").split(b"\n") if line]
        return News(
            f"{now} {last}",
            saved=tuple(found),
            removed=tuple(each for each in dict.fromkeys(removed) if each not in there),
            notes=tuple(note for note in map(note_read, lines) if note is not None),
        )

    @store_errors
    async def renew(self, agent_ids: Collection[str]) -> None:
        """Note that agents were heard of now."""
        for batch in _batches(list(agent_ids)):
            await self._renew([self._prefix], batch)

    @store_errors
    async def leases(self) -> dict[str, float]:
        """Return how many seconds ago each agent was heard of, by the clock of the server."""
        async with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.time()
            pipeline.zrange(self._key("leases"), 0, -1, withscores=True)
            (seconds, micros), heard = await pipeline.execute()
        now_s = seconds + micros / 1e6
        return {agent_id.decode(): max(0.0, now_s - ms / 1e3) for agent_id, ms in heard}

    @store_errors
    async def having(self, capabilities: Collection[str]) -> set[str]:
        """Return the ids of kept agents that have all of `capabilities`; of all for none."""
        keys = [self._key(f"capability:{name}") for name in capabilities] or [self._key("agents")]
        return {agent_id.decode() for agent_id in await self._redis.sinter(keys)}

    async def close(self) -> None:
        """Give the connections back."""
        for client in (self._redis, *self._sentinels):
            await client.aclose()

    def _key(self, name: str) -> str:
        return f"{self._prefix}:{name}"

    async def _load(self, agent_ids: Sequence[str]) -> list[Kept]:
        found = []
        for batch in _batches(agent_ids):
            async with self._redis.pipeline(transaction=False) as pipeline:
                for agent_id in batch:
                    pipeline.hgetall(self._key(f"agent:{agent_id}"))
                found += [read(fields) for fields in await pipeline.execute()]
            await asyncio.sleep(0)  # there may be many, and agents are to be answered meanwhile
        return [each for each in found if each is not None]

    async def _stand(self) -> tuple[str, str, str]:
        """Return what tells this life of the data from others, and the ends of the stream."""
        changes = self._key("changes")
        async with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.set(self._key("life"), secrets.token_hex(8), nx=True)
            pipeline.get(self._key("life"))
            pipeline.info("server")
            pipeline.xrevrange(changes, count=1)
            pipeline.xrange(changes, count=1)
            _, life, server, last, first = await pipeline.execute()
        return (
            f"{life.decode()}.{server['run_id']}",
            last[0][0].decode() if last else "0-0",
            first[0][0].decode() if first else "0-0",
        )


def _before(position: str, first: str) -> bool:
    """Return whether entries between a position and the first that is left may be gone."""
    return position != "0-0" and _parsed(position) < _parsed(first)


def _parsed(position: str) -> tuple[int, int]:
    ms, _, number = position.partition("-")
    return int(ms), int(number or 0)


def _ids(entries: Iterable[dict[bytes, bytes]], field: bytes) -> list[str]:
    return [
        each for entry in entries for each in entry.get(field, b"").decode().split("\n") if each
    ]


def _batches(items: Sequence[str]) -> Iterable[Sequence[str]]:
    return (items[start : start + LOAD_LEN] for start in range(0, len(items), LOAD_LEN))

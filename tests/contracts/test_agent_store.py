"""What every store of agents owes, run by each of them; two registries share it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import NamedTuple

import pytest

from services.agent_registry.adapters.memory import MemoryStore, Shelf
from services.agent_registry.adapters.redis import RedisStore
from services.agent_registry.core.breaker import Standing, State
from services.agent_registry.core.kept import Kept, Note, Tally
from services.agent_registry.ports import AgentStore, News
from services.kernel.clock import SystemClock
from tests.agent_registry.hall import facts
from tests.support.redis import own_prefix


class Pair(NamedTuple):
    one: AgentStore
    other: AgentStore


@pytest.fixture(params=["memory", "redis"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def url(request: pytest.FixtureRequest, kind: str) -> str:
    return str(request.getfixturevalue("redis_url")) if kind == "redis" else ""


@pytest.fixture
async def stores(url: str) -> AsyncIterator[Pair]:
    shelf, prefix = Shelf(), own_prefix()

    def made() -> AgentStore:
        return RedisStore(url, prefix) if url else MemoryStore(SystemClock(), shelf)

    pair = Pair(made(), made())
    yield pair
    for store in pair:
        await store.close()


@pytest.fixture
def store(stores: Pair) -> AgentStore:
    return stores.one


def kept(agent_id: str, *capabilities: str, heard_ms: int = 2, term: int = 1) -> Kept:
    return Kept(
        facts(agent_id, *capabilities, labels=(("zone", "x"),)),
        create_ms=1,
        heard_ms=heard_ms,
        quarantined=True,
        reason="odd answers",
        home="registry-1",
        term=term,
        router_id="router-1",
        in_flight=3,
        breaker=Standing(int(State.OPEN), 20.0, 77, ((5, True, "t-1"), (6, False, "t-2"))),
        tallies=(Tally("echo", 3, 1, 3.9, 2.9, 2.8, 0.25),),
        since_ms=1_700_000_000_000,
        superseded=("older", "oldest"),
    )


async def at_end(store: AgentStore) -> str:
    """Returns a cursor behind all that was told so far."""
    news = await store.news("", 0.01)
    assert news.lost
    return news.cursor


async def test_what_was_saved_is_loaded_by_id(store: AgentStore) -> None:
    await store.save([kept("b"), kept("a")], [])

    assert await store.load() == [kept("a"), kept("b")]
    assert await store.load(["b", "never-known"]) == [kept("b")]


async def test_a_later_save_replaces_an_earlier_one(store: AgentStore) -> None:
    await store.save([kept("a", "read", "keep")], [])
    await store.save([kept("a", "write", "keep", heard_ms=9)], [])

    assert await store.load() == [kept("a", "write", "keep", heard_ms=9)]
    assert await store.having(["read"]) == set()
    assert await store.having(["write"]) == await store.having(["keep"]) == {"a"}


async def test_an_earlier_term_replaces_nothing_and_is_told_the_later_one(stores: Pair) -> None:
    await stores.one.save([kept("a", "new", term=5)], [])
    cursor = await at_end(stores.one)

    refused = await stores.other.save([kept("a", "old", term=4), kept("b", "old")], [])

    assert refused == {"a": 5}
    assert await stores.one.load() == [kept("a", "new", term=5), kept("b", "old")]
    assert await stores.one.having(["old"]) == {"b"}
    assert (await stores.one.news(cursor, 1.0)).saved == (kept("b", "old"),)


async def test_removed_agents_are_gone_from_the_index_and_the_leases_too(
    store: AgentStore,
) -> None:
    await store.save([kept("a", "read"), kept("b", "read")], [])
    await store.renew(["a", "b"])
    await store.save([], ["a", "never-known"])

    assert [each.facts.agent_id for each in await store.load()] == ["b"]
    assert await store.having(["read"]) == {"b"}
    assert (await store.leases()).keys() == {"b"}


async def test_agents_are_found_by_all_their_capabilities(store: AgentStore) -> None:
    await store.save([kept("a", "read", "write"), kept("b", "read")], [])

    assert await store.having(["read"]) == {"a", "b"}
    assert await store.having(["write", "read"]) == {"a"}
    assert await store.having(["fly"]) == set()
    assert await store.having([]) == {"a", "b"}


async def test_a_lease_tells_how_long_ago_an_agent_was_heard_of(store: AgentStore) -> None:
    await store.renew(["a", "b"])
    before = await store.leases()
    await asyncio.sleep(0.05)
    await store.renew(["b"])

    after = await store.leases()

    assert before.keys() == after.keys() == {"a", "b"}
    assert after["a"] > before["a"]
    assert after["b"] < after["a"]


async def test_a_reader_learns_what_others_say_in_order_and_nothing_of_its_own(
    stores: Pair,
) -> None:
    cursor = await at_end(stores.one)
    await stores.one.save([kept("mine")], [])
    await stores.other.save([kept("a"), kept("b")], [])
    await stores.other.save([kept("a", heard_ms=9)], ["b", "never-known"])
    drain = Note("drain", "a", "i1", reason="new version")
    update = Note("update", "a", changes=(("labels", (("zone", "y"),)), ("name", "Ann")))
    await stores.other.publish([drain, update])

    told: list[News] = []
    while not any(news.notes for news in told):
        told.append(await stores.one.news(cursor, 1.0))
        cursor = told[-1].cursor

    assert told[-1].saved[-1:] in ((), (kept("a", heard_ms=9),))
    assert {each.facts.agent_id for news in told for each in news.saved} == {"a"}
    assert [each for news in told for each in news.removed] == ["b"]
    assert [note for news in told for note in news.notes] == [drain, update]
    assert await stores.one.news(cursor, 0.01) == News(cursor)


async def test_a_reader_who_waits_is_told_at_once(stores: Pair) -> None:
    cursor = await at_end(stores.one)
    waiting = asyncio.create_task(stores.one.news(cursor, 30.0))
    await asyncio.sleep(0)

    await stores.other.publish([Note("release", "a")])

    async with asyncio.timeout(10):
        assert (await waiting).notes == (Note("release", "a"),)


async def test_saving_nothing_tells_nothing(stores: Pair) -> None:
    cursor = await at_end(stores.one)

    assert await stores.other.save([], []) == {}
    await stores.other.save([], ["never-known"])

    assert await stores.one.news(cursor, 0.01) == News(cursor)

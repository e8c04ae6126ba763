from __future__ import annotations

import pytest

from services.agent_registry.adapters.memory import MemoryStore
from services.agent_registry.ports import AgentStore, Kept
from tests.agent_registry.hall import facts


@pytest.fixture(params=["memory"])
def store(request: pytest.FixtureRequest) -> AgentStore:
    return MemoryStore()


def kept(agent_id: str, *capabilities: str, heard_ms: int = 2) -> Kept:
    return Kept(
        facts(agent_id, *capabilities, labels=(("zone", "x"),)),
        create_ms=1,
        heard_ms=heard_ms,
        quarantined=True,
        reason="odd answers",
    )


async def test_what_was_saved_is_loaded_by_id(store: AgentStore) -> None:
    await store.save([kept("b"), kept("a")], [])

    assert await store.load() == [kept("a"), kept("b")]


async def test_a_later_save_replaces_an_earlier_one(store: AgentStore) -> None:
    await store.save([kept("a", "read")], [])
    await store.save([kept("a", "write", heard_ms=9)], [])

    assert await store.load() == [kept("a", "write", heard_ms=9)]
    assert await store.having(["read"]) == set()
    assert await store.having(["write"]) == {"a"}


async def test_removed_agents_are_gone_from_the_index_too(store: AgentStore) -> None:
    await store.save([kept("a", "read"), kept("b", "read")], [])
    await store.save([], ["a", "never-known"])

    assert [each.facts.agent_id for each in await store.load()] == ["b"]
    assert await store.having(["read"]) == {"b"}


async def test_agents_are_found_by_all_their_capabilities(store: AgentStore) -> None:
    await store.save([kept("a", "read", "write"), kept("b", "read")], [])

    assert await store.having(["read"]) == {"a", "b"}
    assert await store.having(["write", "read"]) == {"a"}
    assert await store.having(["fly"]) == set()
    assert await store.having([]) == {"a", "b"}
    await store.close()

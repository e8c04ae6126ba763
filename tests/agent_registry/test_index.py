from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.agent_registry.core.index import Index

names = st.frozensets(st.sampled_from("abcd"), min_size=1)


def test_it_finds_agents_by_all_their_capabilities() -> None:
    index = Index()
    index.put("a1", frozenset("ab"))
    index.put("a2", frozenset("b"))

    assert index.having("b") == {"a1", "a2"}
    assert index.having("ab") == {"a1"}
    assert index.having("c") == set()
    assert index.having("") == {"a1", "a2"}


def test_agents_with_the_same_capabilities_are_a_class() -> None:
    index = Index()
    index.put("a1", frozenset("ab"))
    index.put("a2", frozenset("ba"))
    index.put("a3", frozenset("a"))

    assert index.class_of("a1") == {"a1", "a2"}
    assert index.classes() == {frozenset("ab"): 2, frozenset("a"): 1}
    assert index.class_of("nobody") == frozenset()


@given(st.lists(st.tuples(st.sampled_from("xyz"), st.none() | names)))
def test_it_is_always_what_the_agents_say_now(
    changes: list[tuple[str, frozenset[str] | None]],
) -> None:
    index, truth = Index(), dict[str, frozenset[str]]()
    for agent_id, capabilities in changes:
        if capabilities is None:
            index.remove(agent_id)
            truth.pop(agent_id, None)
        else:
            index.put(agent_id, capabilities)
            truth[agent_id] = capabilities

    for name in "abcd":
        assert index.having([name]) == {a for a, names in truth.items() if name in names}
    assert set().union(*truth.values()) == set(index.capabilities())
    assert sum(index.classes().values()) == len(truth)

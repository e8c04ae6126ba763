from __future__ import annotations

from services.agent_registry.core.exchange import Exchange
from services.agent_registry.core.kept import kept_of
from tests.agent_registry.hall import Hall


def test_an_agent_comes_back_from_what_is_kept_of_it_as_it_was() -> None:
    hall = Hall()
    agent = hall.agent("a", "read", labels=(("zone", "x"),), max_concurrency=2)
    hall.alive("a", load=1)
    for _ in range(6):
        hall.outcome("a", "FAILED")
    hall.outcome("a", "SUCCEEDED", run_s=2.0)
    hall.registry.quarantine("a", "odd answers", hall.time)
    kept = kept_of(agent, hall.time)

    again = Hall()
    Exchange(again.registry).adopt(kept, 0.0, again.time)

    assert kept_of(again.registry.agents["a"], again.time) == kept
    assert again.registry.index.having(["read"]) == {"a"}


def test_a_breaker_goes_on_where_it_stood_although_clocks_of_processes_differ() -> None:
    hall = Hall()
    agent = hall.agent("a")
    for _ in range(6):
        hall.outcome("a", "FAILED")
    kept = kept_of(agent, hall.time)

    later = Hall()
    later.time = later.time._replace(mono_s=5.0, wall_ms=hall.time.wall_ms + 4_000)
    Exchange(later.registry).adopt(kept, 0.0, later.time)
    later.sleep(5.0)
    before = later.registry.agents["a"].breaker.state.name
    later.sleep(1.0)

    assert before == "OPEN"
    assert later.registry.agents["a"].breaker.state.name == "HALF_OPEN"

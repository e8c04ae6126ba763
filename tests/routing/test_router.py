from __future__ import annotations

from services.routing.core import effects
from services.routing.core.assignment import Stage
from services.routing.core.effects import Started
from tests.routing.floor import Floor, raw_model


def policy(floor: Floor, task_id: str) -> str:
    lease = floor.granted(task_id)
    assert lease.decision is not None
    return lease.decision.policy


def test_a_stale_model_gives_way_to_the_formula_at_once() -> None:
    floor = Floor()
    floor.agent("a1", slots=10)
    floor.router.learn(raw_model(["a1"], ["echo"], push_interval_s=1.0), floor.time)

    assert policy(floor, "t1") == "learned"
    floor.sleep(2.9)
    assert policy(floor, "t2") == "learned"
    floor.sleep(0.3)
    assert policy(floor, "t3") == "formula"


def test_a_repeated_model_stays_fresh() -> None:
    floor = Floor()
    floor.agent("a1", slots=10)
    raw = raw_model(["a1"], ["echo"], push_interval_s=1.0)
    floor.router.learn(raw, floor.time)
    used = floor.board.model
    floor.sleep(2.5)

    floor.router.learn(raw, floor.time)
    floor.sleep(2.5)

    assert policy(floor, "t1") == "learned"
    assert floor.board.model is used


def test_without_a_stream_a_model_is_used_for_five_seconds() -> None:
    floor = Floor()
    floor.agent("a1", slots=10)
    floor.router.learn(raw_model(["a1"], ["echo"], push_interval_s=60.0), floor.time)

    floor.router.model_gone(floor.time)
    floor.sleep(4.5)
    floor.router.model_gone(floor.time)
    assert policy(floor, "t1") == "learned"
    floor.sleep(1.0)
    assert policy(floor, "t2") == "formula"


def test_a_model_that_is_off_decides_nothing() -> None:
    floor = Floor()
    floor.agent("a1")
    floor.router.learn(raw_model(["a1"], ["echo"], mode=1), floor.time)

    lease = floor.granted("t1")

    assert lease.decision is not None and lease.decision.policy == "formula"
    assert lease.decision.model_version == ""


def test_a_mode_that_changes_without_a_new_version_is_followed() -> None:
    floor = Floor()
    floor.agent("a1", slots=10)
    raw = raw_model(["a1"], ["echo"])
    floor.router.learn(raw, floor.time)
    assert policy(floor, "t1") == "learned"

    floor.router.learn(raw._replace(mode=2), floor.time)

    assert policy(floor, "t2") == "formula"


def test_a_faulty_model_is_counted_and_the_one_before_stays() -> None:
    floor = Floor()
    floor.agent("a1", slots=10)
    floor.router.learn(raw_model(["a1"], ["echo"]), floor.time)

    fault = floor.router.learn(
        raw_model(["a1"], ["echo"], version="v2", checksum=b"no"), floor.time
    )

    assert "checksum" in fault
    assert floor.router.models_rejected == 1
    assert policy(floor, "t1") == "learned"


def test_the_same_seed_and_inputs_give_the_same_decisions() -> None:
    def run() -> list[tuple[str, str]]:
        floor = Floor()
        for number in range(10):
            floor.agent(f"a{number}", slots=3)
        floor.router.learn(
            raw_model(
                [f"a{number}" for number in range(10)],
                ["echo"],
                deviation=0.2,
                exploration_fraction=0.1,
            ),
            floor.time,
        )
        for number in range(30):
            floor.running(f"t{number}")
        assert len(floor.of(Started)) == 30
        return floor.assigned()

    assert run() == run()


def test_a_router_that_stood_still_hears_what_came_before_it_gives_anybody_up() -> None:
    floor = Floor(ack_s=5.0, probe_s=10.0)
    session = floor.agent("a1")
    lease = floor.granted("t1")
    floor.sleep(0.1)

    floor.sleep(60.0, step_s=60.0)
    floor.work.ack(session, lease.key, floor.time)
    floor.sleep(1.2)

    assert lease.stage is Stage.RUNNING
    assert floor.of(effects.HandedBack) == []
    assert session.stream is not None
    assert floor.router.stalls == 1

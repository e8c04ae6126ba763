from __future__ import annotations

import pytest

from podium.sdk.leases import IN_FLIGHT_LEN_MAX, RENEW_LEN_MAX, LeaseTable
from podium.v1.session_pb2 import AgentFrame, Result


def holding(count: int, agent_id: str = "a1") -> LeaseTable:
    table = LeaseTable()
    for number in range(count):
        table.add(agent_id, (f"t{number}", number + 1), 0.0)
    return table


def finish(table: LeaseTable, *numbers: int) -> None:
    for number in numbers:
        table.finish((f"t{number}", number + 1), AgentFrame(agent_id="a1", result=Result()))


@pytest.mark.parametrize(
    ("count", "sizes"),
    [(1, [1]), (RENEW_LEN_MAX, [RENEW_LEN_MAX]), (RENEW_LEN_MAX + 1, [RENEW_LEN_MAX, 1])],
)
def test_no_renewal_is_of_more_leases_than_a_router_takes(count: int, sizes: list[int]) -> None:
    table = holding(count)

    renewals = table.renewals(10.0, 5.0)

    assert [len(frame.renew.leases) for frame in renewals] == sizes
    renewed = [ref.task_id for frame in renewals for ref in frame.renew.leases]
    assert renewed == [f"t{number}" for number in range(count)]
    assert table.renewals(10.0, 5.0) == []


def test_renewals_are_of_one_agent_each() -> None:
    table = holding(2)
    table.add("a2", ("other", 9), 0.0)

    sizes = {frame.agent_id: len(frame.renew.leases) for frame in table.renewals(10.0, 5.0)}

    assert sizes == {"a1": 2, "a2": 1}


def test_an_agent_at_its_limit_with_unsettled_results_names_them_all() -> None:
    table = holding(IN_FLIGHT_LEN_MAX)
    finish(table, *range(1_000))

    named, unnamed = table.named("a1")

    assert (len(named), unnamed) == (IN_FLIGHT_LEN_MAX, [])


def test_where_not_all_can_be_named_work_comes_before_results() -> None:
    table = holding(IN_FLIGHT_LEN_MAX + 2)
    finish(table, 0, 1, 2)

    named, unnamed = table.named("a1")

    assert len(named) == IN_FLIGHT_LEN_MAX
    assert unnamed == [("t1", 2), ("t2", 3)]
    assert {ref.task_id for ref in named}.isdisjoint({"t1", "t2"})


def test_renewals_without_an_answer_are_noticed_but_not_of_who_could_not_send_them() -> None:
    table = holding(2)
    table.renewals(10.0, 5.0)
    table.renewals(20.0, 5.0)
    table.hold(("t0", 1))

    assert not table.unanswered(39.9, 30.0)
    assert table.unanswered(40.0, 30.0), "since it was asked first"
    assert not table.unanswered(40.0, 30.0, {"a1"})
    table.forgive("a1")
    assert not table.unanswered(40.0, 30.0)

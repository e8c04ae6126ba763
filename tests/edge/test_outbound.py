from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.edge.core.outbound import Outbound

Message = tuple[str, int]


def newest(waiting: Message, newer: Message) -> Message:
    return newer


def everything(outbound: Outbound[Message]) -> list[Message]:
    found = []
    while (message := outbound.take()) is not None:
        found.append(message)
    return found


def test_answers_leave_in_the_order_they_came() -> None:
    outbound: Outbound[Message] = Outbound()
    for number in range(3):
        assert outbound.put(("answer", number))

    assert everything(outbound) == [("answer", 0), ("answer", 1), ("answer", 2)]


def test_an_update_that_waits_takes_in_the_next_one_and_keeps_its_place() -> None:
    outbound: Outbound[Message] = Outbound()
    outbound.update("w", ("w", 1), newest)
    outbound.put(("answer", 0))

    outbound.update("w", ("w", 2), newest)

    assert outbound.merged_count == 1
    assert everything(outbound) == [("w", 2), ("answer", 0)]


def test_an_update_after_one_that_has_left_waits_anew() -> None:
    outbound: Outbound[Message] = Outbound()
    outbound.update("w", ("w", 1), newest)
    assert outbound.take() == ("w", 1)

    outbound.update("w", ("w", 2), newest)

    assert everything(outbound) == [("w", 2)]


def test_a_full_queue_refuses_what_is_new_and_still_merges() -> None:
    outbound: Outbound[Message] = Outbound(len_max=2)
    outbound.update("w", ("w", 1), newest)
    outbound.put(("answer", 0))

    assert outbound.full
    assert not outbound.put(("answer", 1))
    assert not outbound.update("v", ("v", 1), newest)
    assert outbound.update("w", ("w", 2), newest)
    assert everything(outbound) == [("w", 2), ("answer", 0)]


def test_what_waits_for_a_watch_that_has_ended_is_dropped() -> None:
    outbound: Outbound[Message] = Outbound()
    outbound.update("w", ("w", 1), newest)
    outbound.put(("answer", 0))

    outbound.forget("w")
    outbound.forget("never")

    assert everything(outbound) == [("answer", 0)]


@given(
    st.lists(
        st.one_of(
            st.just("take"),
            st.tuples(st.sampled_from("abc"), st.integers(0, 100)),
        ),
        max_size=200,
    )
)
def test_each_watch_sees_a_growing_subsequence_that_ends_with_the_newest(
    steps: list[str | tuple[str, int]],
) -> None:
    outbound: Outbound[Message] = Outbound(len_max=3)
    told: dict[str, list[int]] = {"a": [], "b": [], "c": []}
    seen: dict[str, list[int]] = {"a": [], "b": [], "c": []}
    for step in steps:
        if isinstance(step, str):
            message = outbound.take()
            if message is not None:
                seen[message[0]].append(message[1])
        else:
            key, number = step
            told[key].append(number)
            assert outbound.update(key, (key, number), newest)  # three watches, three places
    for key, number in everything(outbound):
        seen[key].append(number)

    for key in told:
        remaining = iter(told[key])
        assert all(number in remaining for number in seen[key])
        assert seen[key][-1:] == told[key][-1:]

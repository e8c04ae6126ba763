from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp

from podium.v1.agent_pb2 import Agent
from podium.v1.agent_registry_pb2 import WatchAgentsResponse
from podium.v1.analytics_pb2 import WatchWindowsResponse, Window
from podium.v1.bridge_pb2 import BridgeEvents, BridgeResponse
from podium.v1.event_pb2 import Event
from services.edge.servicer.merging import events_len_max, merge


def events(first: int, last: int) -> BridgeResponse:
    seqs = range(first, last + 1)
    return BridgeResponse(
        ref="w",
        events=BridgeEvents(
            events=[Event(seq=seq) for seq in seqs],
            names=[f"n-{seq}" for seq in seqs],
            cursor=str(last),
        ),
    )


def test_events_add_up_and_the_cursor_is_the_newest() -> None:
    merged = merge(events(1, 2), events(3, 3)).events

    assert [event.seq for event in merged.events] == [1, 2, 3]
    assert list(merged.names) == ["n-1", "n-2", "n-3"]
    assert merged.cursor == "3"
    assert merged.skipped_count == 0


def test_beyond_the_bound_the_oldest_events_are_left_out_and_counted() -> None:
    merged = merge(events(1, events_len_max), events(events_len_max + 1, events_len_max + 7))
    merged = merge(merged, events(events_len_max + 8, events_len_max + 8))

    assert len(merged.events.events) == len(merged.events.names) == events_len_max
    assert merged.events.events[0].seq == 9
    assert merged.events.skipped_count == 8


def agents(*ids: str, removed: tuple[str, ...] = (), caught_up: bool = False) -> BridgeResponse:
    return BridgeResponse(
        ref="w",
        agents=WatchAgentsResponse(
            agents=[Agent(agent_id=each[0], build_id=each) for each in ids],
            removed_agent_ids=removed,
            caught_up=caught_up,
        ),
    )


def test_of_each_agent_the_newest_state_is_kept() -> None:
    merged = merge(agents("a1", "b1", caught_up=True), agents("a2", "c1", removed=("b",)))

    assert merged.ref == "w"
    assert [agent.build_id for agent in merged.agents.agents] == ["a2", "c1"]
    assert list(merged.agents.removed_agent_ids) == ["b"]
    assert merged.agents.caught_up


def test_an_agent_that_came_back_is_not_gone() -> None:
    merged = merge(agents(removed=("a",)), agents("a2"))

    assert [agent.build_id for agent in merged.agents.agents] == ["a2"]
    assert list(merged.agents.removed_agent_ids) == []


def window(start: int, late: int) -> Window:
    return Window(start_time=Timestamp(seconds=start), late_count=late)


def test_of_each_window_the_newest_is_kept_in_order_of_time() -> None:
    first = BridgeResponse(
        ref="w", windows=WatchWindowsResponse(windows=[window(10, 1), window(20, 1)])
    )
    second = BridgeResponse(
        ref="w", windows=WatchWindowsResponse(windows=[window(20, 2), window(0, 1)])
    )

    merged = merge(first, second).windows.windows

    assert [(each.start_time.seconds, each.late_count) for each in merged] == [
        (0, 1),
        (10, 1),
        (20, 2),
    ]

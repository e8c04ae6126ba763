"""What every store of spans owes whoever brings spans and whoever looks for them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from services.analytics.adapters.memory import MemorySpans
from services.analytics.adapters.sqlite import SqliteSpans
from services.analytics.ports import SpanStore
from tests.analytics.traces import TRACE_ID, request
from tests.support.waiting import eventually

Open = Callable[[int, int], SpanStore]


@pytest.fixture(params=["memory", "sqlite"])
async def opened(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Open]:
    stores: list[SpanStore] = []

    def open_store(spans_len_max: int, bytes_max: int) -> SpanStore:
        store: SpanStore
        if request.param == "memory":
            store = MemorySpans(spans_len_max=spans_len_max, bytes_max=bytes_max)
        else:
            path = tmp_path / "deep" / "spans.db"
            store = SqliteSpans(path, spans_len_max=spans_len_max, bytes_max=bytes_max)
        stores.append(store)
        return store

    yield open_store
    for store in stores:
        await store.close()


@pytest.fixture
def store(opened: Open) -> SpanStore:
    return opened(1_000, 1_000_000)


async def test_spans_are_found_as_soon_as_they_are_added(store: SpanStore) -> None:
    store.add(request("submit", "queue"))
    store.add(request("execute", first_span=3, service="agent"))

    by_trace = await store.of_trace(TRACE_ID)
    by_task = await store.of_task("t-1")

    assert {span.name for span in by_trace} == {"submit", "queue", "execute"}
    assert sorted(by_task, key=str) == sorted(by_trace, key=str)


async def test_other_traces_are_left_out(store: SpanStore) -> None:
    store.add(request("submit"))
    store.add(request("submit", trace=5, task_id="t-2"))

    assert {span.trace_id for span in await store.of_trace(TRACE_ID)} == {TRACE_ID}
    assert {span.trace_id for span in await store.of_task("t-2")} == {f"{5:032x}"}
    assert await store.of_trace("e" * 32) == []
    assert await store.of_task("t-3") == []


async def test_spans_without_the_task_are_found_through_their_trace(store: SpanStore) -> None:
    store.add(request("submit"))
    store.add(request("call a model", task_id="", first_span=9))

    assert {span.name for span in await store.of_task("t-1")} == {"submit", "call a model"}


async def test_the_oldest_spans_give_way_when_there_are_too_many(opened: Open) -> None:
    store = opened(10, 1_000_000)
    for number in range(1, 8):
        store.add(request("a", "b", "c", trace=number, task_id=f"t-{number}"))

    assert await store.of_task("t-4") == []
    assert len(await store.of_task("t-5")) == 3
    assert len(await store.of_task("t-7")) == 3
    assert store.spans_len == 9


async def test_the_oldest_spans_give_way_when_they_are_too_big(opened: Open) -> None:
    size = len(request("a", trace=1, task_id="t-1"))
    store = opened(1_000, 3 * size)
    for number in range(1, 6):
        store.add(request("a", trace=number, task_id=f"t-{number}"))

    kept = [number for number in range(1, 6) if await store.of_task(f"t-{number}")]

    assert kept == [3, 4, 5]
    assert store.dropped == 0


async def test_a_request_without_spans_takes_no_place(store: SpanStore) -> None:
    store.add(b"")
    store.add(request())
    store.add(request("submit"))

    await eventually(lambda: store.spans_len == 1)


async def test_many_requests_at_once_are_all_kept(store: SpanStore) -> None:
    for number in range(1, 301):
        store.add(request("a", trace=number, task_id=f"t-{number}"))

    for number in (1, 150, 300):
        assert len(await store.of_task(f"t-{number}")) == 1
    assert store.spans_len == 300

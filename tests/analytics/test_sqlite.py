from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from services.analytics.adapters import sqlite as module
from services.analytics.adapters.sqlite import SqliteSpans
from services.kernel.errors import Unavailable
from tests.analytics.traces import request


def opened(path: Path) -> SqliteSpans:
    return SqliteSpans(path, spans_len_max=100, bytes_max=100_000)


async def test_spans_outlive_a_restart(tmp_path: Path) -> None:
    first = opened(tmp_path / "spans.db")
    first.add(request("submit", "queue"))
    await first.close()

    second = opened(tmp_path / "spans.db")

    assert len(await second.of_task("t-1")) == 2
    assert second.spans_len == 2
    await second.close()


async def test_a_broken_file_is_begun_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "spans.db"
    path.write_bytes(b"no database at all, but long enough to be taken for one" * 100)

    store = opened(path)
    store.add(request("submit"))

    assert len(await store.of_task("t-1")) == 1
    assert "is begun anew" in caplog.text
    await store.close()


async def test_a_file_that_breaks_while_it_is_used_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "spans.db"
    store = opened(path)
    store.add(request("submit"))
    assert len(await store.of_task("t-1")) == 1
    with sqlite3.connect(path) as other:
        other.execute("DROP TABLE request")
    other.close()
    assert await store.of_task("t-1") == []
    store.add(request("submit", trace=5, task_id="t-2"))

    assert len(await store.of_task("t-2")) == 1
    await store.close()


async def test_where_nothing_can_be_written_spans_are_kept_in_memory(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("not a directory")

    store = opened(tmp_path / "file" / "spans.db")
    store.add(request("submit"))

    assert len(await store.of_task("t-1")) == 1
    assert "Spans are kept in memory" in caplog.text
    await store.close()


async def test_what_comes_too_fast_is_turned_away_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = request("a", "b", "c")
    monkeypatch.setattr(module, "queue_bytes_max", len(raw) - 1)
    store = opened(tmp_path / "spans.db")

    store.add(raw)

    assert store.dropped == 3
    assert await store.of_task("t-1") == []
    await store.close()


async def test_a_store_that_is_closed_says_so(tmp_path: Path) -> None:
    store = opened(tmp_path / "spans.db")
    await store.close()

    with pytest.raises(Unavailable):
        await store.of_task("t-1")

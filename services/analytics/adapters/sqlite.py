"""Spans in a SQLite file, as a ring of requests in the order they came.

One thread owns the file. Whoever brings spans only appends to a queue; the thread writes what has
gathered in one transaction, not synced: a power cut may lose spans, a killed process does not.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

from services.analytics.adapters import otlp
from services.analytics.core.trace import Span
from services.kernel.errors import Unavailable

log = logging.getLogger("podium.analytics.spans")

queue_bytes_max = 67_108_864
"""Requests that wait to be written; more are turned away."""
batch_len_max = 64
gather_s = 0.1
"""Requests of so long are written in one transaction."""

_SQL = Path(__file__).with_name("sql") / "spans.sql"
_ADD = "INSERT INTO request (spans_len, keys, body) VALUES (?, ?, ?)"
_COUNT = "SELECT total(spans_len), total(length(body)) FROM request"
_OLDEST = "SELECT id, spans_len, length(body) FROM request ORDER BY id LIMIT ?"
_DROP = "DELETE FROM request WHERE id <= ?"
_FIND = "SELECT body FROM request WHERE instr(keys, ?) ORDER BY id DESC"


class SqliteSpans:
    """A ring on disk. Implements `ports.SpanStore`."""

    def __init__(self, path: Path, *, spans_len_max: int, bytes_max: int) -> None:
        self._path = path
        self._spans_len_max = spans_len_max
        self._bytes_max = bytes_max
        self._queue: deque[bytes] = deque()
        # Each is written by one side alone; their difference is what waits.
        self._bytes_queued = 0
        self._bytes_taken = 0
        self._questions: deque[Callable[[sqlite3.Connection], None]] = deque()
        self._wake = threading.Event()
        self._closing = False
        self._fault: sqlite3.Error | None = None
        self._bytes_len = 0
        self.spans_len = 0
        self.dropped = 0
        self._thread = threading.Thread(target=self._run, name="spans-file", daemon=True)
        self._thread.start()

    def add(self, request: bytes) -> None:
        """Keep the spans of a request."""
        waiting = self._bytes_queued - self._bytes_taken
        if waiting + len(request) > queue_bytes_max:
            self.dropped += otlp.contents(request).spans_len
            return
        self._bytes_queued += len(request)
        self._queue.append(request)

    async def of_trace(self, trace_id: str) -> list[Span]:
        """Return the spans of a trace."""
        return await self._ask(lambda file: _of_trace(file, trace_id))

    async def of_task(self, task_id: str) -> list[Span]:
        """Return the spans of the traces that have a span about the task."""

        def answer(file: sqlite3.Connection) -> list[Span]:
            found: set[str] = set()
            for (body,) in file.execute(_FIND, (otlp.task_key(task_id),)):
                found |= otlp.about(body, task_id)
            return [span for trace_id in sorted(found) for span in _of_trace(file, trace_id)]

        return await self._ask(answer)

    async def close(self) -> None:
        """Write what waits and close the file."""
        self._closing = True
        self._wake.set()
        await asyncio.to_thread(self._thread.join)

    async def _ask(self, question: Callable[[sqlite3.Connection], list[Span]]) -> list[Span]:
        if self._closing:
            raise Unavailable("DRAINING", "Analytics is stopping: ask again in a moment.")
        answer: Future[list[Span]] = Future()

        def put(file: sqlite3.Connection) -> None:
            if not answer.set_running_or_notify_cancel():
                return
            try:
                answer.set_result(question(file))
            except sqlite3.Error as error:
                self._fault = error
                answer.set_result([])
            # A bug: it goes to whoever asked, and the thread lives on.
            except Exception as error:
                answer.set_exception(error)

        self._questions.append(put)
        self._wake.set()
        return await asyncio.wrap_future(answer)

    def _run(self) -> None:
        file = self._opened()
        while True:
            self._wake.wait(gather_s)
            self._wake.clear()
            closing = self._closing
            try:
                self._write(file)
                while self._questions and self._fault is None:
                    question = self._questions.popleft()
                    # Whoever asks finds what was added before the question.
                    self._write(file)
                    question(file)
            except sqlite3.Error as error:
                self._fault = error
            if self._fault is not None:
                # A full disk, or a file that somebody broke: spans are lost, nothing else.
                log.warning("Spans could not be written or read: %s", self._fault)
                self._fault = None
                file = self._mended(file)
                self._wake.set()
            elif closing:
                file.close()
                return

    def _opened(self) -> sqlite3.Connection:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            return self._prepared(str(self._path))
        except (sqlite3.DatabaseError, OSError) as error:
            return self._renewed(error)

    def _prepared(self, name: str) -> sqlite3.Connection:
        file = sqlite3.connect(name, isolation_level=None)
        try:
            file.executescript(_SQL.read_text("utf-8"))
            self._recount(file)
        except sqlite3.Error:
            file.close()
            raise
        return file

    def _recount(self, file: sqlite3.Connection) -> None:
        spans_len, bytes_len = file.execute(_COUNT).fetchone()
        self.spans_len, self._bytes_len = int(spans_len), int(bytes_len)

    def _renewed(self, error: Exception) -> sqlite3.Connection:
        """Begin with an empty file in place of one that cannot be used, or without any."""
        log.warning("%s cannot be used and is begun anew: %s", self._path, error)
        try:
            for suffix in ("", "-wal", "-shm"):
                Path(f"{self._path}{suffix}").unlink(missing_ok=True)
            return self._prepared(str(self._path))
        except (sqlite3.Error, OSError) as error:
            log.warning("Spans are kept in memory: %s", error)
            return self._prepared(":memory:")

    def _mended(self, file: sqlite3.Connection) -> sqlite3.Connection:
        """Return `file` if what was wrong passes, as a full disk does, or else a new one."""
        try:
            if file.in_transaction:
                file.execute("ROLLBACK")
            if file.execute("PRAGMA quick_check(1)").fetchone() == ("ok",):
                self._recount(file)
                return file
            error: Exception = sqlite3.DatabaseError("the file is damaged")
        except sqlite3.Error as fault:
            error = fault
        file.close()
        return self._renewed(error)

    def _write(self, file: sqlite3.Connection) -> None:
        while self._queue:
            requests = [self._queue.popleft() for _ in range(min(len(self._queue), batch_len_max))]
            self._bytes_taken += sum(map(len, requests))
            rows = [(*otlp.contents(request), request) for request in requests]
            kept = [row for row in rows if row[0]]
            file.execute("BEGIN")
            file.executemany(_ADD, kept)
            self.spans_len += sum(row[0] for row in kept)
            self._bytes_len += sum(len(row[2]) for row in kept)
            self._drop_oldest(file)
            file.execute("COMMIT")

    def _drop_oldest(self, file: sqlite3.Connection) -> None:
        while self.spans_len > self._spans_len_max or self._bytes_len > self._bytes_max:
            last = None
            for number, spans_len, bytes_len in file.execute(_OLDEST, (batch_len_max,)):
                if self.spans_len <= self._spans_len_max and self._bytes_len <= self._bytes_max:
                    break
                last = number
                self.spans_len -= spans_len
                self._bytes_len -= bytes_len
            if last is None:
                return
            file.execute(_DROP, (last,))


def _of_trace(file: sqlite3.Connection, trace_id: str) -> list[Span]:
    return [
        span
        for (body,) in file.execute(_FIND, (otlp.trace_key(trace_id),))
        for span in otlp.spans(body)
        if span.trace_id == trace_id
    ]

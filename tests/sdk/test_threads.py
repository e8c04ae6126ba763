from __future__ import annotations

import asyncio
import sys
import threading
from concurrent.futures import CancelledError, wait

import pytest

from podium.sdk.threads import Threads, aside
from tests.support.processes import Processes


@pytest.fixture
def release() -> threading.Event:
    return threading.Event()


def test_there_are_as_many_threads_as_calls_and_no_more_than_asked_for(
    release: threading.Event,
) -> None:
    threads = Threads(2, "test")
    begun = threading.Semaphore(0)
    names = set()

    def call() -> None:
        names.add(threading.current_thread().name)
        begun.release()
        release.wait(10)

    first = threads.submit(call)
    assert begun.acquire(timeout=5)
    rest = [threads.submit(call) for _ in range(2)]
    assert begun.acquire(timeout=5)
    assert names == {"test-1", "test-2"}
    assert sum(future.running() for future in (first, *rest)) == 2
    release.set()
    assert not wait((first, *rest), timeout=5).not_done
    assert names == {"test-1", "test-2"}
    threads.close()


def test_a_thread_that_is_free_is_used_again() -> None:
    threads = Threads(8, "test")

    names = {threads.submit(lambda: threading.current_thread().name).result(5) for _ in range(5)}

    assert names == {"test-1"}
    threads.close()


def test_more_threads_are_there_when_their_number_grows(release: threading.Event) -> None:
    threads = Threads(1, "test")
    futures = [threads.submit(lambda: release.wait(10)) for _ in range(2)]
    threads.size = 3

    assert threads.submit(lambda: "in time").result(5) == "in time"
    release.set()
    assert not wait(futures, timeout=5).not_done
    threads.close()


def test_a_call_that_waits_can_be_cancelled_and_never_runs(release: threading.Event) -> None:
    threads = Threads(1, "test")
    ran = []
    blocked = threads.submit(lambda: release.wait(10))
    waiting = threads.submit(lambda: ran.append(True))

    assert waiting.cancel()
    release.set()
    blocked.result(5)
    threads.submit(lambda: None).result(5)

    assert not ran
    threads.close()


def test_what_a_call_raises_is_its_futures_and_the_thread_goes_on() -> None:
    threads = Threads(1, "test")

    def exits() -> None:
        sys.exit(3)

    assert isinstance(threads.submit(exits).exception(5), SystemExit)
    assert threads.submit(lambda: "next").result(5) == "next"
    threads.close()


def test_closing_begins_no_other_call(release: threading.Event) -> None:
    threads = Threads(1, "test")
    begun = threading.Event()

    def call() -> str:
        begun.set()
        release.wait(10)
        return "done"

    running = threads.submit(call)
    waiting = threads.submit(call)
    assert begun.wait(5)
    threads.close()
    release.set()

    assert running.result(5) == "done"
    with pytest.raises(CancelledError):
        waiting.result(5)
    with pytest.raises(RuntimeError, match="closed"):
        threads.submit(call)


async def test_a_call_aside_waits_for_no_pool(release: threading.Event) -> None:
    loop = asyncio.get_running_loop()
    blocking = [loop.run_in_executor(None, release.wait, 10) for _ in range(64)]
    try:
        async with asyncio.timeout(5):
            assert await aside(lambda: "done") == "done"
    finally:
        release.set()
        await asyncio.gather(*blocking)


def test_a_call_that_never_returns_does_not_keep_its_program(processes: Processes) -> None:
    program = processes.python(
        "-c",
        "import threading\n"
        "from podium.sdk.threads import Threads\n"
        "begun = threading.Event()\n"
        "Threads(1, 'test').submit(lambda: (begun.set(), threading.Event().wait()))\n"
        "begun.wait()\n"
        "print('the end')\n",
    )

    assert program.wait() == 0
    assert program.output() == "the end\n"

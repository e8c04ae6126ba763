from __future__ import annotations

import pytest

from podium.v1 import task_scheduler_pb2
from podium.v1.task_pb2 import TaskFilter
from services.kernel import auth
from services.kernel.auth import Principal
from services.task_scheduler.core.event import Terms
from services.task_scheduler.servicer import stats
from services.task_scheduler.servicer.stats import queue_stats
from tests.task_scheduler.rig import Rig, created
from tests.task_scheduler.serving import Served, spec


def keyed(tenant: str, *keys: str, limit: int = 1) -> object:
    terms = Terms(concurrency_keys=keys, concurrency_limit=limit)
    return created(tenant=tenant, terms=terms)


def test_a_tenant_sees_its_own_among_any_number_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stats, "ROWS_LEN_MAX", 20)
    rig = Rig()
    for number in range(30):
        # More tasks than the one who asks has, and longer queues.
        drafts = [keyed(f"other-{number}", f"key-{n}") for n in (1, 2) for _ in range(3)]
        rig.submit(*drafts)
    rig.submit(keyed("me", "mine"))

    seen = queue_stats(rig.core, rig.now.mono_s, "me")
    assert [one.tenant for one in seen.tenants] == ["me"]
    assert [(one.key, one.waiting_count) for one in seen.concurrency_keys] == [("mine", 1)]

    everything = queue_stats(rig.core, rig.now.mono_s, None)
    assert len(everything.tenants) == len(everything.concurrency_keys) == 20
    nobody = queue_stats(rig.core, rig.now.mono_s, "unheard-of")
    assert not nobody.tenants and not nobody.concurrency_keys


def test_a_key_is_shown_with_the_least_and_the_greatest_limit_that_open_tasks_name() -> None:
    rig = Rig()
    least, most, last = (rig.submit(keyed("me", "gpu", limit=n))[0] for n in (2, 5, 3))

    def limits(one: Rig) -> tuple[int, int]:
        (key,) = queue_stats(one.core, one.now.mono_s, "me").concurrency_keys
        return key.limit, key.limit_max

    assert limits(rig) == (2, 5)
    assert limits(rig.restarted()) == (2, 5)
    rig.core.control.cancel(rig.task(least), "", rig.now)
    assert limits(rig) == (3, 5)
    rig.core.control.cancel(rig.task(most), "", rig.now)
    assert limits(rig) == (3, 3)
    rig.core.control.cancel(rig.task(last), "", rig.now)
    assert not queue_stats(rig.core, rig.now.mono_s, "me").concurrency_keys


async def test_the_tasks_of_a_key_are_listed(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = await served.submit(
        spec(concurrency_keys=["gpu", "disk"]), spec(concurrency_keys=["gpu"]), spec()
    )
    monkeypatch.setattr(
        auth, "ANONYMOUS", Principal("x", "other", frozenset({"submitter"}), frozenset())
    )
    await served.submit(spec(concurrency_keys=["gpu"]))
    monkeypatch.setattr(
        auth, "ANONYMOUS", Principal("x", "default", frozenset({"reader"}), frozenset())
    )

    async def listed(key: str) -> list[str]:
        request = task_scheduler_pb2.ListTasksRequest(filter=TaskFilter(concurrency_key=key))
        return [task.task_id for task in (await served.stub.ListTasks(request)).tasks]

    assert await listed("gpu") == [mine[1], mine[0]]
    assert await listed("disk") == [mine[0]]
    assert await listed("none") == []

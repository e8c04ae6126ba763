from __future__ import annotations

import pytest

from services.kernel.errors import FailedPrecondition, InvalidArgument, ResourceExhausted
from services.task_scheduler.core import quotas as module
from services.task_scheduler.core.limits import Limits
from services.task_scheduler.core.quotas import Quotas
from services.task_scheduler.core.shares import Shares
from tests.task_scheduler.rig import Rig, created


def test_a_tenant_has_so_many_open_tasks_and_no_more() -> None:
    rig = Rig(Limits(tenant_open_tasks_max={"red": 2}))
    first, _ = rig.submit(created(tenant="red"), created(tenant="red"))

    with pytest.raises(ResourceExhausted) as refused:
        rig.submit(created(tenant="red"))
    assert refused.value.reason == "TENANT_BACKLOG_FULL"
    assert refused.value.retry_after_s
    assert refused.value.metadata["open_tasks_max"] == "2"

    rig.submit(created(tenant="blue"))
    rig.core.control.cancel(rig.task(first), "", rig.now)
    rig.submit(created(tenant="red"))


def test_a_batch_that_never_fits_is_told_to_be_split_and_not_to_wait() -> None:
    rig = Rig(Limits(tenant_open_tasks_max={"red": 2}))

    with pytest.raises(InvalidArgument) as refused:
        rig.submit(*[created(tenant="red")] * 3, created(tenant="blue"))

    assert refused.value.reason == "BATCH_TOO_LARGE"
    assert refused.value.retry_after_s is None
    assert refused.value.metadata["batch_len_max"] == "2"
    assert "split it" in refused.value.message
    rig.submit(*[created(tenant="red")] * 2)


def test_a_tenant_without_a_quota_is_told_that_it_is_closed() -> None:
    rig = Rig(Limits(tenant_open_tasks_max={"red": 0}))

    with pytest.raises(FailedPrecondition) as refused:
        rig.submit(created(tenant="red"))

    assert (refused.value.reason, refused.value.retry_after_s) == ("TENANT_CLOSED", None)


def test_the_quota_holds_after_a_restart() -> None:
    rig = Rig(Limits(tenant_open_tasks_max={"*": 1}))
    rig.submit(created())

    with pytest.raises(ResourceExhausted):
        rig.restarted().submit(created())


def test_a_tenant_submits_at_its_rate_with_a_burst() -> None:
    rig = Rig(Limits(tenant_submits_per_s={"*": 10, "free": 1_000_000}))
    rig.submit(*[created() for _ in range(20)])

    with pytest.raises(ResourceExhausted) as refused:
        rig.submit(created())
    assert refused.value.reason == "TENANT_RATE"
    assert refused.value.retry_after_s == pytest.approx(0.1)
    rig.submit(*[created(tenant="free") for _ in range(100)])
    rig.advance(0.1)
    rig.submit(created())


def test_a_batch_above_the_burst_passes_once_and_leaves_a_debt() -> None:
    quotas = Quotas(Limits(tenant_submits_per_s={"*": 10}), Shares({}))
    quotas.check(["red"] * 100, 0.0)

    with pytest.raises(ResourceExhausted) as refused:
        quotas.check(["red"], 1.0)
    assert refused.value.retry_after_s == pytest.approx(7.1)
    quotas.check(["red"], 8.2)


def test_what_is_refused_uses_up_nothing_of_the_rate() -> None:
    rig = Rig(Limits(tenant_submits_per_s={"*": 1}, open_tasks_max=1))
    rig.submit(created())
    for _ in range(5):
        with pytest.raises(ResourceExhausted) as refused:
            rig.submit(created())
        assert refused.value.reason == "BACKLOG_FULL"

    rig.core.control.cancel(next(iter(rig.book.tasks.values())), "", rig.now)
    rig.submit(created())


def test_a_repeat_is_not_a_submit() -> None:
    rig = Rig(Limits(tenant_submits_per_s={"*": 0.5}))
    draft = created(request_id="one", spec_hash=b"h")
    rig.submit(draft)

    for _ in range(5):
        rig.submit(draft)


def test_tenants_it_remembers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TENANTS_LEN_MAX", 2)
    quotas = Quotas(Limits(tenant_submits_per_s={"*": 10}), Shares({}))
    for name in "abcd":
        quotas.check([name], 0.0)

    assert list(quotas._filled) == ["c", "d"]

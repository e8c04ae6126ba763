from __future__ import annotations

from services.task_scheduler.adapters.plain import pack, unpack
from services.task_scheduler.core.event import Terms
from services.task_scheduler.core.limits import Limits
from tests.task_scheduler.rig import Rig, created, facts
from tests.task_scheduler.test_snapshot import packed, restored


def done(rig: Rig, agent_id: str, tenant: str = "default", key: str = "k") -> None:
    task = rig.running(agent_id, terms=Terms(sticky_key=key), tenant=tenant)
    rig.complete(rig.lease(task), agent_id)


def preferred(rig: Rig, tenant: str = "default", key: str = "k") -> str:
    rig.credit("work", total=10_000)
    rig.submit(created(terms=Terms(sticky_key=key), tenant=tenant))
    (grant,) = rig.grants()
    return grant.sticky_agent_id


def test_the_agent_that_did_the_last_task_of_a_key_is_preferred() -> None:
    rig = Rig()
    assert preferred(rig) == ""
    done(rig, "a6")
    done(rig, "a7")

    assert (preferred(rig), preferred(rig, key="other"), preferred(rig, key="")) == ("a7", "", "")


def test_tenants_share_no_keys() -> None:
    rig = Rig()
    done(rig, "a7", "red")
    done(rig, "a8", "blue")

    assert [preferred(rig, tenant) for tenant in ("red", "blue", "green")] == ["a7", "a8", ""]
    assert facts(rig.restarted().core)["sticky"] == facts(rig.core)["sticky"]


def test_the_key_used_longest_ago_is_forgotten() -> None:
    rig = Rig(Limits(ended_len_max=2))
    for key in ("one", "two", "one", "three"):
        done(rig, "a7", key=key)

    assert [key for _, key, _ in rig.book.sticky.plain()] == ["one", "three"]


def test_a_snapshot_from_before_keys_had_tenants_gives_those_of_the_tasks_in_memory() -> None:
    rig = Rig()
    done(rig, "a6", "red")
    done(rig, "a7", "red")
    done(rig, "a8", "blue")
    head, *rest = [unpack(part) for part in packed(rig)]
    del head["sticky_keys"]
    head["sticky"] = {"k": "a8"}

    again = restored(rig, [pack(part) for part in (head, *rest)])

    assert again.book.sticky.plain() == [("red", "k", "a7"), ("blue", "k", "a8")]

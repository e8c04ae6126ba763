from __future__ import annotations

import pytest

from services.task_scheduler.adapters.failpoints import Failpoints, StorageFull
from services.task_scheduler.ports import FAILPOINTS, StorageFailed


def test_without_settings_nothing_happens() -> None:
    failpoints = Failpoints()
    for name in FAILPOINTS:
        failpoints(name)


def test_the_action_comes_at_the_pass_it_was_set_for() -> None:
    failpoints = Failpoints("after_sync=error@3")
    failpoints("after_sync")
    failpoints("before_reply")
    failpoints("after_sync")

    with pytest.raises(StorageFailed):
        failpoints("after_sync")
    failpoints("after_sync")


def test_several_points_are_set_at_once() -> None:
    failpoints = Failpoints("before_append=full, before_reply=delay:1")
    failpoints("before_reply")

    with pytest.raises(StorageFull):
        failpoints("before_append")

from __future__ import annotations

from dataclasses import fields

from services.task_scheduler.__main__ import limits_of
from services.task_scheduler.config import Settings
from services.task_scheduler.core.limits import Limits


def test_every_limit_is_positive_and_says_its_unit() -> None:
    for field in fields(Limits):
        value = getattr(Limits(), field.name)
        assert value == {} or value > 0
        assert field.name.rsplit("_", 1)[1] in ("max", "s", "weights", "limits"), field.name


def test_the_settings_default_to_the_limits() -> None:
    assert limits_of(Settings()) == Limits()

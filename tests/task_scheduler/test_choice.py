from __future__ import annotations

from dataclasses import dataclass

import pytest

from podium.v1.task_pb2 import TaskSpec
from services.task_scheduler.servicer.choice import Labels


@dataclass
class Labeled:
    head: bytes


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({}, True),
        ({"a": "1"}, True),
        ({"a": "1", "empty": ""}, True),
        ({"empty": ""}, True),
        ({":": "7"}, True),
        ({"a": "2"}, False),
        ({"a": ""}, False),
        ({"none": ""}, False),
        ({"a": "1", "b": "1"}, False),
        ({"fake": "yes"}, False),
    ],
)
def test_a_task_has_labels_or_has_them_not(wanted: dict[str, str], found: bool) -> None:
    lie = TaskSpec(labels={"fake": "yes"}).SerializeToString().decode()
    spec = TaskSpec(type=lie, labels={"a": "1", "empty": "", ":": "7", "b": "2"})
    task = Labeled(spec.SerializeToString(deterministic=True))

    assert Labels(wanted).of(task) is found  # type: ignore[arg-type]  # all of a task that counts

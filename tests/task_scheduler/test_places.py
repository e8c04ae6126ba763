from __future__ import annotations

import pytest

from services.kernel.auth import Principal, acting_as
from services.kernel.errors import ResourceExhausted
from services.task_scheduler.servicer.places import Places


def principal(*roles: str) -> Principal:
    return Principal("me", "tenant", frozenset(roles), frozenset())


def test_the_last_tenth_of_the_places_is_for_other_services() -> None:
    places = Places("some tasks", 10)
    places.taken = 9
    with acting_as(principal("reader")), pytest.raises(ResourceExhausted) as refused:
        places.place().__enter__()
    with acting_as(principal("service")):
        with places.place():
            assert places.taken == 10
            with pytest.raises(ResourceExhausted):
                places.place().__enter__()

    assert refused.value.reason == "TOO_MANY_WATCHES"
    assert refused.value.retry_after_s
    assert places.taken == 9

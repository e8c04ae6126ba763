from __future__ import annotations

import pytest

from services.kernel.errors import PodiumError
from services.routing.core import effects
from services.routing.core.verdicts import check


@pytest.mark.parametrize(
    ("verdict", "told"),
    [
        (effects.FENCED, ("FAILED_PRECONDITION", "STALE_LEASE")),
        (effects.CONFLICT, ("ALREADY_EXISTS", "RESULT_CONFLICT")),
        (effects.UNKNOWN, ("NOT_FOUND", "LEASE_NOT_FOUND")),
    ],
)
def test_a_result_that_changed_nothing_is_an_error_that_names_its_lease(
    verdict: int, told: tuple[str, str]
) -> None:
    with pytest.raises(PodiumError) as refused:
        check(("t1", 7), verdict)

    assert (refused.value.code, refused.value.reason) == told
    assert refused.value.metadata == {"task_id": "t1", "lease_epoch": "7"}


@pytest.mark.parametrize("verdict", [effects.ACCEPTED, effects.DUPLICATE, effects.REFUSED])
def test_a_result_that_counts_is_no_error(verdict: int) -> None:
    check(("t1", 7), verdict)

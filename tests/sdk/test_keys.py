from __future__ import annotations

import pytest

from podium.sdk import specs
from podium.sdk.errors import InvalidArgument
from podium.sdk.keys import RETRY_PREFIX, check_chosen, own_key


@pytest.mark.parametrize(("patience_s", "soon_forgotten"), [(300.0, True), (301.0, False)])
def test_who_repeats_for_long_gets_keys_that_are_kept_for_long(
    patience_s: float, soon_forgotten: bool
) -> None:
    key = own_key(patience_s)

    assert key.startswith(RETRY_PREFIX) is soon_forgotten
    assert key != own_key(patience_s)
    # A number behind it must have room.
    assert len(key) + len("-fffffffffff") <= 64


def test_a_key_of_the_kind_that_is_soon_forgotten_is_refused() -> None:
    with pytest.raises(InvalidArgument) as refused:
        specs.build("work", "x", {"request_id": f"{RETRY_PREFIX}order-7"})

    assert refused.value.violations[0].field == "request_id"
    check_chosen("order-7")

from __future__ import annotations

import pytest

from podium.sdk import specs
from podium.sdk.errors import InvalidArgument


def test_a_key_of_the_kind_that_is_soon_forgotten_is_refused() -> None:
    with pytest.raises(InvalidArgument) as refused:
        specs.build("work", "x", {"request_id": "podium-retry:order-7"})

    assert refused.value.violations[0].field == "request_id"
    assert specs.build("work", "x", {"request_id": "order-7"}).request_id == "order-7"

from __future__ import annotations

import pytest

from podium.sdk.settings import Settings


@pytest.mark.parametrize(
    ("given", "dialled"),
    [
        ("a:7703,b:7703", "a:7703,b:7703"),
        (" a:7703, b:7703 ", "a:7703,b:7703"),
        ("a:7703,,", "a:7703"),
        ("http://a:7703/", "a:7703"),
    ],
)
def test_addresses_are_dialled_without_what_people_write_around_them(
    given: str, dialled: str
) -> None:
    settings = Settings.from_environment({"PODIUM_ROUTING_ADDRESS": given})

    assert settings.peer("routing").address == dialled

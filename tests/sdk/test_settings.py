from __future__ import annotations

from pathlib import Path

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


def test_a_token_is_read_again_from_its_file_when_it_changes(tmp_path: Path) -> None:
    file = tmp_path / "token"
    settings = Settings.from_environment({"PODIUM_TOKEN_FILE": str(file)})
    assert settings.metadata == ()

    for token in ("first", "the second"):
        file.write_text(f"{token}\n")
        assert settings.metadata == (("authorization", f"Bearer {token}"),)

from __future__ import annotations

import pytest

from services.edge.core.origins import Origins, names_of

HOST = "podium.example:7700"


@pytest.mark.parametrize(
    ("rules", "origins", "allowed"),
    [
        (["self"], ["http://podium.example:7700"], True),
        (["self"], ["https://podium.example:7700"], True),
        (["self"], ["http://podium.example"], False),
        (["self"], ["http://podium.example:7701"], False),
        (["self"], ["http://podium.example.evil.com:7700"], False),
        (["self"], ["http://evil-podium.example:7700"], False),
        (["self"], ["http://PODIUM.example:7700"], False),
        (["self"], ["http://user@podium.example:7700"], False),
        (["self"], ["http://podium.example:7700/path"], False),
        (["self"], ["ftp://podium.example:7700"], False),
        (["self"], ["null"], False),
        (["self"], [""], False),
        (["self"], ["self"], False),
        (["self", "none"], ["none"], False),
        (["self"], ["http://podium.example:7700", "http://podium.example:7700"], False),
        (["self"], [], False),
        (["self", "none"], [], True),
        (["https://a.example"], ["https://a.example"], True),
        (["https://a.example"], ["http://a.example"], False),
        (["https://a.example"], ["https://a.example:444"], False),
        (["https://a.example"], ["http://podium.example:7700"], False),
        (["self"], ["http://podium.example:port"], False),
    ],
)
def test_a_page_connects_only_from_where_it_may(
    rules: list[str], origins: list[str], allowed: bool
) -> None:
    assert Origins(rules, []).allows(origins, HOST) is allowed


def test_a_default_port_needs_not_be_said() -> None:
    origins = Origins(["self"], [])

    assert origins.allows(["https://podium.example"], "podium.example:443")
    assert origins.allows(["http://podium.example:80"], "podium.example")


@pytest.mark.parametrize(
    ("host", "known"),
    [
        ("localhost:7700", True),
        ("127.0.0.1", True),
        ("[::1]:7700", True),
        ("rebound.example:7700", False),
        ("", False),
        ("localhost:7700/x", False),
        ("user@localhost", False),
    ],
)
def test_on_loopback_only_loopback_names_are_known(host: str, known: bool) -> None:
    # A page of a foreign name that points at 127.0.0.1 is "same host" as the bridge.
    assert Origins(["self"], names_of("127.0.0.1")).knows_host(host) is known


def test_elsewhere_any_name_is_known_unless_some_are_listed() -> None:
    assert Origins(["self"], names_of("0.0.0.0")).knows_host("anything.example")
    assert not Origins(["self"], ["podium.example"]).knows_host("anything.example")
    assert Origins(["self"], ["Podium.example"]).knows_host("podium.EXAMPLE:80")

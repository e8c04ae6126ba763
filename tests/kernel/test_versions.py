from __future__ import annotations

import pytest

from podium.sdk import versions as of_sdk
from services.kernel import versions
from services.kernel.errors import InvalidArgument
from services.kernel.rules import Checker
from services.kernel.versions import covers, offer, offered, plain, rank

IN_ORDER = ["0", "0.0.1", "1", "1.0.1", "1.2-alpha", "1.2-alpha.1", "1.2-beta.2", "1.2-beta.11"]
IN_ORDER += ["1.2", "1.10", "v2", "2.0.0.1", "10"]


def test_versions_are_compared_number_by_number_and_before_a_release_come_its_candidates() -> None:
    ranks = [rank(version) for version in IN_ORDER]

    assert None not in ranks
    assert ranks == sorted(ranks)  # type: ignore[type-var]  # none is None
    assert len(set(ranks)) == len(ranks)


@pytest.mark.parametrize(
    ("one", "other"), [("2", "2.0.0"), ("v1.2", "1.2"), ("1.2+linux", "1.2"), ("01.2", "1.2")]
)
def test_what_does_not_count_makes_no_difference(one: str, other: str) -> None:
    assert rank(one) == rank(other) != None  # noqa: E711 - a chain


@pytest.mark.parametrize(
    "written", ["", "latest", "1.", ".1", "1..2", "1.2-", "-1", "1 ", "9" * 33]
)
def test_what_is_written_otherwise_has_no_place_and_is_not_offered(written: str) -> None:
    assert rank(written) is None
    assert offer("translate", written) == ""


HAVE = frozenset(("translate", "translate@2.1", "translate@1", "read", "write", "write@0.9"))


@pytest.mark.parametrize(
    ("wanted", "there"),
    [
        (["translate"], True),
        (["translate@2.1"], True),
        (["translate@2.0.7"], True),
        (["translate@2.2"], False),
        (["translate@2.1", "read"], True),
        (["read@1"], False),
        (["write@1", "read"], False),
        (["fly"], False),
        (["fly@1"], False),
        ([], True),
    ],
)
def test_at_least_the_version_that_is_asked_for_must_be_there(
    wanted: list[str], there: bool
) -> None:
    assert covers(HAVE, frozenset(wanted)) is there
    have = {"translate": "2.1", "read": "", "write": "0.9"}
    assert of_sdk.meets(have, wanted) is there, "the SDK's testing kit judges alike"


def test_the_order_of_the_sdk_is_that_of_the_services() -> None:
    for version in [*IN_ORDER, "", "latest", "1 ", "v1.2+x"]:
        assert of_sdk.rank(version) == rank(version)
    assert of_sdk.plain("a@1") == plain("a@1") == "a"
    assert versions.version_len_max == of_sdk._LEN_MAX


def test_the_versions_there_are_are_told_the_greatest_first() -> None:
    assert offered(HAVE, "translate@7") == ["2.1", "1"]
    assert offered(HAVE, "read@7") == []


@pytest.mark.parametrize("wrong", ["read@", "read@latest", "@1", "read@1@2", "Read@1"])
def test_a_requirement_that_makes_no_sense_is_refused_by_field(wrong: str) -> None:
    checker = Checker()

    assert not checker.requirements("needs", ["read", "read@1.2", wrong])
    with pytest.raises(InvalidArgument) as raised:
        checker.done()
    assert [each.field for each in raised.value.violations] == ["needs[2]"]

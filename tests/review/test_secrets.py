from __future__ import annotations

import pytest

from examples.review.checks.review import Source
from examples.review.checks.secrets import entropy, scan_for_secrets

# Put together here, so that no scanner takes this file for a leak.
SHAPES = {
    "private key": "-----BEGIN " + "RSA PRIVATE KEY-----",
    "AWS access key": "AKIA" + "Q7RT4WX9ZLMN2P5V",
    "GitHub token": "ghp" + "_" + "aB3" * 12,
    "Slack token": "xoxb" + "-1234567890-abcdef",
    "Google API key": "AIza" + "Sy" + "a1B" * 11,
    "JSON web token": "eyJ" + "hbGciOiJIUzI1NiJ9" + ".eyJ" + "zdWIiOiIxMjM0NTY3" + ".c2lnbmF0dXJl",
    "password in a URL": "amqp" + "://guest:s3cret@queue:5672/",
}


@pytest.mark.parametrize("kind", SHAPES)
def test_a_secret_is_known_by_its_shape_and_never_repeated(kind: str) -> None:
    review = scan_for_secrets([Source("a.txt", f"one\nkey: {SHAPES[kind]} end\n".encode())])

    assert [(f.line, f.severity) for f in review.findings] == [(2, "error")]
    assert review.findings[0].message.startswith(kind)
    assert SHAPES[kind] not in str(review)


@pytest.mark.parametrize(
    ("line", "is_found"),
    [
        ('auth_token = "q8Zt1kLm9PxR4sVb7Yd2"', True),
        ("'db_password': 'q8Zt1kLm9PxR4sVb7Yd2'", True),
        ('password = "correct-horse-battery"', False),
        ('token = "aaaaaaaaaaaaaaaaaaaa1"', False),
        ("token = read_token(path)", False),
        ("the token is q8Zt1kLm9PxR4sVb7Yd2", False),
    ],
)
def test_a_random_text_given_to_a_telling_name_is_found(line: str, is_found: bool) -> None:
    review = scan_for_secrets([Source("a.py", line.encode())])

    assert bool(review.findings) is is_found


def test_several_files_are_scanned_each_under_its_name() -> None:
    key = SHAPES["private key"].encode()

    review = scan_for_secrets([Source("a", key), Source("b", b"fine"), Source("c", b"\n\n" + key)])

    assert [(f.path, f.line) for f in review.findings] == [("a", 1), ("c", 3)]
    assert review.facts["files"] == 3


def test_entropy_is_in_bits_a_character() -> None:
    assert entropy("aaaa") == 0
    assert entropy("abab") == 1
    assert entropy("abcdefgh") == 3

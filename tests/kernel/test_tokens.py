from __future__ import annotations

import hashlib
import hmac
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from services.kernel.clock import ManualClock
from services.kernel.errors import FailedPrecondition
from services.kernel.tokens import Keyring, TokenRefused, Verifier
from tests.kernel.keys import (
    CLAIMS,
    NOW_S,
    body,
    head,
    make_key,
    public_pem,
    publish,
    signed,
    token,
)

KEY = make_key()
OTHER_KEY = make_key()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(wall_ms=NOW_S * 1_000)


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    publish(tmp_path / "keys", "k1", KEY)
    return tmp_path / "keys"


@pytest.fixture
def verifier(keys: Path, clock: ManualClock) -> Verifier:
    return Verifier(Keyring(keys, clock), issuer="podium", audience="podium", clock=clock)


def test_a_good_token_says_who_calls(verifier: Verifier) -> None:
    claims = verifier.verify(token(KEY))

    assert (claims.subject, claims.tenant) == ("agent-7", "acme")
    assert (claims.roles, claims.capabilities) == (("agent",), ("text.summarize",))


@pytest.mark.parametrize("kind", ["EdDSA", "ES256", "RS256"])
def test_each_kind_of_key_verifies_its_own_algorithm(
    verifier: Verifier, keys: Path, kind: str
) -> None:
    key = make_key(kind)
    publish(keys, "mine", key)

    assert verifier.verify(token(key, kid="mine", algorithm=kind)).subject == "agent-7"


def test_what_is_left_out_is_little(verifier: Verifier) -> None:
    claims = verifier.verify(token(KEY, tenant=None, roles=None, capabilities=None))

    assert (claims.tenant, claims.roles, claims.capabilities) == ("default", (), ())


def unsigned() -> str:
    return jwt.encode(CLAIMS, None, algorithm="none", headers={"kid": "k1"})


def confused() -> str:
    # Signed with the public key as if it were a shared secret; the library refuses to make it.
    class Secret:
        def sign(self, text: bytes) -> bytes:
            return hmac.new(public_pem(KEY), text, hashlib.sha256).digest()

    return signed(Secret(), head(alg="HS256"), body())


BAD: dict[str, Callable[[], str]] = {
    "empty": lambda: "",
    "not a token": lambda: "hello",
    "no algorithm": unsigned,
    "algorithm confusion": confused,
    "algorithm of another kind of key": lambda: signed(KEY, head(alg="RS256"), body()),
    "algorithm missing": lambda: signed(KEY, '{"typ":"JWT","kid":"k1"}', body()),
    "wrong key": lambda: token(OTHER_KEY),
    "signature stripped": lambda: token(KEY).rsplit(".", 1)[0] + ".",
    "two segments": lambda: token(KEY).rsplit(".", 1)[0],
    "five segments": lambda: token(KEY) + ".a.b",
    "newline": lambda: token(KEY) + "\n",
    "padding": lambda: token(KEY) + "==",
    "expired": lambda: token(KEY, exp=NOW_S - 31, iat=NOW_S - 60),
    "issued in the future": lambda: token(KEY, iat=NOW_S + 60),
    "not valid yet": lambda: token(KEY, nbf=NOW_S + 60),
    "no exp": lambda: token(KEY, exp=None),
    "no iat": lambda: token(KEY, iat=None),
    "no sub": lambda: token(KEY, sub=None),
    "no aud": lambda: token(KEY, aud=None),
    "no iss": lambda: token(KEY, iss=None),
    "other audience": lambda: token(KEY, aud="podium-evil"),
    "other issuer": lambda: signed(KEY, head(), body(iss="evil")),
    "exp as text": lambda: signed(KEY, head(), body(exp=str(NOW_S + 900))),
    "exp as fraction": lambda: signed(KEY, head(), body(exp=NOW_S + 0.5)),
    "exp as truth": lambda: signed(KEY, head(), body(exp=True)),
    "exp not a number": lambda: signed(KEY, head(), body(exp=float("nan"))),
    "lives for ever": lambda: token(KEY, exp=10**30),
    "lives too long": lambda: token(KEY, exp=NOW_S + 3_601),
    "sub twice": lambda: signed(KEY, head(), body()[:-1] + ', "sub": "admin"}'),
    "kid twice": lambda: signed(KEY, head()[:-1] + ', "kid": "k1"}', body()),
    "sub not text": lambda: signed(KEY, head(), body(sub=7)),
    "sub hostile": lambda: signed(KEY, head(), body(sub="a\nb")),
    "kid missing": lambda: signed(KEY, '{"alg":"EdDSA","typ":"JWT"}', body()),
    "kid a path": lambda: signed(KEY, head(kid="../../dev/null"), body()),
    "kid huge": lambda: signed(KEY, head(kid="k" * 10_000), body()),
    "kid a number": lambda: signed(KEY, head(kid=1), body()),
    "kid unknown": lambda: token(KEY, kid="k2"),
    "key in header": lambda: signed(KEY, head(jwk={"kty": "OKP"}), body()),
    "key by address": lambda: signed(KEY, head(jku="https://evil.example/keys"), body()),
    "certificate by address": lambda: signed(KEY, head(x5u="https://evil.example"), body()),
    "certificate in header": lambda: signed(KEY, head(x5c=["x"]), body()),
    "critical header": lambda: signed(KEY, head(crit=["x"], x=1), body()),
    "other typ": lambda: signed(KEY, head(typ="dpop+jwt"), body()),
    "typ missing": lambda: signed(KEY, '{"alg":"EdDSA","kid":"k1"}', body()),
    "deep json": lambda: signed(KEY, head(), "[" * 3_000),
    "not an object": lambda: signed(KEY, head(), "[]"),
    "not json": lambda: signed(KEY, head(), "{"),
    "too long": lambda: token(KEY, extra="x" * 5_000),
    "every role": lambda: token(KEY, roles=["*"]),
    "every capability": lambda: token(KEY, capabilities=["*"]),
    "every tenant": lambda: token(KEY, tenant="*"),
    "many roles": lambda: token(KEY, roles=[f"r{n}" for n in range(17)]),
    "roles not a list": lambda: token(KEY, roles="admin"),
}


@pytest.mark.parametrize("make", BAD.values(), ids=BAD.keys())
def test_a_bad_token_is_refused(verifier: Verifier, make: Callable[[], str]) -> None:
    with pytest.raises(TokenRefused):
        verifier.verify(make())


def test_a_clock_may_be_half_a_minute_off(verifier: Verifier) -> None:
    verifier.verify(token(KEY, iat=NOW_S + 29))
    verifier.verify(token(KEY, iat=NOW_S - 900, exp=NOW_S - 29))


async def test_a_remembered_token_still_expires(verifier: Verifier, clock: ManualClock) -> None:
    mine = token(KEY, exp=NOW_S + 10)
    verifier.verify(mine)
    await clock.advance(39)
    verifier.verify(mine)
    await clock.advance(2)

    with pytest.raises(TokenRefused, match="expired"):
        verifier.verify(mine)


async def test_keys_rotate_with_both_accepted_and_the_retired_one_refused(
    verifier: Verifier, clock: ManualClock, keys: Path
) -> None:
    old = token(KEY)
    verifier.verify(old)
    publish(keys, "k2", OTHER_KEY)
    await clock.advance(1)
    verifier.verify(token(OTHER_KEY, kid="k2"))
    verifier.verify(old)
    (keys / "k1.pem").unlink()
    await clock.advance(1)

    with pytest.raises(TokenRefused):
        verifier.verify(old)
    verifier.verify(token(OTHER_KEY, kid="k2"))


def test_an_unknown_key_does_not_make_the_directory_be_read_each_time(
    verifier: Verifier, keys: Path
) -> None:
    with pytest.raises(TokenRefused):
        verifier.verify(token(OTHER_KEY, kid="k2"))
    publish(keys, "k2", OTHER_KEY)

    # The clock stands still, so nobody has looked again.
    with pytest.raises(TokenRefused):
        verifier.verify(token(OTHER_KEY, kid="k2"))


def weak() -> list[Any]:
    return [
        rsa.generate_private_key(public_exponent=65_537, key_size=1_024),
        ec.generate_private_key(ec.SECP384R1()),
    ]


def test_what_is_no_good_key_is_left_out_and_told(
    keys: Path, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    for number, key in enumerate(weak()):
        publish(keys, f"weak{number}", key)
    (keys / "text.pem").write_text("hello")
    keyring = Keyring(keys, clock)

    assert keyring.find("k1") is not None
    assert [keyring.find(name) for name in ("weak0", "weak1", "text")] == [None, None, None]
    told = {r.__dict__["file"] for r in caplog.records if r.levelno == logging.ERROR}
    assert told == {"weak0.pem", "weak1.pem", "text.pem"}


def test_without_a_key_the_service_does_not_start(tmp_path: Path, clock: ManualClock) -> None:
    with pytest.raises(FailedPrecondition, match="PODIUM_AUTH_KEYS_DIR") as caught:
        Keyring(tmp_path / "absent", clock).require()

    assert caught.value.reason == "NO_AUTH_KEYS"

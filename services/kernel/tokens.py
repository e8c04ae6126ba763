"""Bearer tokens: JSON Web Tokens checked more strictly than the library does on its own.

The library accepts an `exp` written as text, lifetimes of centuries, repeated claims, any `typ`,
padding after the signature, and ignores headers that name other keys; none of it passes here.
"""

from __future__ import annotations

import base64
import json
import logging
import re
from collections import OrderedDict
from pathlib import Path
from typing import Any, NamedTuple

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from services.kernel import limits
from services.kernel.clock import Clock
from services.kernel.errors import FailedPrecondition

log = logging.getLogger("podium.kernel.tokens")

leeway_s = 30
lifetime_s_max = 3_600
token_len_max = 4_096
keys_check_s = 1.0
verified_len_max = 4_096
verified_s_max = 60.0
roles_len_max = 16

_TOKEN = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_KID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_ROLE = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_TENANT = re.compile(r"[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?")
_SUBJECT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,127}")
_CAPABILITY = re.compile(r"[a-z0-9][a-z0-9._:-]{0,63}")
_HEADERS = frozenset({"alg", "typ", "kid"})


class TokenRefused(Exception):
    """Why a token is not accepted: for the log, never for the caller."""


class Claims(NamedTuple):
    """What a verified token says."""

    subject: str
    tenant: str
    roles: tuple[str, ...]
    capabilities: tuple[str, ...]
    expire_s: int


class Key(NamedTuple):
    """A public key and the one algorithm it may be used with."""

    algorithm: str
    public: Any


class Keyring:
    """The public keys of a directory, `<kid>.pem` each, read again when the files change."""

    def __init__(self, directory: Path, clock: Clock) -> None:
        self._directory = directory
        self._clock = clock
        self._keys: dict[str, Key] = {}
        self._seen: tuple[tuple[str, int, int], ...] | None = None
        self._checked_s = float("-inf")
        self.version = 0

    def require(self) -> None:
        """Check that there is a key at all.

        Raises:
            FailedPrecondition: NO_AUTH_KEYS, there is none.
        """
        self.refresh()
        if not self._keys:
            raise FailedPrecondition(
                "NO_AUTH_KEYS",
                f"PODIUM_AUTH is jwt and {self._directory} holds no public key: put <kid>.pem"
                " there, set PODIUM_AUTH_KEYS_DIR, or set PODIUM_AUTH=off",
            )

    def find(self, kid: str) -> Key | None:
        """Return the key of that name."""
        self.refresh()
        return self._keys.get(kid)

    def refresh(self) -> None:
        """Read the directory again if it changed; looks at most once a second."""
        now_s = self._clock.now().mono_s
        if now_s - self._checked_s < keys_check_s:
            return
        self._checked_s = now_s
        files = sorted(self._directory.glob("*.pem")) if self._directory.is_dir() else []
        seen = []
        for file in files:
            stat = file.stat()
            seen.append((file.stem, stat.st_mtime_ns, stat.st_size))
        if tuple(seen) == self._seen:
            return
        self._seen = tuple(seen)
        self._keys = {file.stem: key for file in files if (key := _load(file)) is not None}
        self.version += 1


class Verifier:
    """Checks tokens against a keyring; remembers for a minute those it has verified."""

    def __init__(self, keyring: Keyring, *, issuer: str, audience: str, clock: Clock) -> None:
        self._keyring = keyring
        self._issuer = issuer
        self._audience = audience
        self._clock = clock
        self._verified: OrderedDict[str, tuple[Claims, float]] = OrderedDict()
        self._version = -1

    def verify(self, token: str) -> Claims:
        """Return what `token` says.

        Raises:
            TokenRefused: It is not to be believed.
        """
        now = self._clock.now()
        self._keyring.refresh()
        if self._version != self._keyring.version:
            # A key may be gone, and with it all it ever signed.
            self._verified.clear()
            self._version = self._keyring.version
        remembered = self._verified.get(token)
        if remembered is not None and now.mono_s < remembered[1]:
            claims = remembered[0]
            _check_expiry(claims.expire_s, now.wall_ms / 1_000)
            return claims
        claims = self._check(token, now.wall_ms / 1_000)
        self._verified[token] = (claims, now.mono_s + verified_s_max)
        if len(self._verified) > verified_len_max:
            self._verified.popitem(last=False)
        return claims

    def _check(self, token: str, wall_s: float) -> Claims:
        if len(token) > token_len_max or not _TOKEN.fullmatch(token):
            raise TokenRefused("not a token")
        head, body, _ = token.split(".")
        key = self._key(_object(head))
        claims = _object(body)
        try:
            jwt.decode(
                token,
                key.public,
                algorithms=[key.algorithm],
                audience=self._audience,
                issuer=self._issuer,
                options={
                    "require": ["exp", "iat", "sub", "aud", "iss"],
                    # Checked below, by the service's clock and with stricter types.
                    "verify_exp": False,
                    "verify_iat": False,
                    "verify_nbf": False,
                },
            )
        except (jwt.PyJWTError, ValueError, RecursionError) as error:
            raise TokenRefused(str(error)) from None
        _check_times(claims, wall_s)
        return Claims(
            _word(claims.get("sub"), "sub", _SUBJECT),
            _word(claims.get("tenant", "default"), "tenant", _TENANT),
            _words(claims.get("roles", []), "roles", _ROLE, roles_len_max),
            _words(
                claims.get("capabilities", []),
                "capabilities",
                _CAPABILITY,
                limits.capabilities_len_max,
            ),
            claims["exp"],
        )

    def _key(self, header: dict[str, Any]) -> Key:
        # Above all no jwk, jku, x5u or x5c, which name keys of the sender's choice, and no crit.
        if not header.keys() <= _HEADERS:
            raise TokenRefused("unknown header")
        typ, kid = header.get("typ"), header.get("kid")
        if not isinstance(typ, str) or typ.lower() not in ("jwt", "at+jwt"):
            raise TokenRefused("typ")
        if not isinstance(kid, str) or not _KID.fullmatch(kid):
            raise TokenRefused("kid")
        key = self._keyring.find(kid)
        if key is None or header.get("alg") != key.algorithm:
            raise TokenRefused("unknown key, or not its algorithm")
        return key


def _load(file: Path) -> Key | None:
    try:
        public = load_pem_public_key(file.read_bytes())
    except (OSError, ValueError, UnsupportedAlgorithm):
        log.error("Not a public key, and left out.", extra={"file": file.name})
        return None
    if isinstance(public, ed25519.Ed25519PublicKey):
        return Key("EdDSA", public)
    if isinstance(public, ec.EllipticCurvePublicKey) and public.curve.name == "secp256r1":
        return Key("ES256", public)
    if isinstance(public, rsa.RSAPublicKey) and public.key_size >= 2_048:
        return Key("RS256", public)
    log.error("Not an Ed25519, P-256 or RSA-2048 key, and left out.", extra={"file": file.name})
    return None


def _object(segment: str) -> dict[str, Any]:
    """Return the JSON object of a segment; refuse repeated names, where parsers disagree."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({name for name, _ in pairs}) != len(pairs):
            raise ValueError("a name is repeated")
        return dict(pairs)

    try:
        raw = base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
        parsed = json.loads(raw.decode(), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise TokenRefused(f"not JSON: {error}") from None
    if not isinstance(parsed, dict):
        raise TokenRefused("not an object")
    return parsed


def _check_times(claims: dict[str, Any], wall_s: float) -> None:
    for name in ("exp", "iat", "nbf"):
        # A bool is an int to Python, and a time to nobody.
        if name in claims and type(claims[name]) is not int:
            raise TokenRefused(f"{name} is not a whole number")
    if claims["exp"] - claims["iat"] > lifetime_s_max:
        raise TokenRefused("lives too long")
    if max(claims["iat"], claims.get("nbf", 0)) > wall_s + leeway_s:
        raise TokenRefused("not valid yet")
    _check_expiry(claims["exp"], wall_s)


def _check_expiry(expire_s: int, wall_s: float) -> None:
    if expire_s + leeway_s <= wall_s:
        raise TokenRefused("expired")


def _word(value: Any, name: str, pattern: re.Pattern[str]) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise TokenRefused(f"claim {name}")
    return value


def _words(value: Any, name: str, pattern: re.Pattern[str], len_max: int) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > len_max:
        raise TokenRefused(f"claim {name}")
    return tuple(_word(each, name, pattern) for each in value)

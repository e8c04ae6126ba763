"""Keys and tokens for tests of who may call."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

NOW_S = 1_700_000_000
CLAIMS = {
    "sub": "agent-7",
    "tenant": "acme",
    "roles": ["agent"],
    "capabilities": ["text.summarize"],
    "aud": "podium",
    "iss": "podium",
    "iat": NOW_S,
    "exp": NOW_S + 900,
}


def make_key(kind: str = "EdDSA") -> Any:
    if kind == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    if kind == "ES256":
        return ec.generate_private_key(ec.SECP256R1())
    return rsa.generate_private_key(public_exponent=65_537, key_size=2_048)


def public_pem(key: Any) -> bytes:
    pem: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return pem


def publish(directory: Path, kid: str, key: Any) -> None:
    directory.mkdir(exist_ok=True)
    (directory / f"{kid}.pem").write_bytes(public_pem(key))


def token(key: Any, *, kid: str = "k1", algorithm: str = "EdDSA", **claims: Any) -> str:
    """Signs the usual claims with changes; a claim set to None is left out."""
    payload = {k: v for k, v in {**CLAIMS, **claims}.items() if v is not None}
    return jwt.encode(payload, key, algorithm=algorithm, headers={"kid": kid})


def signed(key: Any, head: str, body: str) -> str:
    """Signs exactly this text, which the library would not write."""
    segments = ".".join(_segment(part.encode()) for part in (head, body))
    return f"{segments}.{_segment(key.sign(segments.encode()))}"


def body(**claims: Any) -> str:
    return json.dumps({**CLAIMS, **claims})


def head(**fields: Any) -> str:
    return json.dumps({"alg": "EdDSA", "typ": "JWT", "kid": "k1", **fields})


def _segment(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()

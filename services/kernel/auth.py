"""Who calls, and whether they may: bearer tokens to a `Principal`, methods to roles.

Every method needs a role, written in the servicer's policy; one that is missing there is refused.
A refused caller learns that it was refused, the log learns why.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

from services.kernel.clock import Clock
from services.kernel.config import Common
from services.kernel.errors import PermissionDenied, Unauthenticated
from services.kernel.rpc import Admit, Context
from services.kernel.tokens import Claims, Keyring, TokenRefused, Verifier

log = logging.getLogger("podium.kernel.auth")

Policy = Mapping[str, str]
"""Full method name, as `/podium.v1.RoutingService/OpenSession`, to the role it needs."""

_EXEMPT = ("/grpc.health.v1.Health/", "/grpc.reflection.")
_EVERY = "*"
_HEADER_LEN_MAX = 4_096 + len("Bearer ")


class Principal(NamedTuple):
    """Who calls; all of it comes from the credential, nothing from a message."""

    subject: str
    tenant: str
    roles: frozenset[str]
    capabilities: frozenset[str]

    def may(self, role: str) -> bool:
        """Return whether the caller has `role`; an admin has every one."""
        return role in self.roles or "admin" in self.roles or _EVERY in self.roles

    def may_offer(self, capability: str) -> bool:
        """Return whether an agent of this caller may claim `capability`."""
        return capability in self.capabilities or _EVERY in self.capabilities


# No token can say "*": claims are checked against patterns that do not know it.
ANONYMOUS = Principal("anonymous", "default", frozenset({_EVERY}), frozenset({_EVERY}))
"""Everybody, where callers are not checked."""

_current: ContextVar[Principal] = ContextVar("podium_principal")


def current_principal() -> Principal:
    """Return who makes the call this task serves."""
    principal = _current.get(None)
    assert principal is not None, "no call is being served here"
    return principal


_recheck: ContextVar[Callable[[], object] | None] = ContextVar("podium_recheck", default=None)


def current_recheck() -> Callable[[], object] | None:
    """Return what checks again, later, whether the caller of a long call would still be let in.

    It raises Unauthenticated, INVALID_TOKEN, when not: the token has expired, or its key is gone.
    None where there is nothing to check.
    """
    return _recheck.get()


@contextmanager
def acting_as(principal: Principal) -> Iterator[None]:
    """Make `principal` the caller inside the block."""
    token = _current.set(principal)
    try:
        yield
    finally:
        _current.reset(token)


def require_keys(settings: Common, clock: Clock) -> None:
    """Check that tokens can be verified where they are asked for.

    Raises:
        FailedPrecondition: NO_AUTH_KEYS, no key could verify one.
    """
    if settings.auth != "off":
        Keyring(settings.auth_keys_dir, clock).require()


def admission(settings: Common, policy: Policy | None, clock: Clock) -> Admit:
    """Return what lets calls in under `settings`.

    Raises:
        FailedPrecondition: NO_AUTH_KEYS, tokens are asked for and no key could verify one.
    """
    if settings.auth == "off":
        return _admit_all
    keyring = Keyring(settings.auth_keys_dir, clock)
    keyring.require()
    verifier = Verifier(
        keyring, issuer=settings.auth_issuer, audience=settings.auth_audience, clock=clock
    )
    roles = dict(policy or {})

    def admit(method: str, context: Context) -> None:
        if method.startswith(_EXEMPT):
            return

        def check() -> Claims:
            try:
                return verifier.verify(_bearer(context.invocation_metadata()))
            except TokenRefused as error:
                log.warning("A caller was refused.", extra={"method": method, "why": str(error)})
                raise Unauthenticated("INVALID_TOKEN", "invalid token") from None

        claims = check()
        principal = Principal(
            claims.subject, claims.tenant, frozenset(claims.roles), frozenset(claims.capabilities)
        )
        role = roles.get(method)
        if role is None or not principal.may(role):
            extra = {"method": method, "subject": principal.subject, "role": role or "none"}
            log.warning("A caller lacks the role for a method.", extra=extra)
            raise PermissionDenied(
                "ROLE_REQUIRED",
                f"{method} needs the role {role}." if role else f"{method} is open to nobody.",
                metadata={"method": method, "role": role or ""},
            )
        _current.set(principal)
        _recheck.set(check)

    return admit


def _admit_all(method: str, context: Context) -> None:
    _current.set(ANONYMOUS)


def _bearer(metadata: Any) -> str:
    values = [value for key, value in metadata or () if key.lower() == "authorization"]
    if len(values) != 1:
        raise TokenRefused(f"{len(values)} authorization headers")
    header = values[0]
    if not isinstance(header, str) or len(header) > _HEADER_LEN_MAX:
        raise TokenRefused("header too long")
    if not header.startswith("Bearer "):
        raise TokenRefused("not a bearer token")
    return header[len("Bearer ") :]

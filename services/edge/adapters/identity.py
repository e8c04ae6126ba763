"""Who a visitor is, by the token it shows."""

from __future__ import annotations

import logging
import math

from services.edge.ports import Identity
from services.kernel.auth import ANONYMOUS, Principal
from services.kernel.clock import Clock
from services.kernel.config import Common
from services.kernel.errors import Unauthenticated
from services.kernel.tokens import Keyring, TokenRefused, Verifier

log = logging.getLogger("podium.edge.identity")


class Everybody:
    """Lets everybody in: callers are not checked."""

    def identify(self, token: str) -> Identity:
        """Return the anonymous visitor."""
        return Identity(ANONYMOUS, math.inf)


class Bearers:
    """Lets in who shows a token that can be verified."""

    def __init__(self, verifier: Verifier) -> None:
        self._verifier = verifier

    def identify(self, token: str) -> Identity:
        """Return who the token speaks of.

        Raises:
            Unauthenticated: INVALID_TOKEN; why is for the log alone.
        """
        try:
            claims = self._verifier.verify(token)
        except TokenRefused as error:
            log.warning("A visitor was refused.", extra={"why": str(error)})
            raise Unauthenticated("INVALID_TOKEN", "invalid token") from None
        principal = Principal(
            claims.subject, claims.tenant, frozenset(claims.roles), frozenset(claims.capabilities)
        )
        return Identity(principal, float(claims.expire_s))


def door(settings: Common, clock: Clock) -> Everybody | Bearers:
    """Return what tells visitors apart under `settings`.

    Raises:
        FailedPrecondition: NO_AUTH_KEYS, tokens are asked for and no key could verify one.
    """
    if settings.auth == "off":
        return Everybody()
    keyring = Keyring(settings.auth_keys_dir, clock)
    keyring.require()
    return Bearers(
        Verifier(keyring, issuer=settings.auth_issuer, audience=settings.auth_audience, clock=clock)
    )

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

    def version(self) -> int:
        """Return always the same."""
        return 0


class Bearers:
    """Lets in who shows a token that can be verified."""

    def __init__(self, verifier: Verifier, keyring: Keyring) -> None:
        self._verifier = verifier
        self._keyring = keyring

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

    def version(self) -> int:
        """Return which keys are there: with a key goes all it ever signed."""
        self._keyring.refresh()
        return self._keyring.version


def door(settings: Common, clock: Clock) -> Everybody | Bearers:
    """Return what tells visitors apart under `settings`.

    Raises:
        FailedPrecondition: NO_AUTH_KEYS, tokens are asked for and no key could verify one.
    """
    if settings.auth == "off":
        return Everybody()
    keyring = Keyring(settings.auth_keys_dir, clock)
    keyring.require()
    verifier = Verifier(
        keyring, issuer=settings.auth_issuer, audience=settings.auth_audience, clock=clock
    )
    return Bearers(verifier, keyring)

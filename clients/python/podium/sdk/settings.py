"""Where the suite is: addresses and credentials, from arguments or the environment."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from podium.sdk.errors import Peer

_SERVICES = {
    "task_scheduler": ("TaskScheduler", "127.0.0.1:7701"),
    "agent_registry": ("AgentRegistry", "127.0.0.1:7702"),
    "routing": ("Routing", "127.0.0.1:7703"),
    "analytics": ("Analytics", "127.0.0.1:7705"),
}


@dataclass(frozen=True)
class Settings:
    """How to reach the suite.

    Every field has an environment variable: PODIUM_TASK_SCHEDULER_ADDRESS, PODIUM_ROUTING_ADDRESS,
    PODIUM_AGENT_REGISTRY_ADDRESS, PODIUM_ANALYTICS_ADDRESS, PODIUM_OTLP_ENDPOINT, PODIUM_TOKEN,
    PODIUM_TOKEN_FILE.
    `routing` may name several routers, with commas between: a session is held with one of them, and
    goes on with another when that one drains or is gone.
    """

    task_scheduler: str = _SERVICES["task_scheduler"][1]
    agent_registry: str = _SERVICES["agent_registry"][1]
    routing: str = _SERVICES["routing"][1]
    analytics: str = _SERVICES["analytics"][1]
    # Where spans go: "" = to analytics, "off" = nowhere.
    otlp_endpoint: str = ""
    # Bearer token for every call; "" = none.
    token: str = ""
    # File with the token, read again whenever it changes: tokens live an hour at the most.
    token_file: str = ""

    def __post_init__(self) -> None:
        for name in _SERVICES:
            object.__setattr__(self, name, _tidy(getattr(self, name)))

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Returns the settings of the environment, defaults where it is silent."""
        environ = os.environ if environ is None else environ
        given = {
            name: environ[variable]
            for name in _SERVICES
            if environ.get(variable := setting_of(name))
        }
        return replace(
            cls(**given),
            otlp_endpoint=environ.get("PODIUM_OTLP_ENDPOINT", ""),
            token=environ.get("PODIUM_TOKEN", ""),
            token_file=environ.get("PODIUM_TOKEN_FILE", ""),
        )

    @property
    def span_target(self) -> str:
        """The `host:port` that spans are sent to; empty when they are not."""
        if self.otlp_endpoint == "off":
            return ""
        endpoint = self.otlp_endpoint or self.analytics
        return endpoint.removeprefix("http://").removeprefix("grpc://").rstrip("/")

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What every call that begins now carries."""
        token = self.token or (_token_in(self.token_file) if self.token_file else "")
        return (("authorization", f"Bearer {token}"),) if token else ()

    def peer(self, name: str) -> Peer:
        """Returns who is at the address `name`, for error messages."""
        return Peer(_SERVICES[name][0], str(getattr(self, name)), setting_of(name))


def _token_in(path: str) -> str:
    try:
        found = os.stat(path)
        return _content(path, found.st_mtime_ns, found.st_size)
    except OSError:
        return ""  # whoever asks for a token says that there is none


@functools.lru_cache(maxsize=16)
def _content(path: str, changed_ns: int, size_bytes: int) -> str:
    return Path(path).read_text().strip()


def _tidy(addresses: str) -> str:
    """Returns addresses as they are dialled, without what people write around them."""
    parts = (part.strip().removeprefix("http://").rstrip("/") for part in addresses.split(","))
    return ",".join(part for part in parts if part)


def setting_of(name: str) -> str:
    """Returns the environment variable that holds the address of a service."""
    return f"PODIUM_{name.upper()}_ADDRESS"

"""Settings: one frozen dataclass a service, read once from the environment, all faults together.

A service derives its settings from `Common` and declares each field with `setting`:

    @dataclass(frozen=True)
    class Settings(Common):
        port: int = setting("PODIUM_ROUTING_PORT", 7703, "gRPC port", parse=as_port)
        heartbeat_s: float = setting(
            "PODIUM_HEARTBEAT_S", 15.0, "heartbeat interval", parse=as_seconds, production=30.0
        )
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from services.kernel.parsers import (
    as_address,
    as_choice,
    as_endpoint,
    as_integer,
    as_path,
    as_seconds,
    as_text,
)

T = TypeVar("T")
C = TypeVar("C", bound="Common")

_UNSET: Any = object()
_KEY = "setting"


class Setting(NamedTuple):
    """How one field is read from the environment."""

    env: str
    help: str
    parse: Callable[[str], Any]
    production: Any


class SettingsError(Exception):
    """Some settings are wrong; `faults` has one sentence for each."""

    def __init__(self, faults: Iterable[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(self.faults))


def setting(
    env: str,
    default: T,
    help: str,
    *,
    parse: Callable[[str], T] = as_text,  # type: ignore[assignment]  # the default of T = str
    production: T = _UNSET,
) -> T:
    """Declare a field read from the variable `env`.

    Args:
        env: Name of the environment variable.
        default: Value when the variable is unset or empty.
        help: What it means, with its unit; shown by `--help`.
        parse: Turns the text into the value; raises ValueError saying what it must be.
        production: Default in the production profile, where it differs.
    """
    metadata = {_KEY: Setting(env, help, parse, production)}
    field: T = dataclasses.field(default=default, metadata=metadata)
    return field


@dataclass(frozen=True)
class Common:
    """The settings every service has."""

    profile: str = setting(
        "PODIUM_PROFILE",
        "development",
        "development or production: chooses defaults",
        parse=as_choice("development", "production"),
    )
    host: str = setting("PODIUM_HOST", "127.0.0.1", "address to listen on")
    port: int = 0
    """The gRPC port; each service declares it again with its own variable and default."""
    data_dir: Path = setting(
        "PODIUM_DATA_DIR",
        Path("podium-data"),
        "directory for everything kept on disk",
        parse=as_path,
    )
    log_level: str = setting(
        "PODIUM_LOG_LEVEL",
        "debug",
        "debug, info, warning or error",
        parse=as_choice("debug", "info", "warning", "error"),
        production="info",
    )
    metrics_port_offset: int = setting(
        "PODIUM_METRICS_PORT_OFFSET",
        100,
        "Prometheus metrics are served on the gRPC port plus this; 0 turns them off",
        parse=as_integer(0, 20_000),
    )
    analytics_address: str = setting(
        "PODIUM_ANALYTICS_ADDRESS",
        "127.0.0.1:7705",
        "host:port of Analytics",
        parse=as_address,
    )
    otlp_endpoint: str = setting(
        "PODIUM_OTLP_ENDPOINT",
        "",
        "host:port that takes spans over OTLP/gRPC; unset: Analytics; off: none",
        parse=as_endpoint,
    )
    drain_s: float = setting(
        "PODIUM_DRAIN_S",
        10.0,
        "seconds a service may take to hand over its work when it is told to stop",
        parse=as_seconds,
    )
    auth: str = setting(
        "PODIUM_AUTH",
        "off",
        "off: everybody may do everything; jwt: callers show a bearer token",
        parse=as_choice("off", "jwt"),
        production="jwt",
    )
    auth_keys_dir: Path = setting(
        "PODIUM_AUTH_KEYS_DIR",
        Path("podium-keys"),
        "directory of public keys, <kid>.pem each, that sign tokens",
        parse=as_path,
    )
    auth_issuer: str = setting("PODIUM_AUTH_ISSUER", "podium", "issuer (iss) tokens must have")
    auth_audience: str = setting(
        "PODIUM_AUTH_AUDIENCE", "podium", "audience (aud) tokens must have"
    )
    auth_token_file: str = setting(
        "PODIUM_AUTH_TOKEN_FILE",
        "",
        "file with the token this service shows to its peers (roles service and reader), read "
        "again when it changes",
    )

    @property
    def spans_endpoint(self) -> str:
        """Where spans are sent: `host:port`, or empty for nowhere."""
        if self.otlp_endpoint == "off":
            return ""
        return self.otlp_endpoint or self.analytics_address

    @property
    def collector(self) -> str:
        """Where spans are sent when that is not Analytics: `host:port`, or empty."""
        return "" if self.spans_endpoint == self.analytics_address else self.spans_endpoint


def load(cls: type[C], environ: Mapping[str, str]) -> C:
    """Read the settings of `cls`.

    Raises:
        SettingsError: Some values are wrong; it names every one of them.
    """
    faults: list[str] = []
    values: dict[str, Any] = {}
    profile = environ.get("PODIUM_PROFILE") or "development"
    for field in dataclasses.fields(cls):
        declared: Setting | None = field.metadata.get(_KEY)
        if declared is None:
            continue
        text = environ.get(declared.env, "").strip()
        if not text:
            values[field.name] = _default(field, profile)
            continue
        try:
            values[field.name] = declared.parse(text)
        except ValueError as error:
            faults.append(f"{declared.env}={_shown(text)}: {error} ({declared.help})")
    if faults:
        raise SettingsError(faults)
    return cls(**values)


def misspelled(classes: Iterable[type[Common]], environ: Mapping[str, str]) -> list[str]:
    """Return a sentence for each unknown PODIUM_* variable that looks like a known one."""
    known = {declared.env for cls in classes for declared in _settings(cls)}
    sentences = []
    for name in sorted(environ):
        if not name.startswith("PODIUM_") or name in known:
            continue
        # 0.92 takes a dropped, doubled or swapped letter, not the variable of another service.
        close = difflib.get_close_matches(name, known, n=1, cutoff=0.92)
        if close:
            sentences.append(f"{name} is not a setting and is ignored: did you mean {close[0]}?")
    return sentences


def describe(cls: type[Common]) -> list[str]:
    """Return a block of lines for each setting, for `--help`."""
    blocks = []
    for field in dataclasses.fields(cls):
        declared: Setting | None = field.metadata.get(_KEY)
        if declared is None:
            continue
        default = _text(field.default)
        if declared.production is not _UNSET and declared.production != field.default:
            default += f"; in production {_text(declared.production)}"
        blocks.append(f"  {declared.env}\n      {declared.help} (default: {default})")
    return blocks


def variable(cls: type[Common], field_name: str) -> str:
    """Return the environment variable that sets the field, for messages that say what to do."""
    for field in dataclasses.fields(cls):
        if field.name == field_name and _KEY in field.metadata:
            declared: Setting = field.metadata[_KEY]
            return declared.env
    return f"the setting {field_name}"


def where(settings: Common, field_name: str) -> str:
    """Return an address and the variable that names it, for messages that say what to do."""
    return f"{getattr(settings, field_name)} ({variable(type(settings), field_name)})"


def _settings(cls: type[Common]) -> Iterable[Setting]:
    return (f.metadata[_KEY] for f in dataclasses.fields(cls) if _KEY in f.metadata)


def _default(field: dataclasses.Field[Any], profile: str) -> Any:
    production = field.metadata[_KEY].production
    return production if profile == "production" and production is not _UNSET else field.default


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value)) or "unset"
    if value == "":
        return "unset"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _shown(text: str) -> str:
    shown = text if len(text) <= 60 else text[:57] + "..."
    return ascii(shown)

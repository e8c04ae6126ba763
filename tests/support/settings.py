"""What the services' settings say, read from the classes that every start reads them into."""

from __future__ import annotations

import dataclasses
import importlib
from typing import Any, NamedTuple

from services import suite

SERVICES = tuple(sorted(suite.SERVICES))


class Declared(NamedTuple):
    """The settings of one service, by the name of their variable."""

    defaults: dict[str, Any]
    port: int

    @property
    def peers(self) -> set[str]:
        """Names the services whose address it takes."""
        return {
            name.removeprefix("PODIUM_").removesuffix("_ADDRESS").lower()
            for name in self.defaults
            if name.endswith("_ADDRESS")
        }


def declared(service: str) -> Declared:
    """Returns what a service declares in its `config` room."""
    settings = importlib.import_module(f"services.{service}.__main__").SERVICE.settings
    fields = {field.name: field for field in dataclasses.fields(settings)}
    defaults = {
        field.metadata["setting"].env: field.default
        for field in fields.values()
        if "setting" in field.metadata
    }
    return Declared(defaults, fields["port"].default)

"""What the proto comments promise, held against the servicers."""

from __future__ import annotations

import importlib
import pkgutil
import re
from pathlib import Path
from types import ModuleType

import pytest

from tests.support.settings import SERVICES

PROTOS = Path(__file__).resolve().parents[1] / "protos/podium/v1"
ROLES = {"agent", "operator", "reader", "service", "submitter"}
# The edge's contract is the bridge's messages, carried over WebSocket.
WITH_RPCS = [service for service in SERVICES if service != "edge"]


def documented(service: str) -> dict[str, str]:
    """Returns each RPC's full name with the last line of its comment."""
    text = (PROTOS / f"{service}.proto").read_text("utf-8")
    name = re.search(r"^service (\w+) {$", text, re.MULTILINE)
    assert name, service
    return {
        f"/podium.v1.{name[1]}/{rpc}": sentence
        for sentence, rpc in re.findall(r"^  // (.*)\n  rpc (\w+)\(", text, re.MULTILINE)
    }


@pytest.mark.parametrize("service", WITH_RPCS)
def test_each_rpc_says_last_which_role_its_caller_needs(service: str) -> None:
    text = (PROTOS / f"{service}.proto").read_text("utf-8")

    assert len(documented(service)) == len(re.findall(r"^  rpc ", text, re.MULTILINE)) > 0
    for method, sentence in documented(service).items():
        role = re.fullmatch(r"The caller needs the role `(\w+)`\.", sentence)
        assert role, f"{method}: {sentence}"
        assert role[1] in ROLES, method


@pytest.mark.parametrize("service", WITH_RPCS)
def test_a_servicer_asks_for_the_role_that_the_comment_names(service: str) -> None:
    asked = {
        method: role
        for module in servicer_modules(service)
        for method, role in getattr(module, "POLICY", {}).items()
        if method.startswith("/podium.")
    }

    assert asked == {
        method: sentence.split("`")[1] for method, sentence in documented(service).items()
    }


def servicer_modules(service: str) -> list[ModuleType]:
    room = importlib.import_module(f"services.{service}.servicer")
    inside = pkgutil.iter_modules(getattr(room, "__path__", []), f"{room.__name__}.")
    return [room, *(importlib.import_module(module.name) for module in inside)]


def test_every_proto_file_is_described() -> None:
    described = set(re.findall(r"`(\w+\.proto)`", (PROTOS.parents[1] / "README.md").read_text()))

    assert described == {file.name for file in PROTOS.glob("*.proto")}

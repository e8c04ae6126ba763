"""Writes the Python package `podium.v1` from protos/podium/v1; both `make protos` and build hook.

The proto path is the Python package path, so the stubs import each other with no fix-up.
"""

from __future__ import annotations

import shutil
import sys
from importlib import resources
from pathlib import Path
from typing import Any

from grpc_tools import protoc
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PROTOS = Path(__file__).resolve().parent
TARGET = PROTOS.parent / "clients" / "python"
PACKAGE = TARGET / "podium" / "v1"


def generate() -> None:
    """Replaces the generated package; deterministic, so a repeat changes nothing.

    Raises:
        SystemExit: there is no proto file, a tool is missing, or protoc refused a file.
    """
    files = sorted((PROTOS / "podium").rglob("*.proto"))
    if not files:
        raise SystemExit(f"no .proto file below {PROTOS / 'podium'}")
    # An empty _pb2_grpc.py would appear for each file without a service.
    with_service = [file for file in files if "\nservice " in file.read_text("utf-8")]
    shutil.rmtree(PACKAGE, ignore_errors=True)  # else the stubs of a removed file would live on
    run([f"--python_out={TARGET}", f"--pyi_out={TARGET}"], files)
    if with_service:
        plugin = f"--plugin=protoc-gen-mypy_grpc={mypy_plugin()}"
        run(
            [f"--grpc_python_out={TARGET}", plugin, f"--mypy_grpc_out=quiet:{TARGET}"], with_service
        )
    (PACKAGE / "__init__.py").write_text(
        '"""The wire contract, version 1. Generated from protos/podium/v1."""\n', "utf-8"
    )


def run(flags: list[str], files: list[Path]) -> None:
    """Runs protoc in this process."""
    well_known = resources.files("grpc_tools") / "_proto"
    arguments = ["protoc", f"-I{PROTOS}", f"-I{well_known}", *flags, *map(str, files)]
    if protoc.main(arguments) != 0:
        raise SystemExit("protoc failed; its messages are above")


def mypy_plugin() -> str:
    """Finds the plugin that types the stubs, beside this interpreter first: PATH may lack it."""
    beside = str(Path(sys.executable).parent)
    found = shutil.which("protoc-gen-mypy_grpc", path=beside) or shutil.which(
        "protoc-gen-mypy_grpc"
    )
    if found is None:
        raise SystemExit("protoc-gen-mypy_grpc is missing: install mypy-protobuf (make install)")
    return found


class GenerateHook(BuildHookInterface[Any]):
    """Makes every build, editable installs included, carry fresh stubs."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Runs before hatchling collects files."""
        generate()


if __name__ == "__main__":
    generate()

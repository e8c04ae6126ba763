from __future__ import annotations

import ast
from pathlib import Path

from services.kernel import names

SERVICES = Path(__file__).resolve().parents[2] / "services"


def test_every_metric_is_one_that_a_service_exposes() -> None:
    known = {name for name in vars(names) if name.startswith("metric_")}
    used = {
        node.attr
        for path in SERVICES.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "names"
    }

    assert known - used == set()

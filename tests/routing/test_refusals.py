from __future__ import annotations

import re
from pathlib import Path

from services.kernel import errors
from services.routing.core.refusals import CODES

ROUTING = Path(__file__).resolve().parents[2] / "services" / "routing"
REFUSED = re.compile(r"(?:_refuse|\.refuse|SendRefusal)\([^()]*?\"([A-Z_]{4,})\"", re.DOTALL)


def test_every_reason_has_a_code_and_every_code_is_one_of_the_tree() -> None:
    sources = [path.read_text("utf-8") for path in ROUTING.rglob("*.py")]
    told = {reason for source in sources for reason in REFUSED.findall(source)}

    assert told >= {"INVALID_FIELD", "AGENT_NOT_YOURS", "LEASE_NOT_YOURS", "DRAINING"}
    of_errors = {"HELLO_REQUIRED", "HELLO_RATE", "TOO_MANY_AGENTS"}
    assert told | of_errors == set(CODES)
    assert set(CODES.values()) <= {kind.code for kind in errors.PodiumError.__subclasses__()}

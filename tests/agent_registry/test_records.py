from __future__ import annotations

import orjson

from services.agent_registry.adapters.records import read, written
from services.agent_registry.core.kept import kept_of
from tests.agent_registry.hall import Hall


def test_what_an_earlier_version_has_written_is_read_without_what_it_did_not_know() -> None:
    hall = Hall()
    hall.agent("a", instance="one", router="r1")
    agent = hall.agent("a", instance="two", router="r2")
    hall.registry.update("a", {"labels": (("zone", "b"),)}, hall.time)
    hall.registry.drain(["a"], "an update", hall.time)
    kept = kept_of(agent, hall.time)
    names = (b"id", b"term", b"capabilities", b"facts", b"status", b"health")
    fields = dict(zip(names, written(kept), strict=True))
    assert read(fields) == kept
    assert len(kept.acts) == 2

    status = orjson.loads(fields[b"status"])
    del status["since_ms"], status["superseded"], status["acts"]

    assert read({**fields, b"status": orjson.dumps(status)}) == kept._replace(
        since_ms=0, superseded=(), acts=()
    )

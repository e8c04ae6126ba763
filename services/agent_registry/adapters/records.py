"""Agents and notes as they stand in Redis: JSON that a person can read there too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from services.agent_registry.core.acts import Act
from services.agent_registry.core.agent import Facts, Skill
from services.agent_registry.core.breaker import Standing
from services.agent_registry.core.kept import Kept, Note, Tally

_FACTS = Facts._fields
_STATUS = (
    "create_ms heard_ms present quarantined reason home term router_id silent draining in_flight"
).split()
_NEWER = ("since_ms", "superseded", "changes")
"""Of the status too, and missing in what earlier versions have written."""


def written(kept: Kept) -> tuple[str, str, str, bytes, bytes, bytes]:
    """Return the fields of an agent's hash: id, term, capabilities, facts, status, health."""
    facts = kept.facts
    status = {name: getattr(kept, name) for name in (*_STATUS, *_NEWER)}
    status["acts"] = [act._asdict() for act in kept.acts]
    health = {"breaker": kept.breaker, "tallies": kept.tallies}
    return (
        facts.agent_id,
        str(kept.term),
        "\n".join(sorted(facts.capabilities)),
        _json(facts._asdict()),
        _json(status),
        _json(health),
    )


def read(fields: Mapping[bytes, bytes]) -> Kept | None:
    """Return the agent of a hash; None for one that is not there, or not whole."""
    try:
        facts = orjson.loads(fields[b"facts"])
        status = orjson.loads(fields[b"status"])
        health = orjson.loads(fields[b"health"])
        return Kept(
            facts=_facts(facts),
            breaker=_standing(health["breaker"]),
            tallies=tuple(Tally(*each) for each in health["tallies"]),
            acts=tuple(map(_act, status.get("acts", ()))),
            **{name: status[name] for name in _STATUS},
            **{name: _tuples(status[name]) for name in _NEWER if name in status},
        )
    except (KeyError, TypeError, ValueError):
        return None


def note_written(note: Note) -> bytes:
    """Return a note as text."""
    return _json(note._asdict())


def note_read(text: bytes) -> Note | None:
    """Return a note; None for one that this version cannot read."""
    try:
        known = {name: value for name, value in orjson.loads(text).items() if name in Note._fields}
        changes = tuple((name, _tuples(value)) for name, value in known.pop("changes", ()))
        return Note(**known, changes=changes)
    except (TypeError, ValueError):
        return None


def _json(value: Any) -> bytes:
    return orjson.dumps(value, default=_plain)


def _plain(value: Any) -> Any:
    # orjson takes no named tuple for a list.
    if isinstance(value, tuple):
        return list(value)
    raise TypeError(type(value).__name__)


def _facts(said: dict[str, Any]) -> Facts:
    known = {name: value for name, value in said.items() if name in _FACTS}
    known["skills"] = tuple(Skill(*each) for each in known["skills"])
    known["labels"] = _tuples(known["labels"])
    return Facts(**known)


def _act(said: dict[str, Any]) -> Act:
    return Act(**{name: _tuples(said[name]) for name in Act._fields if name in said})


def _standing(said: Sequence[Any]) -> Standing:
    state, cool_s, due_ms, recent = said
    return Standing(state, cool_s, due_ms, _tuples(recent))


def _tuples(value: Any) -> Any:
    """Return lists as tuples, all the way down."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value

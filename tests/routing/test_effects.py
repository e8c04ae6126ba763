from __future__ import annotations

from podium.v1 import session_pb2
from services.routing.core import effects


def test_verdicts_have_the_numbers_of_the_wire() -> None:
    lease, result = session_pb2.LeaseVerdict, session_pb2.ResultAck

    assert (effects.KEEP, effects.CANCEL, effects.LOST) == (
        lease.VERDICT_KEEP,
        lease.VERDICT_CANCEL,
        lease.VERDICT_LOST,
    )
    assert (effects.ACCEPTED, effects.DUPLICATE, effects.FENCED) == (
        result.VERDICT_ACCEPTED,
        result.VERDICT_DUPLICATE,
        result.VERDICT_FENCED,
    )
    assert (effects.REFUSED, effects.CONFLICT, effects.UNKNOWN) == (
        result.VERDICT_REFUSED,
        result.VERDICT_CONFLICT,
        result.VERDICT_UNKNOWN,
    )

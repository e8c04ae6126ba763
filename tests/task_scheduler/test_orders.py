from __future__ import annotations

from podium.v1 import session_pb2
from services.task_scheduler.core.orders import Orders, Revoke, Settlement, Verdict
from services.task_scheduler.core.task import Lease


def test_orders_are_taken_once_and_in_order() -> None:
    orders = Orders()
    first, second = Revoke(Lease("t", 1), "CANCELED"), Revoke(Lease("t", 2), "EXPIRED")
    orders.send("r1", first)
    orders.send("r2", second)

    assert orders.take() == [("r1", first), ("r2", second)]
    assert orders.take() == []


def test_the_numbers_are_those_of_the_wire() -> None:
    verdicts = dict(session_pb2.LeaseVerdict.Verdict.items())
    settlements = dict(session_pb2.ResultAck.Verdict.items())

    assert all(verdicts[f"VERDICT_{one.name}"] == one for one in Verdict)
    assert all(settlements[f"VERDICT_{one.name}"] == one for one in Settlement)
    assert len(verdicts) == len(Verdict) + 1
    assert len(settlements) == len(Settlement) + 1

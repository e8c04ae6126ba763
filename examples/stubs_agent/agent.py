"""Counts words with nothing but grpc and the generated stubs; docs/agents.md explains its rules."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import threading
import time

import grpc

from podium.v1 import routing_pb2, routing_pb2_grpc, session_pb2

ADDRESS = os.environ.get("PODIUM_ROUTING_ADDRESS", "127.0.0.1:7703")
TYPE, READY_S_MAX, READY = "text.count", 10.0, 1e99
KEEP = session_pb2.LeaseVerdict.VERDICT_KEEP
DRAINING, INCAPABLE = session_pb2.Nack.REASON_DRAINING, session_pb2.Nack.REASON_INCAPABLE


class _WordCounter:
    def __init__(self) -> None:
        self.about: dict[str, object] = {"instance_id": os.urandom(8).hex(), "max_concurrency": 4}
        self.leases: dict[bytes, session_pb2.Result | None] = {}  # by LeaseRef; None while in work
        self.taken, self.stopping, self.wait_s, self.away_s = 0, False, 0.05, 0.0
        self.paces_s, self.tuned = [1.0, 1.0], threading.Event()  # of renewals and heartbeats

    def run(self) -> None:
        threading.Thread(target=self.renew, daemon=True).start()
        while self.leases or not self.stopping:
            self.ready_by, self.wait_s = time.monotonic() + READY_S_MAX, 2 * self.wait_s
            self.outbox = queue.SimpleQueue[routing_pb2.OpenSessionRequest | None]()
            held = list(map(session_pb2.LeaseRef.FromString, self.leases.copy()))
            self.say(hello=self.about | {"in_flight": held, "capabilities": [{"name": TYPE}]})
            with contextlib.suppress(grpc.RpcError), grpc.insecure_channel(ADDRESS) as channel:
                stub = routing_pb2_grpc.RoutingServiceStub(channel)
                self.call = stub.OpenSession(iter(self.outbox.get, None))
                for frame in (frame for response in self.call for frame in response.frames):
                    self.receive(frame.WhichOneof("frame"), frame)
            self.outbox.put(None)  # ends the thread that was sending
            drawn_s = os.urandom(1)[0] / 255 * min(5.0, self.wait_s)  # a fleet is no herd
            time.sleep(self.away_s + drawn_s)
            self.away_s = 0.0

    def receive(self, kind: str | None, frame: session_pb2.RouterFrame) -> None:
        self.pace(frame.ready, frame.tune)
        if kind == "ready":
            self.ready_by, self.wait_s, self.taken = READY, 0.1, 0  # each Ready counts anew
            self.about["resume_token"] = frame.ready.resume_token
            self.settle([each.lease for each in frame.ready.verdicts if each.verdict != KEEP])
            if self.stopping:  # it was told to leave before anybody heard of it
                self.leave()
            for result in filter(None, list(self.leases.values())):
                self.say(result=result)  # the router may not have had it
        elif kind == "assign":
            self.take(frame.assign)
        elif kind == "cancel":  # what the thread brings later is dropped
            self.finish(session_pb2.Result(lease=frame.cancel.lease, canceled={}))
        elif kind == "probe":
            self.say(probe_reply={"nonce": frame.probe.nonce})
        elif kind in ("renew_ack", "recall", "result_ack"):
            self.settle([*frame.renew_ack.lost, *frame.recall.leases, frame.result_ack.lease])
        elif kind == "refusal" and frame.refusal.closing:
            self.away_s = frame.refusal.retry_after.ToMilliseconds() / 1e3  # as it was asked to
            self.call.cancel()  # the session is over: the next stream begins another
        if kind == "superseded" or (self.stopping and not self.leases):
            self.stopping, self.leases = True, {}
            self.say(goodbye={})
            self.outbox.put(None)

    def pace(self, *told: session_pb2.Ready | session_pb2.Tune) -> None:
        for each in (each for each in told if each.ByteSize()):  # a Tune may set one of them alone
            paces = [each.renew_interval, each.heartbeat_interval]
            told_s = [pace.ToMilliseconds() / 1e3 for pace in paces]
            self.paces_s = [told or old for told, old in zip(told_s, self.paces_s, strict=True)]
            self.tuned.set()

    def take(self, task: session_pb2.Assign) -> None:
        self.taken += 1
        lease = session_pb2.LeaseRef(task_id=task.task_id, lease_epoch=task.lease_epoch)
        if self.stopping or task.spec.type != TYPE:  # at once, so that it goes elsewhere
            self.say(nack={"lease": lease, "reason": DRAINING if self.stopping else INCAPABLE})
            self.settle([])
        elif lease.SerializeToString() not in self.leases:  # else it is in work already
            self.leases[lease.SerializeToString()] = None
            self.say(ack=session_pb2.Ack(lease=lease))
            threading.Thread(target=self.work, args=(lease, task.spec.payload.data)).start()

    def work(self, lease: session_pb2.LeaseRef, text: bytes) -> None:
        self.finish(session_pb2.Result(lease=lease, success={"data": b"%d" % len(text.split())}))

    def finish(self, result: session_pb2.Result) -> None:
        if self.leases.get(result.lease.SerializeToString(), result) is None:  # in work until now
            self.leases[result.lease.SerializeToString()] = result
            self.say(result=result)

    def settle(self, leases: list[session_pb2.LeaseRef]) -> None:
        [self.leases.pop(lease.SerializeToString(), None) for lease in leases]
        self.say(credit={"total": self.taken + 4 - len(self.leases)})  # counts up

    def renew(self) -> None:
        while True:  # one that names nothing is as good a sign of life as a heartbeat
            if not self.tuned.wait(min(self.paces_s)):  # else the time begins anew
                self.say(renew={"leases": map(session_pb2.LeaseRef.FromString, self.leases.copy())})
            self.tuned.clear()
            if time.monotonic() > self.ready_by:
                self.call.cancel()  # nobody answers: the next stream may do better

    def say(self, **frame: object) -> None:
        if "hello" in frame or self.ready_by == READY:  # what is unsaid now is said again then
            self.outbox.put(routing_pb2.OpenSessionRequest(frames=[{"agent_id": "wordy"} | frame]))

    def stop(self, *_: object) -> None:
        if self.stopping:
            os._exit(130)  # a second Ctrl-C does not wait
        self.stopping = True
        self.leave()

    def leave(self) -> None:
        self.say(drain={})
        self.say(renew={})  # whose answer lets it leave, as soon as nothing is in work


if __name__ == "__main__":
    agent = _WordCounter()
    [signal.signal(number, agent.stop) for number in (signal.SIGINT, signal.SIGTERM)]
    agent.run()

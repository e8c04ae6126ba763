"""Counts words with nothing but grpc and the generated stubs; docs/agents.md explains its rules."""

from __future__ import annotations

import contextlib
import os
import queue
import random
import signal
import threading
import time

import grpc

from podium.v1 import routing_pb2, routing_pb2_grpc, session_pb2

ADDRESS = os.environ.get("PODIUM_ROUTING_ADDRESS", "127.0.0.1:7703")
KEEP, CAPACITY = session_pb2.LeaseVerdict.VERDICT_KEEP, 4


class _WordCounter:
    def __init__(self) -> None:
        self.hello = session_pb2.Hello(instance_id=str(time.time_ns()), max_concurrency=CAPACITY)
        self.hello.capabilities.add(name="text.count")
        self.leases: dict[bytes, session_pb2.Result | None] = {}  # by LeaseRef; None while in work
        self.assigned, self.stopping, self.renew_s, self.wait_s = 0, False, 1.0, 0.1

    def run(self) -> None:
        threading.Thread(target=self.renew, daemon=True).start()
        while self.leases or not self.stopping:
            self.outbox = queue.SimpleQueue[routing_pb2.OpenSessionRequest | None]()
            self.hello.ClearField("in_flight")
            self.hello.in_flight.extend(map(session_pb2.LeaseRef.FromString, self.leases.copy()))
            self.say(hello=self.hello)
            print(f"opening a session with {ADDRESS}", flush=True)
            with contextlib.suppress(grpc.RpcError), grpc.insecure_channel(ADDRESS) as channel:
                stub = routing_pb2_grpc.RoutingServiceStub(channel)
                for response in stub.OpenSession(iter(self.outbox.get, None)):
                    for frame in response.frames:
                        self.receive(frame.WhichOneof("frame"), frame)
            self.outbox.put(None)  # ends the thread that was sending
            time.sleep(random.uniform(0, self.wait_s))  # drawn, so that a fleet is never a herd
            self.wait_s = min(5.0, self.wait_s * 2)

    def receive(self, kind: str | None, frame: session_pb2.RouterFrame) -> None:
        if kind == "ready":
            self.wait_s, self.renew_s = 0.1, frame.ready.renew_interval.ToMilliseconds() / 1e3
            self.assigned = self.assigned if frame.ready.resumed else 0
            self.hello.resume_token = frame.ready.resume_token
            self.settle([each.lease for each in frame.ready.verdicts if each.verdict != KEEP])
            for result in filter(None, list(self.leases.values())):
                self.say(result=result)  # the router may not have had it
        elif kind == "assign":
            task, self.assigned = frame.assign, self.assigned + 1
            lease = session_pb2.LeaseRef(task_id=task.task_id, lease_epoch=task.lease_epoch)
            self.leases[lease.SerializeToString()] = None
            self.say(ack=session_pb2.Ack(lease=lease))
            threading.Thread(target=self.work, args=(lease, task.spec.payload.data)).start()
        elif kind == "cancel":  # what the thread brings later is dropped
            self.finish(session_pb2.Result(lease=frame.cancel.lease, canceled={}))
        elif kind == "probe":
            self.say(probe_reply={"nonce": frame.probe.nonce})
        elif kind in ("renew_ack", "result_ack"):
            self.settle([*frame.renew_ack.lost, frame.result_ack.lease])
        if kind == "superseded" or (self.stopping and not self.leases):
            self.stopping, self.leases = True, {}
            self.say(goodbye={})
            self.outbox.put(None)

    def work(self, lease: session_pb2.LeaseRef, text: bytes) -> None:
        words = {"content_type": "text/plain", "data": b"%d" % len(text.split())}
        self.finish(session_pb2.Result(lease=lease, success=words))

    def finish(self, result: session_pb2.Result) -> None:
        if self.leases.get(result.lease.SerializeToString(), result) is None:  # in work until now
            self.leases[result.lease.SerializeToString()] = result
            self.say(result=result)

    def settle(self, leases: list[session_pb2.LeaseRef]) -> None:
        for lease in leases:
            self.leases.pop(lease.SerializeToString(), None)
        self.say(credit={"total": self.assigned + CAPACITY - len(self.leases)})  # counts up

    def renew(self) -> None:
        while not threading.Event().wait(self.renew_s):  # for ever, every so often
            self.say(renew={"leases": map(session_pb2.LeaseRef.FromString, self.leases.copy())})

    def say(self, **frame: object) -> None:
        self.outbox.put(routing_pb2.OpenSessionRequest(frames=[{"agent_id": "wordy"} | frame]))

    def stop(self, *_: object) -> None:
        self.stopping = True
        self.say(drain={})


if __name__ == "__main__":
    agent = _WordCounter()
    signal.signal(signal.SIGTERM, agent.stop)
    agent.run()

"""Judges what agents say in a session by the tables of docs/protocol.md.

The two directions do not wait for each other: when an agent speaks, it may have heard all that the
router has said, or only the first part. So a lease is in any of several states, and a frame is
wrong only when it is legal in none of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from podium.v1.session_pb2 import AgentFrame, LeaseVerdict, RouterFrame

PAGE = Path(__file__).resolve().parents[2] / "docs" / "protocol.md"
WORD = re.compile(r"`([^`\n]+)`")
NONE = "none"
SPEAKING = ("READY", "DRAINING", "CLOSING")
CHOICE = ("to none", "cancel")
"""What the agent may make of a task that is stopped and that nobody waits for."""

Place = tuple[str, int]
"""A state, and how many of the router's words led to it."""


def tables(text: str) -> Iterator[list[list[str]]]:
    """Yields the tables of a page, as rows of cells; the first row is the head."""
    rows: list[list[str]] = []
    for line in [*text.splitlines(), ""]:
        if line.startswith("|"):
            rows.append([cell.strip() for cell in line.strip("|").split(" | ")])
        elif rows:
            yield [rows[0], *rows[2:]]
            rows = []


def table(head: str) -> list[list[str]]:
    """Returns the rows of the table of the page with this in its head."""
    return next(rows[1:] for rows in tables(PAGE.read_text("utf-8")) if head in rows[0])


def transitions() -> dict[tuple[str, str], str]:
    """Returns where a lease goes: by state and by who says what."""
    moves = {}
    for line in PAGE.read_text("utf-8").splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) == 4 and re.fullmatch(r"none|[A-Z]{5,}", cells[0]):
            state, agent, router, becomes = cells
            said = f"agent {agent}" if agent else f"router {router}"
            moves[state, said.replace("`", "")] = becomes
    return moves


def told(frame: RouterFrame) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yields what a frame of the router says of leases; several words leave the agent a choice."""
    kind = frame.WhichOneof("frame") or ""
    if kind == "assign":
        yield (kind,), frame.assign
    elif kind == "result_ack":
        yield (kind,), frame.result_ack.lease
    elif kind == "cancel":
        lost = frame.cancel.reason == "LEASE_LOST"
        yield CHOICE if lost else (kind,), frame.cancel.lease
    for ref in (*frame.renew_ack.lost, *frame.recall.leases):
        yield (kind,), ref


class Lease:
    """Where a lease may be, as its agent sees it."""

    def __init__(self, moves: dict[tuple[str, str], str]) -> None:
        self._moves = moves
        self._router: list[tuple[str, ...]] = []
        self.places: set[Place] = {(NONE, 0)}
        self.report_seq = 0

    def hears(self, *said: str) -> None:
        """Notes a word of the router; several alternatives where the agent has the choice."""
        self._router.append(said)

    def reach(self) -> set[Place]:
        """Returns all places that it may be at by now."""
        found, open_places = set(self.places), list(self.places)
        while open_places:
            state, heard = open_places.pop()
            for said in self._router[heard : heard + 1]:
                for word in said:
                    forced = word.removeprefix("to ") if word.startswith("to ") else None
                    place = (forced or self._moves.get((state, f"router {word}"), state), heard + 1)
                    if place not in found:
                        found.add(place)
                        open_places.append(place)
        return found

    def says(self, kind: str) -> bool:
        """Moves by a word of the agent; False when it is legal nowhere."""
        move = f"agent {kind}"
        self.places = {
            (self._moves[state, move], heard)
            for state, heard in self.reach()
            if (state, move) in self._moves
        }
        return bool(self.places)

    def lost_stream(self) -> None:
        """Notes that what was not heard yet never will be, or has been by now."""
        self.places = {(state, 0) for state, _ in self.reach()}
        self._router = []


class Referee:
    """Follows all streams of one agent and notes what was wrong."""

    def __init__(self) -> None:
        self._moves = transitions()
        self._leases: dict[tuple[str, int], Lease] = {}
        self._stream: dict[object, str] = {}
        self._nonces: set[int] = set()
        self._total = 0
        self._received = 0
        self._slots = 1
        self.faults: list[str] = []

    def judge(self, log: Iterable[tuple[object, AgentFrame | RouterFrame]]) -> list[str]:
        """Returns what was wrong with the frames of a log, in order."""
        for stream, frame in log:
            if isinstance(frame, AgentFrame):
                self._agent(stream, frame)
            else:
                self._router(stream, frame)
        return self.faults

    def _lease(self, ref: Any) -> Lease:
        return self._leases.setdefault((ref.task_id, ref.lease_epoch), Lease(self._moves))

    def _fault(self, condition: bool, text: str) -> None:
        if condition:
            self.faults.append(text)

    # What the router says.

    def _router(self, stream: object, frame: RouterFrame) -> None:
        kind = frame.WhichOneof("frame")
        for words, ref in told(frame):
            self._lease(ref).hears(*words)
        self._received += kind == "assign"
        if kind == "ready":
            self._ready(stream, frame.ready)
        elif kind == "probe":
            self._nonces.add(frame.probe.nonce)
        elif kind == "superseded":
            for lease in self._leases.values():
                lease.hears("to none")
        elif kind == "refusal" and frame.refusal.closing:
            # What was said before the agent has heard of it is on its way.
            speaking = self._stream.get(stream) in SPEAKING
            self._stream[stream] = "CLOSING" if speaking else "CONNECTING"

    def _ready(self, stream: object, ready: Any) -> None:
        self._stream[stream] = "READY"
        # Counts begin anew with each Ready, resumed or not.
        self._total = self._received = 0
        for each in ready.verdicts:
            if each.verdict == LeaseVerdict.VERDICT_CANCEL:
                self._lease(each.lease).hears(*CHOICE)
            elif each.verdict != LeaseVerdict.VERDICT_KEEP:
                self._lease(each.lease).hears("to none")

    # What the agent says.

    def _agent(self, stream: object, frame: AgentFrame) -> None:
        kind = frame.WhichOneof("frame") or ""
        state = self._stream.get(stream, "CONNECTING")
        if kind == "hello":
            self._fault(state not in ("CONNECTING", "CLOSING"), f"hello in {state}")
            self._stream[stream] = "INTRODUCED"
            self._hello(frame.hello)
            return
        if kind == "detached":
            self._stream[stream] = "CONNECTING"
            return
        self._fault(state not in SPEAKING, f"{kind} in {state}")
        if kind in ("drain", "goodbye"):
            self._fault(kind == "drain" and state == "DRAINING", "drain a second time on a stream")
            draining = state if state == "CLOSING" else "DRAINING"
            self._stream[stream] = draining if kind == "drain" else "CLOSED"
        else:
            self._speaks(kind, frame)

    def _speaks(self, kind: str, frame: AgentFrame) -> None:
        if kind == "credit":
            total = frame.credit.total
            self._fault(total < self._total, "credit that fell")
            beyond = total - self._received
            self._fault(beyond > self._slots, "credit for more slots than there are")
            self._total = total
        elif kind == "probe_reply":
            self._fault(frame.probe_reply.nonce not in self._nonces, "a reply to no probe")
        elif kind == "renew":
            for ref in frame.renew.leases:
                self._held(ref, "renew")
        elif kind != "heartbeat":
            self._about(kind, getattr(frame, kind))

    def _hello(self, hello: Any) -> None:
        self._slots = hello.max_concurrency or 1
        for lease in self._leases.values():
            lease.lost_stream()
        named = {(ref.task_id, ref.lease_epoch) for ref in hello.in_flight}
        for ref in hello.in_flight:
            self._held(ref, "hello")
        for key, lease in self._leases.items():
            # An assignment that it may never have had need not be named.
            surely = NONE not in {state for state, _ in lease.places}
            self._fault(surely and key not in named, f"hello without the lease {key}")

    def _held(self, ref: Any, kind: str) -> None:
        states = {state for state, _ in self._lease(ref).reach()}
        self._fault(states == {NONE}, f"{kind} of a lease that is none: {ref.task_id}")

    def _about(self, kind: str, said: Any) -> None:
        lease = self._lease(said.lease)
        places = lease.reach()
        if not lease.says(kind):
            lease.places = places
            states = sorted({state for state, _ in places})
            self.faults.append(f"{kind} of {said.lease.task_id} in {' or '.join(states)}")
        if kind == "progress":
            self._fault(said.report_seq <= lease.report_seq, "report_seq that does not rise")
            lease.report_seq = said.report_seq

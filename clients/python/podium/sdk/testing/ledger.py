"""What a scheduler and a router decide about tasks, small and told the time; for tests of agents.

It follows the rules of the real ones as far as an agent can see them: order by priority, retries
with backoff and never to an agent that failed while another can, timeouts, deadlines, leases,
dependencies, lineages, budgets, questions, limits and rates under keys. The same scenarios run
against the real suite, and must give the same events.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from podium.sdk.errors import NotFound
from podium.sdk.testing import budgets, shares
from podium.sdk.testing.answers import answered
from podium.sdk.testing.entries import Entry, Event, Slot, Stop
from podium.sdk.testing.poison import poison
from podium.sdk.testing.repeats import same
from podium.sdk.testing.times import backoff_s, times
from podium.v1 import session_pb2, task_pb2

LEASE_S = 30.0
LIMITS = ("attempt", "deadline")

BUDGET_EXCEEDED = ("BUDGET_EXCEEDED", "The task has consumed its budget.", False)


class Ledger:
    """All tasks and agents of a suite.

    Args:
        slots: the agents.
        max_retries: of tasks that do not say.
        draw: gives numbers from 0 to 1, for the jitter of retries.
    """

    def __init__(self, slots: Iterable[Slot], max_retries: int, draw: Callable[[], float]) -> None:
        self.entries: dict[str, Entry] = {}
        self.slots = {slot.agent_id: slot for slot in slots}
        # Frames about leases that are over.
        self.fenced = 0
        self.stops: list[Stop] = []
        self._by_request: dict[str, Entry] = {}
        self._max_retries = max_retries
        self._draw = draw
        self._epoch = 0

    # --- What clients do -------------------------------------------------------------------

    def submit(self, spec: task_pb2.TaskSpec, traceparent: str, now_s: float) -> Entry:
        """Takes a task in; the same request_id gives the first one.

        Raises:
            AlreadyExists: IDEMPOTENCY_KEY_REUSED.
            NotFound: DEPENDENCY_NOT_FOUND.
        """
        asked = task_pb2.TaskSpec()
        asked.CopyFrom(spec)
        known = self._by_request.get(spec.request_id) if spec.request_id else None
        if known is not None:
            return same(known, asked)
        for dependency_id in spec.depends_on:
            if dependency_id not in self.entries:
                message = f"the task waits for task {dependency_id}, which is not there"
                raise NotFound("DEPENDENCY_NOT_FOUND", message)
        when = times(spec, now_s)
        spec.traceparent = traceparent
        entry = Entry(f"task-{len(self.entries) + 1}", spec, asked)
        self.entries[entry.task_id] = entry
        if spec.request_id:
            self._by_request[spec.request_id] = entry
        self._note(entry, "created", "CREATED", now_s)
        if when.deadline_s is not None:
            entry.due["deadline"] = when.deadline_s
        entry.due["start"] = when.start_s
        self._unblock(entry, now_s)
        return entry

    def cancel(self, entry: Entry, reason: str, now_s: float) -> bool:
        """Cancels a task and all that descends from it; False when it had ended itself."""
        canceled = self._stop(entry, "CANCELED", reason, now_s)
        parents, why = (
            {entry.task_id},
            f"Task {entry.task_id}, from which it descends, was canceled.",
        )
        # A child is younger than its parent, and so comes after it.
        for other in list(self.entries.values()):
            if other.spec.parent_task_id in parents:
                parents.add(other.task_id)
                self._stop(other, "CANCELED", why, now_s)
        return canceled

    def provide_input(
        self, entry: Entry, answer: task_pb2.Payload, question: int, now_s: float
    ) -> None:
        """Answers a question: of that epoch, or 0 = what is asked now.

        Raises:
            FailedPrecondition: INPUT_NOT_REQUIRED.
            AlreadyExists: QUESTION_ANSWERED, by another answer.
        """
        if answered(entry, answer, question):
            return
        entry.answer = entry.answers[entry.lease_epoch] = answer
        entry.question = None
        self._note(entry, "input_provided", "QUEUED", now_s)

    # --- What a router does ----------------------------------------------------------------

    def match(self, now_s: float) -> tuple[Entry, Slot] | None:
        """Assigns the most urgent task that a free agent can work on, if there is one."""
        queued = [entry for entry in self.entries.values() if entry.state == "QUEUED"]
        # Stable: among equals the older comes first.
        queued.sort(key=lambda entry: -_priority(entry.spec))
        for entry in queued:
            if shares.wait_s(entry, self.entries.values(), now_s):
                continue
            able = [slot for slot in self.slots.values() if slot.can(entry)]
            fresh = [slot for slot in able if slot.agent_id not in entry.excluded]
            free = [slot for slot in fresh or able if slot.load < slot.capacity]
            if free:
                slot = min(free, key=lambda slot: slot.load / slot.capacity)
                self._epoch += 1
                slot.load += 1
                entry.lease_epoch, entry.agent_id = self._epoch, slot.agent_id
                entry.starts_s.append(now_s)
                self._note(entry, "assigned", "ASSIGNED", now_s)
                return entry, slot
        return None

    def hear(self, frame: session_pb2.AgentFrame, now_s: float) -> None:
        """Takes what an agent says about a task; nothing when its lease is over."""
        kind = frame.WhichOneof("frame")
        if kind is None:
            return  # a word for the session alone
        said = getattr(frame, kind)
        entry = self.entries.get(said.lease.task_id)
        if entry is None or entry.lease_epoch != said.lease.lease_epoch or not entry.agent_id:
            self.fenced += 1
        elif kind == "ack":
            self._started(entry, now_s)
        elif kind == "nack":
            self._release(entry)
            entry.starts_s.pop()  # nothing has begun
            reason = session_pb2.Nack.Reason.Name(said.reason).removeprefix("REASON_")
            self._note(entry, "handed_back", "QUEUED", now_s, f"NACK_{reason}")
        elif kind == "progress":
            entry.progress.append(said)
            entry.checkpoint = said.checkpoint or entry.checkpoint
            self._note(entry, "progress", "RUNNING", now_s)
            if budgets.exceeded(entry.spec.budget, entry.usage, said.usage):
                budgets.add(entry.usage, said.usage)
                self._ask_to_stop(entry, "BUDGET_EXCEEDED")
                self._fail(entry, *BUDGET_EXCEEDED, now_s)
        elif kind == "need_input":
            budgets.add(entry.usage, said.usage)
            if budgets.exceeded(entry.spec.budget, entry.usage, task_pb2.Usage()):
                self._fail(entry, *BUDGET_EXCEEDED, now_s)
                return
            entry.question = said.question
            self._note(entry, "input_required", "INPUT_REQUIRED", now_s)
            self._release(entry)
        elif kind == "result":
            self._result(entry, said, now_s)

    def renew(self, now_s: float) -> None:
        """Keeps the leases of all agents alive that can be heard."""
        heard = {s.agent_id for s in self.slots.values() if s.connected and not s.frozen}
        for entry in self.entries.values():
            if entry.agent_id in heard and "lease" in entry.due:
                entry.due["lease"] = now_s + LEASE_S

    def lose(self, agent_id: str, now_s: float) -> None:
        """Ends the session of an agent: what it had is lost."""
        self.slots[agent_id].connected = False
        for entry in list(self.entries.values()):
            if entry.agent_id == agent_id:
                self._fail(entry, "AGENT_LOST", "the agent's connection is lost", True, now_s)

    # --- Time ------------------------------------------------------------------------------

    def limit_due(self) -> float | None:
        """Returns when the first attempt that runs has run out of time, if one can."""
        running = [entry.due for entry in self.entries.values() if entry.agent_id]
        times = [at_s for due in running for what, at_s in due.items() if what in LIMITS]
        return min(times, default=None)

    def next_due(self, now_s: float) -> float | None:
        """Returns when something happens by itself, apart from leases that are renewed."""
        frozen = {slot.agent_id for slot in self.slots.values() if slot.frozen}
        times = [
            at_s
            for entry in self.entries.values()
            for what, at_s in entry.due.items()
            if what != "lease" or entry.agent_id in frozen
        ]
        queued = [entry for entry in self.entries.values() if entry.state == "QUEUED"]
        waits_s = [shares.wait_s(entry, self.entries.values(), now_s) for entry in queued]
        times += [now_s + wait_s for wait_s in waits_s if 0 < wait_s < math.inf]
        return min(times, default=None)

    def tick(self, now_s: float) -> None:
        """Does what is due."""
        for entry in list(self.entries.values()):
            for what, at_s in sorted(entry.due.items(), key=lambda item: item[1]):
                if at_s <= now_s and entry.due.get(what) == at_s:
                    del entry.due[what]
                    self._come_due(entry, what, now_s)

    def _come_due(self, entry: Entry, what: str, now_s: float) -> None:
        if what == "deadline":
            why = "DEADLINE_RUNNING" if entry.state == "RUNNING" else "DEADLINE_QUEUED"
            self._stop(entry, "EXPIRED", "The deadline has passed.", now_s, why)
        elif what in ("start", "retry"):
            self._unblock(entry, now_s)
        elif what == "attempt":
            self._ask_to_stop(entry, "ATTEMPT_TIMEOUT")
            self._fail(entry, "ATTEMPT_TIMEOUT", "the attempt ran too long", True, now_s)
        elif what == "lease":
            self._ask_to_stop(entry, "LEASE_LOST")
            self._fail(entry, "LEASE_EXPIRED", "the lease was not renewed", True, now_s)

    # --- Inside ----------------------------------------------------------------------------

    def _unblock(self, entry: Entry, now_s: float) -> None:
        """Queues a task for which nothing is to be waited."""
        if entry.state == "CREATED":
            parents = [self.entries[task_id] for task_id in entry.spec.depends_on]
            lost = [parent for parent in parents if parent.ended and parent.state != "COMPLETED"]
            if lost:
                skip = entry.spec.dependency_policy == task_pb2.DEPENDENCY_POLICY_SKIP
                entry.failure.reason = "DEPENDENCY_SKIPPED" if skip else "DEPENDENCY_FAILED"
                entry.failure.message = f"{lost[0].task_id} did not complete"
                self._end(entry, "CANCELED" if skip else "FAILED", now_s)
                return
            if entry.due.get("start", 0.0) > now_s or not all(p.ended for p in parents):
                return
            entry.due.pop("start", None)
        self._note(entry, "queued", "QUEUED", now_s)

    def _started(self, entry: Entry, now_s: float) -> None:
        entry.attempt += 1
        entry.due["lease"] = now_s + LEASE_S
        if limit_s := entry.spec.attempt_timeout.ToTimedelta().total_seconds():
            entry.due["attempt"] = now_s + limit_s
        self._note(entry, "started", "RUNNING", now_s)

    def _result(self, entry: Entry, result: session_pb2.Result, now_s: float) -> None:
        if entry.state == "ASSIGNED":
            # It stands for its ack too, when it comes at once.
            self._started(entry, now_s)
        budgets.add(entry.usage, result.usage)
        if result.HasField("success"):
            entry.result.CopyFrom(result.success)
            self._end(entry, "COMPLETED", now_s)
        elif result.HasField("failure"):
            failure = result.failure
            self._fail(entry, failure.reason, failure.message, failure.retryable, now_s)
        else:
            self._fail(entry, "CANCELED", "the agent stopped it unasked", True, now_s)

    def _fail(self, entry: Entry, reason: str, message: str, retryable: bool, now_s: float) -> None:
        entry.failure.CopyFrom(
            task_pb2.Failure(reason=reason, message=message, retryable=retryable)
        )
        entry.failures += 1
        entry.excluded.add(entry.agent_id)
        self._note(entry, "attempt_failed", "RETRY_WAIT", now_s, reason)
        self._release(entry)
        policy = entry.spec.retry_policy
        given = policy.HasField("max_retries")
        last = entry.failures > (policy.max_retries if given else self._max_retries)
        failed = [(e.agent_id, e.reason) for e in entry.events if e.type == "attempt_failed"]
        if retryable and last and (told := poison(failed)):
            entry.failure.CopyFrom(task_pb2.Failure(reason="POISON", message=told))
        if retryable and not last and budgets.spent(entry.spec.budget, entry.usage):
            entry.failure.reason, last = "BUDGET_EXCEEDED", True
            entry.failure.message = f"The budget is spent; last: {message}"
        if last or not retryable:
            self._end(entry, "FAILED", now_s)
            return
        entry.due["retry"] = now_s + backoff_s(policy, entry.failures, self._draw())
        self._note(entry, "retrying", "RETRY_WAIT", now_s)

    def _stop(self, entry: Entry, state: str, message: str, now_s: float, reason: str = "") -> bool:
        if entry.ended:
            return False
        self._ask_to_stop(entry, state)
        entry.failure.reason, entry.failure.message = reason or state, message
        self._end(entry, state, now_s)
        return True

    def _ask_to_stop(self, entry: Entry, reason: str) -> None:
        if entry.agent_id:
            self.stops.append(Stop(entry.agent_id, entry.task_id, entry.lease_epoch, reason))

    def _end(self, entry: Entry, state: str, now_s: float) -> None:
        self._note(entry, state.lower(), state, now_s, entry.failure.reason)
        self._release(entry)
        entry.due.clear()
        for other in list(self.entries.values()):
            if other.state == "CREATED" and entry.task_id in other.spec.depends_on:
                self._unblock(other, now_s)

    def _release(self, entry: Entry) -> None:
        if entry.agent_id:
            self.slots[entry.agent_id].load -= 1
        entry.agent_id = ""
        entry.due.pop("attempt", None)
        entry.due.pop("lease", None)

    def _note(self, entry: Entry, kind: str, state: str, now_s: float, reason: str = "") -> None:
        entry.state = state
        reason = "" if state == "COMPLETED" else reason
        entry.events.append(Event(kind, now_s, entry.attempt, entry.agent_id, reason))


def _priority(spec: task_pb2.TaskSpec) -> int:
    return spec.priority if spec.HasField("priority") else 5

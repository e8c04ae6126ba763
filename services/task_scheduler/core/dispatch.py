"""Routers, their credits, and the leases under which they hold tasks.

A lease lives as long as it is renewed. Renewals, and which router relays them, are known to this
process alone. After a restart a lease has the time that was left of it by what the log tells, and
never less than a holder that lives must have had left when the process ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from services.kernel.instant import Instant
from services.task_scheduler.core.book import Book
from services.task_scheduler.core.event import Failed, Failure
from services.task_scheduler.core.mercy import Mercy
from services.task_scheduler.core.orders import Grant, Orders, Reclaim, Verdict, Verdicts, Welcome
from services.task_scheduler.core.pool import Pool
from services.task_scheduler.core.states import Kind, State
from services.task_scheduler.core.task import Lease, Task

GRANTS_PER_STEP_MAX = 1_024
"""What one call may submit; a step is taken, sealed and sent in one go."""
URGENT_SHARE = 10
"""One in so many grants of a look-ahead is kept for urgent tasks. It is full whenever more waits
than can be done, and an urgent one would wait until an agent has taken a task from it."""
STALL_S = 1.0
"""A tick this late says that this process was held up, not that agents were silent."""
RECLAIM_S = 0.5
"""How often routers with free slots are looked for while others let tasks wait."""
RENEWED_SHARE = 1 / 3
"""Of its time, after which a lease is renewed by a holder that lives: the rest is left to it."""


_ASSIGNMENT = Kind.ASSIGNED  # read once, as in `book`


class AgentClass:
    """What one router accepts for one set of capabilities."""

    __slots__ = (
        "agent_count",
        "capabilities",
        "class_id",
        "free_total",
        "granted",
        "ordinary_total",
        "pool",
        "router_id",
        "total",
    )

    def __init__(self, router_id: str, class_id: int, capabilities: frozenset[str]) -> None:
        self.router_id = router_id
        self.class_id = class_id
        self.capabilities = capabilities
        self.pool: Pool | None = None
        """None while it has neither an agent nor a grant to take."""
        self.total = 0
        self.free_total = 0
        """The part of `total` that is no look-ahead; below `granted` where tasks wait."""
        self.ordinary_total = 0
        """The part of `total` that is for all tasks; the rest is for urgent ones."""
        self.granted = 0
        self.agent_count = 0


class Dispatch:
    """Grants tasks to routers for their credits, and keeps the leases."""

    def __init__(self, book: Book, orders: Orders) -> None:
        self._book = book
        self._orders = orders
        self._routers: dict[str, dict[int, AgentClass]] = {}
        self._hungry: dict[AgentClass, None] = {}
        self._gone: dict[str, float] = {}
        """Routers that are gone, with the time from which their untaken grants go back."""
        self._ticked_s = 0.0
        self._reclaim_due_s = float("-inf")
        self.grants = 0
        self.mercy = Mercy()

    @property
    def router_count(self) -> int:
        """Routers that are connected."""
        return len(self._routers)

    def open(self, router_id: str, held: Sequence[Lease], now: Instant) -> None:
        """Accept a router, anew when it was here before, and rule on the leases it holds."""
        self._forget_classes(router_id)
        self._routers[router_id] = {}
        self._gone.pop(router_id, None)
        verdicts = tuple((lease, self._claim(lease, router_id, now)) for lease in held)
        self._orders.send(router_id, Welcome(verdicts, self._book.limits.lease_ttl_s))
        # What it was granted and does not know of was lost on the way; what an agent works on
        # may still be claimed by that agent.
        self._hand_back_untaken(router_id, {lease.epoch for lease in held}, "GRANT_LOST", now)

    def close(self, router_id: str, now: Instant) -> None:
        """Note that a router is gone; its leases live on for their time."""
        if router_id in self._routers:
            self._forget_classes(router_id)
            del self._routers[router_id]
            self._gone[router_id] = now.mono_s + self._book.limits.router_grace_s

    def credit(
        self,
        router_id: str,
        class_id: int,
        capabilities: Iterable[str],
        total: int,
        agent_count: int,
        look_ahead: int = 0,
    ) -> None:
        """Change what a class accepts: `total` grants, of which `look_ahead` may have to wait."""
        classes = self._routers[router_id]
        known = classes.get(class_id)
        if known is None:
            known = AgentClass(router_id, class_id, frozenset(capabilities))
            classes[class_id] = known
        known.total = total
        known.free_total = total - look_ahead
        known.ordinary_total = total - look_ahead // URGENT_SHARE
        if agent_count or total > known.granted:
            self._join(known).members += agent_count - known.agent_count
            known.agent_count = agent_count
        else:
            # Its number stays, and what was granted to it: the router counts on.
            self._leave(known)
        if total > known.granted:
            self._hungry[known] = None
        else:
            self._hungry.pop(known, None)

    def _join(self, known: AgentClass) -> Pool:
        if known.pool is None:
            known.pool = self._book.queue.pool(known.capabilities)
            known.pool.classes += 1
        return known.pool

    def _leave(self, known: AgentClass) -> None:
        pool = known.pool
        if pool is not None:
            known.pool = None
            pool.members -= known.agent_count
            known.agent_count = 0
            pool.classes -= 1
            if not pool.classes:
                self._book.queue.drop(pool)

    def grant(self, now: Instant) -> int:
        """Grant what waits for the credits there are; return how many tasks."""
        left = GRANTS_PER_STEP_MAX
        queue = self._book.queue
        queue.keys.rates.advance(now.mono_s)
        pop = queue.pop
        hungry = [(k, k.pool) for k in self._hungry if k.pool is not None and k.pool.mask]
        # Free slots of all routers first: in a look-ahead a task may wait for as long as the one
        # before it runs, while another router has an agent for it.
        turn = [each for each in hungry if each[0].free_total > each[0].granted]
        ahead = False
        while left > 0:
            if not turn:
                if ahead:
                    break
                ahead = True
                turn = [each for each in hungry if each[0].total > each[0].granted]
            still = []
            for each in turn:
                known, pool = each
                if known.granted >= known.ordinary_total and not queue.has_urgent(pool):
                    continue
                task = pop(pool, now.mono_s, ahead=ahead)
                if task is None:
                    continue
                self._assign(known, task, now)
                left -= 1
                if known.total <= known.granted:
                    del self._hungry[known]
                elif ahead or known.free_total > known.granted:
                    still.append(each)
            turn = still
        return GRANTS_PER_STEP_MAX - left

    def renewed(self, router_id: str, leases: Iterable[Lease], now: Instant) -> None:
        """Give leases their time again; those that are over are told so."""
        lost = []
        for lease in leases:
            verdict = self._claim(lease, router_id, now)
            if verdict is not Verdict.KEEP:
                lost.append((lease, verdict))
        if lost:
            self._orders.send(router_id, Verdicts("", tuple(lost)))

    def claimed(self, router_id: str, agent_id: str, leases: Iterable[Lease], now: Instant) -> None:
        """Rule on leases that an agent brings from another router."""
        verdicts = tuple(
            (lease, self._claim(lease, router_id, now))
            if self._may_claim(lease, router_id, agent_id)
            else (lease, Verdict.LOST)
            for lease in leases
        )
        self._orders.send(router_id, Verdicts(agent_id, verdicts))

    def speaks_for(self, router_id: str, task: Task) -> bool:
        """Whether a router may say what became of a lease that no agent is known to have.

        The one that it was granted to chose the agent, and tells of it; another can only know once
        that one is gone, from the agent itself.
        """
        return router_id == task.router_id or task.router_id not in self._routers

    def _may_claim(self, lease: Lease, router_id: str, agent_id: str) -> bool:
        task = self._book.leases.get(lease.epoch)
        if task is None or task.state is not State.RUNNING:
            return task is None or self.speaks_for(router_id, task)
        return task.agent_id == agent_id

    def refuse(self, router_id: str, lease: Lease) -> None:
        """Tell a router that a lease it speaks of is over."""
        self._orders.send(router_id, Verdicts("", ((lease, self._verdict(lease)),)))

    def deny(self, router_id: str, lease: Lease) -> None:
        """Tell a router that a lease is not held by the agent it speaks for."""
        self._orders.send(router_id, Verdicts("", ((lease, Verdict.LOST),)))

    def hand_back(self, task: Task, reason: str, agent_id: str, now: Instant) -> None:
        """Return a granted task to the queue; no attempt is consumed."""
        self._book.record(
            Kind.HANDED_BACK,
            task,
            now,
            Failed(Failure(reason, "The lease ended before an agent took the task.", True)),
            lease_epoch=task.lease_epoch,
            agent_id=agent_id,
            router_id=task.router_id,
        )

    def tick(self, now: Instant) -> list[Task]:
        """Return the tasks whose lease has run out, and hand back what gone routers left."""
        stalled_s = now.mono_s - self._ticked_s
        if self._ticked_s and stalled_s > STALL_S:
            # Renewals may lie unread: nobody loses a lease for the time we did not listen.
            for task in self._book.leases.values():
                task.renewed_s += stalled_s
        self._ticked_s = now.mono_s
        for router_id in [r for r, due_s in self._gone.items() if due_s <= now.mono_s]:
            del self._gone[router_id]
            self._hand_back_untaken(router_id, set(), "ROUTER_LOST", now)
        if len(self._routers) > 1 and now.mono_s >= self._reclaim_due_s:
            self._reclaim_due_s = now.mono_s + RECLAIM_S
            self._reclaim()
        return self._run_out(now)

    def restart(self, now: Instant) -> None:
        """Give every lease of the log its remaining time, counted from now.

        The log tells when a lease was granted and when its attempt began, and not when it was
        renewed. So it has at least what is left between two renewals: neither the renewals that
        this process does not know of, nor the time in which nobody could renew, nor a wall clock
        that has jumped cost an attempt. It never has more than its full time.
        """
        book = self._book
        latest_s, ttl_s = now.mono_s, book.limits.lease_ttl_s
        earliest_s = latest_s - ttl_s * RENEWED_SHARE
        for task in book.leases.values():
            known_s = max(task.renewed_s, task.attempt_s)
            task.renewed_s = min(max(known_s, earliest_s), latest_s)
            # A router that never comes back must not keep what no agent has taken.
            self._gone[task.router_id] = latest_s + ttl_s
        # They run out in this order.
        in_order = sorted(book.leases.items(), key=lambda held: held[1].renewed_s)
        book.leases.clear()
        book.leases.update(in_order)

    def _reclaim(self) -> None:
        """Ask routers at which tasks wait for as many as others have free slots for.

        Routers decide what goes back: only they know what no agent has yet, so nothing that runs
        is ever taken away.
        """
        for free in self._hungry:
            spare = free.free_total - free.granted
            for router_id, classes in self._routers.items():
                if router_id == free.router_id:
                    continue
                for known in classes.values():
                    count = min(spare, known.granted - known.free_total)
                    have = free.capabilities
                    if count > 0 and not have.isdisjoint(known.capabilities):
                        spare -= count
                        self._orders.send(router_id, Reclaim(have, count))

    def _assign(self, known: AgentClass, task: Task, now: Instant) -> None:
        book = self._book
        epoch = book.lease_epoch + 1
        book.record(
            _ASSIGNMENT,
            task,
            now,
            None,
            epoch,
            task.attempt + 1,
            "",
            known.router_id,
        )
        known.granted += 1
        self.grants += 1
        sticky_agent_id = book.sticky.agent_of(task) if task.terms.sticky_key else ""
        self._orders.send(known.router_id, Grant(task, epoch, known.class_id, sticky_agent_id))

    def _claim(self, lease: Lease, router_id: str, now: Instant) -> Verdict:
        task = self._book.leases.get(lease.epoch)
        if task is None or task.task_id != lease.task_id:
            return self._verdict(lease)
        task.renewed_s = now.mono_s
        task.router_id = router_id
        self._book.leases.move_to_end(lease.epoch)
        return Verdict.KEEP

    def _verdict(self, lease: Lease) -> Verdict:
        task = self._book.tasks.get(lease.task_id)
        if task is not None and task.holds(lease.epoch):
            return Verdict.KEEP
        if task is not None and task.state is State.CANCELED:
            return Verdict.CANCEL
        return Verdict.LOST

    def _run_out(self, now: Instant) -> list[Task]:
        leases = self._book.leases
        ttl_s = self._book.limits.lease_ttl_s
        over = []
        for task in leases.values():
            if now.mono_s - task.renewed_s <= ttl_s:
                break
            over.append(task)
        if over and (spared := self.mercy.spare(leases, ttl_s, now)):
            return [task for task in over if task.router_id not in spared]
        return over

    def _hand_back_untaken(self, router_id: str, kept: set[int], reason: str, now: Instant) -> None:
        untaken = [
            task
            for epoch, task in self._book.leases.items()
            if task.router_id == router_id and task.state is State.ASSIGNED and epoch not in kept
        ]
        for task in untaken:
            self.hand_back(task, reason, "", now)

    def _forget_classes(self, router_id: str) -> None:
        for known in [known for known in self._hungry if known.router_id == router_id]:
            del self._hungry[known]
        for known in self._routers.get(router_id, {}).values():
            self._leave(known)

"""The leases that the agents of one session hold; decides nothing about time or streams."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence

from podium.v1 import session_pb2

Key = tuple[str, int]
"""Task id and lease epoch."""

RENEW_LEN_MAX = 1_000
"""Leases that a router takes in one Renew; more are refused, all of them."""
IN_FLIGHT_LEN_MAX = 2_000
"""Leases that a router takes in one Hello: the most tasks at once, and as many results."""


class Lease:
    """One lease: a task in work here, or its outcome that the router has not settled yet."""

    __slots__ = (
        "acked",
        "agent_id",
        "asked_s",
        "doubted",
        "final",
        "held_s",
        "key",
        "renewed_s",
        "stopping",
    )

    def __init__(self, agent_id: str, key: Key, now_s: float) -> None:
        self.agent_id = agent_id
        self.key = key
        # When it was assigned or last renewed, on the monotonic clock.
        self.renewed_s = now_s
        # Since when at the latest it was held, by the router's last word; asked without an answer.
        self.held_s = now_s
        self.asked_s: float | None = None
        # The Result or NeedInput that ended the work.
        self.final: session_pb2.AgentFrame | None = None
        # Canceled by the router: it waits for the answer and takes no renewal.
        self.stopping = False
        # Accepted by a word that the router may not have heard.
        self.acked = False
        # Whoever does the work waits for the router's word on it.
        self.doubted = False

    @property
    def ref(self) -> session_pb2.LeaseRef:
        """How frames name it."""
        return session_pb2.LeaseRef(task_id=self.key[0], lease_epoch=self.key[1])

    def ask(self, now_s: float) -> None:
        """Notes that it is renewed."""
        self.renewed_s = now_s
        if self.asked_s is None:
            self.asked_s = now_s

    def hold(self, now_s: float | None = None) -> None:
        """Notes that the router holds it: now, or when it was last asked."""
        asked_s, self.asked_s = self.asked_s, None
        if now_s is not None or asked_s is not None:
            self.held_s = now_s if now_s is not None else asked_s or 0.0


class LeaseTable:
    """All leases of a session, by task and epoch."""

    def __init__(self) -> None:
        self._leases: dict[Key, Lease] = {}

    def __len__(self) -> int:
        return len(self._leases)

    def __contains__(self, key: Key) -> bool:
        return key in self._leases

    def add(self, agent_id: str, key: Key, now_s: float) -> bool:
        """Takes a lease; False when it is held already."""
        if key in self._leases:
            return False
        self._leases[key] = Lease(agent_id, key, now_s)
        return True

    def finish(self, key: Key, final: session_pb2.AgentFrame) -> bool:
        """Keeps the outcome until it is settled; False when the lease is over."""
        lease = self._leases.get(key)
        if lease is None:
            return False
        lease.final = final
        return True

    def working(self, agent_id: str) -> set[Key]:
        """Returns the leases of one agent that are in work."""
        leases = self._leases.items()
        return {key for key, each in leases if each.agent_id == agent_id and each.final is None}

    def stop(self, key: Key) -> None:
        """Notes that the router has canceled the task and renews nothing for it."""
        lease = self._leases.get(key)
        if lease is not None:
            lease.stopping = True

    def hold(self, key: Key, now_s: float | None = None) -> bool:
        """Notes that the router holds a lease: now, or when it was last asked.

        Returns:
            whether the work waits for this.
        """
        lease = self._leases.get(key)
        if lease is None:
            return False
        lease.hold(now_s)
        doubted, lease.doubted = lease.doubted, False
        return doubted

    def forgive(self, agent_id: str) -> None:
        """Waits no longer for answers that another stream was to bring."""
        for lease in self._leases.values():
            if lease.agent_id == agent_id:
                lease.asked_s = None

    def unanswered(self, now_s: float, older_s: float, silent: Container[str] = ()) -> bool:
        """Tells whether a renewal has had no answer for so long; `silent` agents send none."""
        return any(
            lease.asked_s is not None and now_s - lease.asked_s >= older_s
            for lease in self._leases.values()
            if not (lease.stopping or lease.agent_id in silent)
        )

    def forget(self, key: Key) -> Lease | None:
        """Drops a lease that is settled, lost or handed back."""
        return self._leases.pop(key, None)

    def get(self, key: Key) -> Lease | None:
        """Returns a lease, if it is held."""
        return self._leases.get(key)

    def final(self, key: Key) -> session_pb2.AgentFrame | None:
        """Returns the outcome that waits to be settled, if any."""
        lease = self._leases.get(key)
        return lease.final if lease else None

    def of(self, agent_id: str) -> list[session_pb2.LeaseRef]:
        """Returns the leases of one agent."""
        return [lease.ref for lease in self._leases.values() if lease.agent_id == agent_id]

    def named(self, agent_id: str) -> tuple[list[session_pb2.LeaseRef], list[Key]]:
        """Returns the leases of one agent that its Hello names, and those that have no room there.

        What is in work comes first: it would be lost unnamed, and a result can still be sent.
        """
        mine = [(key, each) for key, each in self._leases.items() if each.agent_id == agent_id]
        if len(mine) > IN_FLIGHT_LEN_MAX:
            mine.sort(key=lambda item: item[1].final is not None)
        unnamed = [key for key, _ in mine[IN_FLIGHT_LEN_MAX:]]
        return [lease.ref for _, lease in mine[:IN_FLIGHT_LEN_MAX]], unnamed

    def of_task(self, agent_id: str, task_id: str) -> list[Key]:
        """Returns the leases of one agent on one task."""
        return [
            key
            for key, lease in self._leases.items()
            if key[0] == task_id and lease.agent_id == agent_id
        ]

    def results(self) -> Iterator[tuple[Key, session_pb2.AgentFrame]]:
        """Yields the results that wait to be settled; the table may change meanwhile."""
        for key, lease in list(self._leases.items()):
            if lease.final is not None and lease.final.HasField("result"):
                yield key, lease.final

    def renewals(self, now_s: float, older_s: float) -> list[session_pb2.AgentFrame]:
        """Returns Renews of all leases not renewed for `older_s`, and notes it.

        Each is of one agent, and an agent with very many leases has several.
        """
        due = [
            lease
            for lease in self._leases.values()
            if now_s - lease.renewed_s >= older_s and not lease.stopping
        ]
        return _renews(due, now_s)

    def questions(self, keys: Sequence[Key], now_s: float) -> list[session_pb2.AgentFrame]:
        """Returns Renews of leases that the work waits to hear of."""
        doubted = [lease for key in keys if (lease := self._leases.get(key)) is not None]
        for lease in doubted:
            lease.doubted = True
        return _renews(doubted, now_s)


def _renews(leases: Iterable[Lease], now_s: float) -> list[session_pb2.AgentFrame]:
    by_agent: dict[str, list[session_pb2.LeaseRef]] = {}
    for lease in leases:
        lease.ask(now_s)
        by_agent.setdefault(lease.agent_id, []).append(lease.ref)
    return [
        session_pb2.AgentFrame(
            agent_id=agent_id,
            renew=session_pb2.Renew(leases=refs[start : start + RENEW_LEN_MAX]),
        )
        for agent_id, refs in by_agent.items()
        for start in range(0, len(refs), RENEW_LEN_MAX)
    ]

"""The scheduler's settings."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from services.kernel.config import Common, setting
from services.kernel.parsers import as_choice, as_count, as_integer, as_port, as_seconds, as_size
from services.task_scheduler.core.limits import Rate
from services.task_scheduler.core.ownership import PARTITIONS_MAX
from services.task_scheduler.ports import FAILPOINT_ACTIONS, FAILPOINTS

_FAILPOINT = re.compile(
    rf"({'|'.join(FAILPOINTS)})=({'|'.join(FAILPOINT_ACTIONS)})(:[0-9]+)?(@[0-9]+)?"
)


_NAME = re.compile(r"\*|[A-Za-z0-9][A-Za-z0-9._:-]{0,127}\*?")
_NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?")
NUMBER_MAX = 1e9


class Numbers(tuple[tuple[str, float], ...]):
    """Numbers by name, as they are written in a setting."""

    __slots__ = ()

    def __str__(self) -> str:
        return ",".join(f"{name}={number:g}" for name, number in self) or "none"


NONE = Numbers()


def as_failpoints(text: str) -> str:
    """Return the text when it names failpoints."""
    if not all(_FAILPOINT.fullmatch(part.strip()) for part in text.split(",")):
        raise ValueError(
            f"must be point=action with a point of {', '.join(FAILPOINTS)} and an action of "
            f"{', '.join(FAILPOINT_ACTIONS)}"
        )
    return text


def as_numbers(what: str, low: float) -> Callable[[str], Numbers]:
    """Return a parser of `name=number` pairs, separated by commas."""

    def parse(text: str) -> Numbers:
        numbers: dict[str, float] = {}
        for pair in filter(None, map(str.strip, text.split(","))):
            name, _, number = pair.rpartition("=")
            if not _NAME.fullmatch(name) or not _NUMBER.fullmatch(number):
                raise ValueError(f"must be {what}=number pairs, separated by commas")
            if not low <= float(number) <= NUMBER_MAX:
                raise ValueError(f"must have numbers from {low:g} to {NUMBER_MAX:g}")
            numbers[name] = float(number)
        return Numbers(numbers.items())

    return parse


class Rates(tuple[tuple[str, Rate], ...]):
    """Numbers in a time by name, as they are written in a setting."""

    __slots__ = ()

    def __str__(self) -> str:
        return (
            ",".join(f"{name}={rate.limit}/{rate.period_ms / 1000:g}s" for name, rate in self)
            or "none"
        )


NO_RATES = Rates()
PERIOD_S_MAX = 7 * 86_400.0


def as_rates(text: str) -> Rates:
    """Return what `key=number/time` pairs say, separated by commas."""
    rates: dict[str, Rate] = {}
    for pair in filter(None, map(str.strip, text.split(","))):
        name, _, rate = pair.partition("=")
        number, _, period = rate.partition("/")
        if not _NAME.fullmatch(name) or not number.isdecimal() or not 1 <= int(number) <= 10**6:
            raise ValueError("must be key=number/time pairs with numbers from 1 to 1000000")
        period_s = as_seconds(period)
        if not 0.001 <= period_s <= PERIOD_S_MAX:
            raise ValueError("must have times from 1ms to 7d")
        rates[name] = Rate(int(number), round(period_s * 1000))
    return Rates(rates.items())


@dataclass(frozen=True)
class Settings(Common):
    """What can be set, with defaults that fit one machine."""

    port: int = setting("PODIUM_TASK_SCHEDULER_PORT", 7701, "gRPC port", parse=as_port)
    journal: str = setting(
        "PODIUM_JOURNAL",
        "sqlite",
        "sqlite: a file in the data directory; postgres: a database that replicas share; "
        "memory: nothing survives the process",
        parse=as_choice("sqlite", "postgres", "memory"),
    )
    postgres_url: str = setting(
        "PODIUM_POSTGRES_URL",
        "postgresql://podium@127.0.0.1:5432/podium",
        "the database of PODIUM_JOURNAL=postgres",
    )
    postgres_password_file: str = setting(
        "PODIUM_POSTGRES_PASSWORD_FILE",
        "",
        "file with the password for it, read again for each connection; unset: the URL has it",
    )
    partitions: int = setting(
        "PODIUM_PARTITIONS",
        0,
        "parts a new database is cut into, each owned by one replica at a time; 0: 4, or what "
        "an existing one has; without PODIUM_JOURNAL=postgres there is one",
        parse=as_integer(0, PARTITIONS_MAX),
    )
    owner_lease_s: float = setting(
        "PODIUM_OWNER_LEASE_S",
        6.0,
        "how long a replica that says nothing owns its partitions before others take over",
        parse=as_seconds,
    )
    advertised_address: str = setting(
        "PODIUM_ADVERTISED_AT",
        "",
        "host:port at which other replicas reach this one; unset: where it listens",
    )
    max_retries: int = setting(
        "PODIUM_MAX_RETRIES",
        3,
        "retries after the first attempt, for tasks that do not say",
        parse=as_integer(0, 100),
        production=5,
    )
    lease_ttl_s: float = setting(
        "PODIUM_LEASE_TTL_S", 30.0, "how long a lease lives without renewal", parse=as_seconds
    )
    router_grace_s: float = setting(
        "PODIUM_ROUTER_GRACE_S",
        5.0,
        "how long a lost router's grants that no agent has taken wait for it",
        parse=as_seconds,
    )
    ageing_s: float = setting(
        "PODIUM_AGEING_S",
        60.0,
        "wait after which a task gets its share of grants whatever its priority",
        parse=as_seconds,
    )
    tenant_weights: Numbers = setting(
        "PODIUM_TENANT_WEIGHTS",
        NONE,
        "tenant=weight,...: agent-seconds tenants may use, relative to each other; others have 1",
        parse=as_numbers("tenant", 0.001),
    )
    tenant_open_tasks: Numbers = setting(
        "PODIUM_TENANT_OPEN_TASKS",
        NONE,
        "tenant=number,...: tasks a tenant may have open; * stands for all that are not named",
        parse=as_numbers("tenant", 0),
    )
    tenant_submits_per_s: Numbers = setting(
        "PODIUM_TENANT_SUBMITS_PER_S",
        NONE,
        "tenant=number,...: tasks a tenant may submit each second; * stands for all not named",
        parse=as_numbers("tenant", 0.001),
    )
    concurrency_limits: Numbers = setting(
        "PODIUM_CONCURRENCY_LIMITS",
        NONE,
        "key=number,...: running tasks of a tenant under a concurrency key; key* is a prefix",
        parse=as_numbers("key", 1),
    )
    shared_concurrency_limits: Numbers = setting(
        "PODIUM_SHARED_CONCURRENCY_LIMITS",
        NONE,
        "key=number,...: the same for keys that all tenants share",
        parse=as_numbers("key", 1),
    )
    rate_limits: Rates = setting(
        "PODIUM_RATE_LIMITS",
        NO_RATES,
        "key=number/time,...: tasks of a tenant that may start in a time under a rate key, such as "
        "api=60/1m; key* is a prefix",
        parse=as_rates,
    )
    shared_rate_limits: Rates = setting(
        "PODIUM_SHARED_RATE_LIMITS",
        NO_RATES,
        "key=number/time,...: the same for keys that all tenants share",
        parse=as_rates,
    )
    rate_keys_max: int = setting(
        "PODIUM_RATE_KEYS_MAX",
        20_000,
        "rate keys of open tasks and of those that started within their period; one tenant may "
        "have half of what the others leave",
        parse=as_count,
    )
    lineage_tasks_max: int = setting(
        "PODIUM_LINEAGE_TASKS_MAX",
        4_096,
        "tasks that may descend from one task, all generations together",
        parse=as_count,
    )
    lineage_depth_max: int = setting(
        "PODIUM_LINEAGE_DEPTH_MAX", 64, "generations of tasks below one", parse=as_count
    )
    schedules_max: int = setting(
        "PODIUM_SCHEDULES_MAX", 10_000, "schedules there may be", parse=as_count
    )
    log_watches_max: int = setting(
        "PODIUM_LOG_WATCHES_MAX",
        256,
        "readers that may follow the whole log at once; the last tenth is for other services",
        parse=as_count,
    )
    task_watches_max: int = setting(
        "PODIUM_TASK_WATCHES_MAX",
        10_000,
        "readers that may follow tasks at once; a client needs one for all of its tasks",
        parse=as_count,
    )
    open_tasks_max: int = setting(
        "PODIUM_OPEN_TASKS_MAX",
        2_000_000,
        "tasks that may wait or run at once; the last tenth is for those of priority 6 and more",
        parse=as_count,
    )
    open_bytes_max: int = setting(
        "PODIUM_OPEN_BYTES_MAX", 4 << 30, "bytes that open tasks may hold", parse=as_size
    )
    ended_tasks_max: int = setting(
        "PODIUM_ENDED_TASKS_MAX",
        100_000,
        "ended tasks kept in memory to be asked for, dead letters apart",
        parse=as_count,
    )
    ended_bytes_max: int = setting(
        "PODIUM_ENDED_BYTES_MAX", 256 << 20, "bytes that ended tasks may hold", parse=as_size
    )
    dead_tasks_max: int = setting(
        "PODIUM_DEAD_TASKS_MAX",
        100_000,
        "dead letters kept; over it the oldest are dropped, which is counted and logged",
        parse=as_count,
    )
    dead_bytes_max: int = setting(
        "PODIUM_DEAD_BYTES_MAX",
        256 << 20,
        "bytes that dead letters may hold, with what is told of their attempts",
        parse=as_size,
    )
    request_ids_max: int = setting(
        "PODIUM_REQUEST_IDS_MAX",
        500_000,
        "request ids of callers that are remembered for 24 hours; over it the oldest are forgotten "
        "earlier, which is counted and logged",
        parse=as_count,
    )
    retry_ids_max: int = setting(
        "PODIUM_RETRY_IDS_MAX",
        200_000,
        "request ids that clients make for their own repeats, remembered for 10 minutes at most",
        parse=as_count,
    )
    tail_bytes_max: int = setting(
        "PODIUM_TAIL_BYTES_MAX",
        32 << 20,
        "newest events kept in memory for watches; older ones are read from the journal",
        parse=as_size,
    )
    snapshot_events: int = setting(
        "PODIUM_SNAPSHOT_EVENTS",
        50_000,
        "events after which the state is kept as a snapshot, which recovery starts from",
        parse=as_count,
    )
    log_retention_s: float = setting(
        "PODIUM_LOG_RETENTION",
        7 * 86_400.0,
        "seconds events are kept to be watched and exported; tasks are kept in snapshots",
        parse=as_seconds,
    )
    log_bytes_max: int = setting(
        "PODIUM_LOG_BYTES_MAX",
        8 << 30,
        "size of the log beyond which events go before their time is over",
        parse=as_size,
    )
    log_check_s: float = setting(
        "PODIUM_LOG_CHECK",
        86_400.0,
        "seconds between two checks of the whole log in the background for damage of the disk",
        parse=as_seconds,
    )
    reserve_bytes: int = setting(
        "PODIUM_STORAGE_RESERVE_BYTES",
        64 << 20,
        "disk space set aside so that outcomes can be stored on a full disk",
        parse=as_size,
    )
    failpoints: str = setting(
        "PODIUM_FAILPOINTS",
        "",
        "faults to inject, for tests: point=action[:ms][@passes], separated by commas",
        parse=as_failpoints,
    )

    def advertised(self, port: int) -> str:
        """Return where other replicas reach this one.

        Args:
            port: The port it listens on.
        """
        return self.advertised_address or f"{self.host}:{port}"

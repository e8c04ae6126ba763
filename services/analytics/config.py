"""Settings of Analytics."""

from __future__ import annotations

from dataclasses import dataclass

from services.kernel.config import Common, setting
from services.kernel.parsers import as_count, as_port, as_replicas, as_size


@dataclass(frozen=True)
class Settings(Common):
    """What can be set."""

    port: int = setting("PODIUM_ANALYTICS_PORT", 7705, "gRPC port, also for OTLP", parse=as_port)
    task_scheduler_address: str = setting(
        "PODIUM_TASK_SCHEDULER_ADDRESS",
        "127.0.0.1:7701",
        "host:port of TaskScheduler, whose event log is counted",
        parse=as_replicas,
    )
    spans_len_max: int = setting(
        "PODIUM_SPANS_LEN_MAX", 2_000_000, "spans kept; older ones are dropped", parse=as_count
    )
    spans_bytes_max: int = setting(
        "PODIUM_SPANS_BYTES_MAX",
        268_435_456,
        "bytes of spans kept on disk; older ones are dropped",
        parse=as_size,
    )

"""docs/protocol.md says what session.proto has and what the code does, no more and no less."""

from __future__ import annotations

import re
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor

from podium.sdk import session as sdk_session
from podium.sdk import wire
from podium.sdk.backoff import Backoff
from podium.v1 import session_pb2
from services.agent_registry.config import Settings as RegistrySettings
from services.edge.servicer.agents import router_lost
from services.kernel import limits, options, rules
from services.kernel.config import load
from services.routing.adapters import frames
from services.routing.adapters.desk import settlement_s
from services.routing.config import Settings as RoutingSettings
from services.routing.core import session
from services.routing.core.admission import absent_s_max
from services.routing.core.refusals import CODES
from services.routing.core.work import unsettled_len_max
from services.routing.servicer import checks, listener, rates
from services.task_scheduler.config import Settings as SchedulerSettings
from tests.contracts.referee import PAGE, WORD, table

TEXT = PAGE.read_text("utf-8")
MESSAGES: dict[str, Any] = session_pb2.DESCRIPTOR.message_types_by_name
AGENT: Descriptor = session_pb2.AgentFrame.DESCRIPTOR
ROUTER: Descriptor = session_pb2.RouterFrame.DESCRIPTOR
# Where the page describes each direction: what differs from the messages is their envelope.
FRAMES = [
    pytest.param(AGENT, "legal", id="agent"),
    pytest.param(ROUTER, "what the agent does", id="router"),
]


def arms(frame: Descriptor) -> dict[str, Descriptor]:
    return {field.name: field.message_type for field in frame.oneofs_by_name["frame"].fields}


@pytest.mark.parametrize(("frame", "head"), FRAMES)
def test_every_frame_has_a_row_with_all_of_its_fields(frame: Descriptor, head: str) -> None:
    rows = {WORD.findall(row[0])[0]: set(WORD.findall(row[1])) for row in table(head)}

    assert rows == {
        name: {field.name for field in message.fields} for name, message in arms(frame).items()
    }


def test_every_value_of_an_enumeration_is_told() -> None:
    enums = [enum for message in MESSAGES.values() for enum in message.enum_types]
    values = {value.name for enum in enums for value in enum.values}

    assert len(values) >= 12
    assert values <= set(WORD.findall(TEXT))


def test_every_refusal_is_told_with_its_code() -> None:
    rows = [WORD.findall(row[0] + row[1]) for row in table("reason") if row[1].startswith("`")]

    assert {reason: code for reason, code in rows} == {**CODES, router_lost: "UNAVAILABLE"}


def seconds(name: str, profile: int = 1) -> float:
    """Returns a figure of the table of timings."""
    row = next(row for row in table("development") if name in row[0] or name in row[3])
    return float(row[profile].removesuffix(" s"))


def test_the_timings_are_those_of_the_code() -> None:
    routing, limited = RoutingSettings(), RoutingSettings().limits()
    production = load(RoutingSettings, {"PODIUM_PROFILE": "production"})
    ttl_s = SchedulerSettings().lease_ttl_s
    told = {
        "to connect": wire.connect_s_max,
        "`ready`, then": sdk_session.READY_S_MAX,
        "`heartbeat_interval`": routing.heartbeat_s,
        "OFFLINE": RegistrySettings().grace_s,
        "`lease_ttl`": ttl_s,
        "`renew_interval`": ttl_s / frames.renewals,
        "`ack_timeout`": routing.ack_s,
        "given nothing for": limited.ack_pause_s,
        "lost leases": routing.detach_grace_s,
        "`probe_reply`": routing.probe_s,
        "`grace`": limited.stop_s,
        "is not read": limited.stall_s,
        "for its turn": limited.hello_wait_s,
        "doubles from 0.1 s to": Backoff()._cap_s,
        "while nobody answers": sdk_session.NOBODY_S_MAX,
    }

    assert {name: seconds(name) for name in told} == told
    assert seconds("`heartbeat_interval`", 2) == production.heartbeat_s


BOUNDS = [
    (f"{listener.frames_len_max:,}", "at most 1,000 |"),
    (f"{session.strikes_max} refused frames", "TOO_MANY_STRIKES"),
    (f"{session.Limits().hellos_per_s:,.0f} a second", "PODIUM_HELLOS_PER_S"),
    (f"{session.Limits().hellos_burst:.0f} of them at once", "PODIUM_HELLOS_PER_S"),
    (f"more than {session.Limits().hello_wait_s:g} s", "is sent away"),
    (f"{absent_s_max:g} s for one without", "a third of `lease_ttl`"),
    (f"{rates.frames_per_s_max:g} frames a second", "FRAME_RATE"),
    (f"{session.Limits().agents_max:,} agents on this router", "TOO_MANY_AGENTS"),
    (f"{session.Limits().stream_agents_max:,} on this stream", "TOO_MANY_AGENTS"),
    (f"1 to {checks.concurrency_max:,}", "`max_concurrency`: "),
    (f"at most {checks.in_flight_len_max:,}", "`in_flight` names"),
    (f"at most {listener.frames_len_max:,} leases", "`renew` names"),
    (f"1 to {limits.capabilities_len_max} of", "`capabilities`: "),
    (f"at most {limits.labels_len_max}", "`labels`: "),
    (f"at most {limits.payload_bytes_max // 1024} KiB", "`success` is"),
    (f"at most {checks.failure_len_max // 1024} KiB", "a `message` of"),
    (f"at most {checks.checkpoint_bytes_max // 1024} KiB", "`checkpoint`: "),
    (f"at most {limits.text_len_max:,} characters", "`message`: "),
    (f"{limits.message_bytes_max >> 20} MiB: what gRPC", "`frame_bytes_max` is"),
    (
        f"up to {limits.stream_batch_len_max} or {limits.stream_batch_bytes_max >> 20} MiB",
        "Routers put",
    ),
    (f"pings every {options.keepalive_ms // 1000} s", "**Keepalive.**"),
    (f"every {options.ping_interval_min_ms // 1000} s: the", "**Keepalive.**"),
    (f"up to {options.streams_max:,} streams", "ping every"),
    (f"1 to {limits.id_len_max} characters, `lease_epoch`", "`task_id` has"),
    (f"{unsettled_len_max:,} results wait", "`TOO_MANY_RESULTS`"),
    (f"within {settlement_s:g} s", "`ReportResult` takes"),
    (f"1 to {limits.id_len_max} of a-z", "| `agent_id` |"),
    (f"1 to {rules.key_len_max} of A-Z", "| `instance_id` |"),
    (f"at most {limits.name_len_max} printable", "| `name`, `build_id`"),
    (f"values of at most {limits.label_value_len_max} ", "| `labels` |"),
    (f"left alone for {session.Limits().pause_s:g} s", "`REASON_BUSY`"),
]


@pytest.mark.parametrize(("bound", "at"), BOUNDS, ids=[at for _, at in BOUNDS])
def test_the_bounds_are_those_of_the_code(bound: str, at: str) -> None:
    assert any(bound in line for line in TEXT.splitlines() if at in line), bound


def test_every_word_in_code_is_one_of_the_contract() -> None:
    known = {field.name for message in MESSAGES.values() for field in message.fields}
    named = {word for word in WORD.findall(TEXT) if re.fullmatch(r"[a-z]+(_[a-z]+)+", word)}
    elsewhere = {"agent_id", "cost_per_task", "cost_per_kilotoken", "input_tokens", "output_tokens"}

    assert named - known <= elsewhere

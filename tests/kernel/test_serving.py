"""Real processes: what whoever starts and stops a service sees of it."""

from __future__ import annotations

import re
import signal
import threading
from itertools import pairwise
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.kernel import serving
from tests.kernel.toy import path, text
from tests.support.ports import free_port, free_ports
from tests.support.processes import Process, Processes

MODULE = ("-m", "tests.kernel.toyservice")
QUIET = {"PODIUM_OTLP_ENDPOINT": "off", "PODIUM_METRICS_PORT_OFFSET": "0"}


def start(processes: Processes, *arguments: str, **environ: str) -> Process:
    return processes.python(*MODULE, *arguments, environ={**QUIET, **environ})


def listening(process: Process) -> int:
    return int(process.wait_for(r"podium toy listening on 127\.0\.0\.1:(\d+)")[1])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_takes_apart_and_ends_with_0(
    processes: Processes, number: signal.Signals
) -> None:
    process = start(processes)
    listening(process)
    process.signal(number)

    assert process.wait() == 0
    assert re.search(r"draining\n(.*\n)*taken apart\n(.*\n)*.*podium has stopped", process.output())
    assert "Traceback" not in process.output()


def test_garbage_is_looked_for_before_anybody_is_let_in_and_never_among_modules(
    processes: Processes,
) -> None:
    process = start(processes)
    listening(process)

    assert re.search(r"^bound \d+, \d+,\d+ frozen$", process.output(), re.MULTILINE)


def test_readiness_goes_before_the_drain_and_liveness_stays(processes: Processes) -> None:
    process = start(processes, PODIUM_TOY_FAULT="drain hangs", PODIUM_DRAIN_S="60")
    with grpc.insecure_channel(f"127.0.0.1:{listening(process)}") as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        process.signal(signal.SIGTERM)
        process.wait_for("^draining")
        kinds = health_pb2.HealthCheckResponse
        for name, expected in (("readiness", kinds.NOT_SERVING), ("", kinds.SERVING)):
            answer = health.Check(health_pb2.HealthCheckRequest(service=name))
            assert answer.status == expected


def test_a_second_signal_ends_at_once(processes: Processes) -> None:
    process = start(processes, PODIUM_TOY_FAULT="drain hangs", PODIUM_DRAIN_S="60")
    listening(process)
    process.signal(signal.SIGTERM)
    process.wait_for("^draining")
    process.signal(signal.SIGTERM)

    assert process.wait(5) == 130


@pytest.mark.parametrize(
    ("fault", "told"), [("drain hangs", "was not drained within 0.1 s"), ("drain fails", "failed")]
)
def test_a_drain_that_does_not_work_holds_nobody_up(
    processes: Processes, fault: str, told: str
) -> None:
    process = start(processes, PODIUM_TOY_FAULT=fault, PODIUM_DRAIN_S="0.1")
    listening(process)

    assert process.stop() == 0
    assert told in process.output() and "taken apart" in process.output()


def test_a_loop_that_fails_ends_the_process_with_1(processes: Processes) -> None:
    process = start(processes, PODIUM_TOY_FAULT="loop")

    assert process.wait() == 1
    assert "A loop of podium toy failed." in process.output()
    assert "taken apart" in process.output()


def test_tokens_that_no_key_could_verify_end_with_2_and_what_to_do(
    processes: Processes, tmp_path: Path
) -> None:
    process = start(processes, PODIUM_AUTH="jwt", PODIUM_AUTH_KEYS_DIR=str(tmp_path))

    assert process.wait() == 2
    assert process.output() == (
        f"PODIUM_AUTH is jwt and {tmp_path} holds no public key: put <kid>.pem there, "
        "set PODIUM_AUTH_KEYS_DIR, or set PODIUM_AUTH=off\n"
    )


def test_bad_settings_are_all_named_and_end_with_2(processes: Processes) -> None:
    process = start(
        processes, PODIUM_TOY_PORT="99999", PODIUM_PROFILE="staging", PODIUM_DRAIN_S="never"
    )

    assert process.wait() == 2
    lines = process.output().splitlines()
    assert sorted(line.split("=")[0] for line in lines) == [
        "PODIUM_DRAIN_S",
        "PODIUM_PROFILE",
        "PODIUM_TOY_PORT",
    ]


def test_a_misspelled_setting_is_pointed_out(processes: Processes) -> None:
    process = start(processes, PODIUM_TOY_FUALT="loop")
    listening(process)

    assert "did you mean PODIUM_TOY_FAULT?" in process.output()
    assert process.stop() == 0


def test_a_taken_port_is_one_sentence_and_ends_with_1(processes: Processes) -> None:
    port = str(free_port())
    first = start(processes, PODIUM_TOY_PORT=port)
    listening(first)
    second = start(processes, PODIUM_TOY_PORT=port)

    assert second.wait() == 1
    [line] = second.output().splitlines()
    assert line.endswith(
        f"cannot listen on 127.0.0.1:{port}: address already in use;"
        " set PODIUM_TOY_PORT to another port"
    )
    assert first.stop() == 0


def test_a_taken_metrics_port_is_one_sentence_too(processes: Processes) -> None:
    # Of many ports two lie near enough for an offset.
    ports = sorted(free_ports(20))
    port, taken = min(pairwise(ports), key=lambda pair: pair[1] - pair[0])
    first = start(processes, PODIUM_TOY_PORT=str(taken))
    listening(first)
    offset = str(taken - port)
    second = start(processes, PODIUM_TOY_PORT=str(port), PODIUM_METRICS_PORT_OFFSET=offset)

    assert second.wait() == 1
    assert "set PODIUM_METRICS_PORT_OFFSET to another value, or to 0" in second.output()
    assert "Traceback" not in second.output()


def test_what_prevents_a_start_is_one_sentence(processes: Processes) -> None:
    process = start(processes, PODIUM_TOY_FAULT="journal")

    assert process.wait() == 1
    [line] = process.output().splitlines()
    assert line.endswith("podium toy cannot start: the journal is of a newer version: upgrade")


def test_help_lists_the_settings(processes: Processes) -> None:
    process = start(processes, "--help")

    assert process.wait() == 0
    for name in ("python -m services.toy", "PODIUM_TOY_PORT", "PODIUM_PROFILE", "PODIUM_DATA_DIR"):
        assert name in process.output()


def test_logs_are_json_in_production(processes: Processes) -> None:
    process = start(processes, PODIUM_PROFILE="production", PODIUM_AUTH="off")
    process.wait_for(r'^\{"time".*"service": "toy".*podium toy listening on')

    assert process.stop() == 0


def test_together_services_meet_in_memory_and_serve_their_ports(processes: Processes) -> None:
    process = start(processes, "together")
    front = process.wait_for(r"podium front listening on (\S+)")[1]
    toy = f"127.0.0.1:{listening(process)}"
    with grpc.insecure_channel(front) as channel:
        assert channel.unary_unary("/podium.test.Front/Ask")(b"") == b"through the front"
    with grpc.insecure_channel(toy) as channel:
        raw = text("x").SerializeToString()
        assert channel.unary_unary(path("Unary"))(raw) == raw

    assert process.stop() == 0


def test_the_process_ends_in_time_whatever_hangs() -> None:
    ended = threading.Event()
    serving._end_within(0.01, lambda code: ended.set())

    assert ended.wait(5)
    assert serving.exit_s_max < 25

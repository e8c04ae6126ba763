from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

from tests.support.ports import BLOCK, END, METRICS_OFFSET, free_port, free_ports, ports_of

FROM_ELSEWHERE = "from tests.support.ports import free_ports; print(free_ports(9))"


def test_no_port_comes_twice_as_long_as_there_are_others() -> None:
    ports = free_ports(200)

    assert len(set(ports)) == 200
    assert max(ports) + METRICS_OFFSET < END


def test_a_port_that_something_has_is_left_out() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", free_port() + 1))

        assert held.getsockname()[1] not in free_ports(BLOCK)


def test_a_process_beside_this_one_is_given_others() -> None:
    root = Path(__file__).resolve().parents[2]
    own = free_port()

    told = subprocess.run(
        [sys.executable, "-c", FROM_ELSEWHERE], cwd=root, capture_output=True, check=True, text=True
    )

    assert all(abs(port - own) > METRICS_OFFSET for port in json.loads(told.stdout))


def test_each_service_has_a_port_of_its_own() -> None:
    ports = ports_of(["edge", "routing"])

    assert list(ports) == ["edge", "routing"]
    assert ports["edge"] != ports["routing"]

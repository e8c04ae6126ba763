"""A balancer that knows nothing of WebSocket: each new connection goes to the next backend."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading


class Balancer:
    """Passes connections on until `close`."""

    def __init__(self, *ports: int) -> None:
        self._ports = itertools.cycle(ports)
        self._count = len(ports)
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.passed: list[int] = []
        """The backend of each connection so far."""
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        found: int = self._listener.getsockname()[1]
        return found

    def close(self) -> None:
        for each in (self._listener, *self._sockets):
            _end(each)

    def _accept(self) -> None:
        while True:
            try:
                front, _ = self._listener.accept()
            except OSError:
                return
            back = self._dial()
            if back is None:
                front.close()
                continue
            self._sockets += [front, back]
            for source, sink in ((front, back), (back, front)):
                threading.Thread(target=_pump, args=(source, sink), daemon=True).start()

    def _dial(self) -> socket.socket | None:
        for _ in range(self._count):
            port = next(self._ports)
            with contextlib.suppress(OSError):
                found = socket.create_connection(("127.0.0.1", port), timeout=2)
                found.settimeout(None)
                self.passed.append(port)
                return found
        return None


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            sink.sendall(data)
    _end(source)
    _end(sink)


def _end(each: socket.socket) -> None:
    with contextlib.suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
    each.close()

"""The services of Podium: each a process of its own, meeting the others only on the wire."""

from __future__ import annotations

import os

# Here, since gRPC reads it while it is imported: its informative lines would stand between the
# JSON lines of the log, one for each peer that stops.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

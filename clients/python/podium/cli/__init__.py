"""The command line `podium`: for people by default, for programs with --json."""

from __future__ import annotations

import os

# uvloop forks to start a program, and gRPC then tells of each fork that its handlers were skipped.
# Here every child becomes another program at once, so it needs no handlers. gRPC reads this when
# it is imported: no module of this program can come earlier than this.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

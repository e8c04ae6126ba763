"""The goals, with numbers: `make bench` prints them. Nothing here is asserted."""

from __future__ import annotations

import os

# As in the command line's package: its children become other programs at once.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

"""The scheduler's decisions: pure, synchronous, told the time, replayable from the log."""

from __future__ import annotations

"""The only places that wait: recovery, the commit loop, the tick, snapshots."""

from __future__ import annotations

"""Decisions of the bridge: who may connect, who must go, what waits for a slow reader."""

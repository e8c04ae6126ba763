"""Simulated agents over the real wire, and load for them: what a fleet does, without its work."""

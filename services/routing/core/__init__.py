"""Decisions of Routing: pure, told the time, returning effects."""

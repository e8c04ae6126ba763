"""Decisions of Analytics: which window an event belongs to, which spans make a trace. Pure."""

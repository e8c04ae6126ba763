"""Decisions of AgentRegistry: pure, told the time."""

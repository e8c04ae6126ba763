"""Tests of AgentRegistry."""

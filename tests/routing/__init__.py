"""Tests of Routing."""

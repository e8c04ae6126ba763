"""Tests, in the order of what they mirror; see CONTRIBUTING.md."""

"""Journals, the codec of the wire contract, and failpoints."""

from __future__ import annotations

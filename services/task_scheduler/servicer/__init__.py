"""Messages to and from the core; decides nothing."""

from __future__ import annotations

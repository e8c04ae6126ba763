"""TaskScheduler: the only authority on tasks and leases, from submit to their end.

Every input becomes events of one append-only log; nothing leaves (no reply, no grant, no watch
event) before the events it rests on are durable. State is what replaying the log gives. It does not
choose agents, does not talk to them, and never opens a payload.
"""

from __future__ import annotations

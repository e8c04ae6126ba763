"""Podium for Python programs: `client.Client` submits tasks, `agent.Agent` works on them.

Everything is asyncio. gRPC itself runs on one event loop of the process (see `wire`), so heartbeats
and lease renewals go on while a handler blocks its own loop.
"""

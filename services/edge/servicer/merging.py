"""How an update of a watch takes in the next one while its reader is not ready."""

from __future__ import annotations

from podium.v1.bridge_pb2 import BridgeResponse
from services.edge.ports import Codec
from services.edge.servicer.overview import merge_overviews

events_len_max = 2_000
"""Events that wait for one watch; older ones are left out, counted, beyond it."""


class Update:
    """What a watch tells, to one reader or to many: encoded once for all of them.

    Args:
        response: the answer without its ref; nobody changes it from now on.
    """

    __slots__ = ("_bodies", "_merged", "response")

    def __init__(self, response: BridgeResponse) -> None:
        self.response = response
        self._merged = False
        self._bodies: dict[str, bytes] = {}

    def frame(self, ref: str, codec: Codec) -> bytes:
        """Return the frame for the reader who knows the watch as `ref`."""
        body = self._bodies.get(codec.subprotocol)
        if body is None:
            body = self._bodies[codec.subprotocol] = codec.encode(self.response)
        return codec.address(ref, body)

    def taking_in(self, newer: Update) -> Update:
        """Return one update that says what both say; other readers of this one see no change."""
        merged = self
        if not self._merged:
            copy = BridgeResponse()
            copy.CopyFrom(self.response)
            merged = Update(copy)
            merged._merged = True
        merged._bodies.clear()
        if merge(merged.response, newer.response) is not merged.response:
            return newer
        return merged


def merge(waiting: BridgeResponse, newer: BridgeResponse) -> BridgeResponse:
    """Return one update that says what both say."""
    arm = waiting.WhichOneof("response")
    if arm != newer.WhichOneof("response"):
        return newer
    if arm == "events":
        _merge_events(waiting, newer)
    elif arm == "overview":
        merge_overviews(waiting.overview, newer.overview)
    elif arm == "agents":
        _merge_agents(waiting, newer)
    else:
        _merge_windows(waiting, newer)
    return waiting


def _merge_events(waiting: BridgeResponse, newer: BridgeResponse) -> None:
    into, more = waiting.events, newer.events
    into.events.extend(more.events)
    into.names.extend(more.names)
    into.cursor = more.cursor
    beyond = len(into.events) - events_len_max
    if beyond > 0:
        del into.events[:beyond]
        del into.names[:beyond]
        into.skipped_count += beyond


def _merge_agents(waiting: BridgeResponse, newer: BridgeResponse) -> None:
    into, more = waiting.agents, newer.agents
    agents = {agent.agent_id: agent for agent in into.agents}
    removed = dict.fromkeys(into.removed_agent_ids)
    for agent_id in more.removed_agent_ids:
        agents.pop(agent_id, None)
        removed[agent_id] = None
    for agent in more.agents:
        agents[agent.agent_id] = agent
        removed.pop(agent.agent_id, None)
    kept = list(agents.values())
    caught_up = into.caught_up or more.caught_up
    merged = BridgeResponse(ref=waiting.ref)
    merged.agents.agents.extend(kept)
    merged.agents.removed_agent_ids.extend(removed)
    merged.agents.caught_up = caught_up
    waiting.CopyFrom(merged)


def _merge_windows(waiting: BridgeResponse, newer: BridgeResponse) -> None:
    into, more = waiting.windows, newer.windows
    windows = {window.start_time.seconds: window for window in into.windows}
    windows.update((window.start_time.seconds, window) for window in more.windows)
    merged = BridgeResponse(ref=waiting.ref)
    merged.windows.windows.extend(windows[start] for start in sorted(windows))
    waiting.CopyFrom(merged)

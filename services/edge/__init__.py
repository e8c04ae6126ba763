"""Edge: where browsers and scripts meet the suite, over one WebSocket, and the dashboard.

It holds nothing that must survive: a connection that is lost is opened again, watches resume from
their cursors, agents from their leases. All agents of a bridge share a stream to each Routing; a
second instance of an agent that is there says its Hello on another, so that Routing alone decides
which of them stays. It is not a second API: every message is one of `podium.v1`, spelled as JSON.
"""

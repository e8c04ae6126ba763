"""AgentRegistry: who is there, what they can do, how healthy they are.

Invariants:
    - Its state is soft: the sessions of the routers rebuild it, and losing it loses no task.
    - An agent is offline only when nobody has heard of it for the whole grace, never because the
      registry or a router was away.
    - A failure counts against an agent only while it looks like the agent's fault.

It assigns nothing, and nothing waits for it.
"""

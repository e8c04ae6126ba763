"""Routing: holds the agents' sessions, chooses the agent for each task and passes outcomes on.

Invariants:
    - A task is offered to one agent at a time, under the lease the scheduler granted.
    - Every frame about a task carries its lease epoch; one that does not hold changes nothing.
    - What an agent reports is repeated to the scheduler until the scheduler has settled it.
    - Nothing on the way of a task waits for the registry or for the model. An agent that comes gets
      work once the registry has said what holds for it, or a bounded moment later.

It is not the authority on tasks: what it knows can be lost at any time, and is asked for again.
"""

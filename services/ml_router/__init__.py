"""MLRouter: learns from the event log how well and how fast each agent does each type of task.

It owns the learned model and nothing else. What it knows can be recomputed from the event log; its
snapshots on disk only save the time to do so. No task ever waits for it: routers hold the last
model it pushed, and decide by the formula when there is none.
"""

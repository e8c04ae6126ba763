"""The main job: real agents review every file of a folder, and the report says what came of it.

`python -m examples.review` starts the whole suite, a small fleet of agents in processes of their
own, submits one task per file, and ends with a report. The checks in `checks/` are pure functions
over bytes; everything about tasks, retries and routing is Podium's.
"""

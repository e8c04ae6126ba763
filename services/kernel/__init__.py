"""What every service stands on: clock, settings, errors, transport, telemetry, limits.

No word of the business is spoken here: the kernel knows no task and no agent, and imports no
service. Each module is used by two services or more.
"""

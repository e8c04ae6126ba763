"""Analytics: what happened per window of time, and what became of each task as a trace.

Windows are counted from the event log and can be counted again from it at any time; nothing of
them is kept on disk. Spans come from any OTLP exporter and are kept for a while: they are for
looking at, never for deciding.
"""

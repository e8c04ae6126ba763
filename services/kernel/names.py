"""Every span, attribute and metric name of Podium. Dashboards and tests use these constants."""

from __future__ import annotations

span_submit = "submit"
span_queue = "queue"
span_route = "route"
span_assign = "assign"
span_execute = "execute"
span_complete = "complete"

attribute_task_id = "task.id"
attribute_task_type = "task.type"
attribute_agent_id = "agent.id"
attribute_attempt = "task.attempt"
attribute_lease_epoch = "task.lease_epoch"
attribute_outcome = "task.outcome"

metric_assignment_latency = "podium_task_assignment_latency_seconds"
metric_end_to_end_latency = "podium_task_end_to_end_latency_seconds"
metric_agent_utilization = "podium_agent_utilization_ratio"
metric_tasks = "podium_tasks_total"
metric_task_errors = "podium_task_errors_total"
metric_queue_tasks = "podium_queue_tasks"
metric_queue_age = "podium_queue_age_seconds"
metric_grants = "podium_grants_total"
metric_leases = "podium_leases"
metric_fenced = "podium_fenced_results_total"
metric_mass_expiries = "podium_mass_expiries_total"
metric_mass_silences = "podium_mass_silences_total"
metric_dead_dropped = "podium_dead_letters_dropped_total"
metric_dead_bytes = "podium_dead_letter_bytes"
metric_request_ids_dropped = "podium_request_ids_dropped_total"
metric_request_ids_kept = "podium_request_ids_kept_seconds"
metric_commit_latency = "podium_journal_commit_seconds"
metric_commit_events = "podium_journal_commit_events"
metric_log_damaged = "podium_journal_damaged"
metric_sessions = "podium_sessions"
metric_hellos_waiting = "podium_hellos_waiting"
metric_hellos_pushed_back = "podium_hellos_pushed_back_total"
metric_agents = "podium_agents"
metric_breakers = "podium_breakers"
metric_decisions = "podium_decisions_total"
metric_connections = "podium_edge_connections"
metric_frames = "podium_edge_frames_total"
metric_windows = "podium_windows_total"
metric_events_late = "podium_events_late_total"
metric_outcomes_learned = "podium_outcomes_learned_total"
metric_model_version = "podium_model_version"
metric_spans_kept = "podium_spans_kept"
metric_spans_refused = "podium_spans_refused_total"
metric_spans_dropped = "podium_spans_dropped_total"
metric_spans_exported = "podium_spans_exported_total"

latency_buckets_s = (
    0.0005,
    0.001,
    0.002,
    0.005,
    0.01,
    0.02,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    10.0,
)
"""From half a millisecond, which a quiet assignment takes, to what is plainly wrong."""

"""What Analytics is connected to: the event log, and stores of spans."""

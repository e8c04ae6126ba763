"""What tests of several parts need: processes, ports, waiting with a deadline."""

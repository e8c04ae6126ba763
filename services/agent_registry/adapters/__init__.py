"""Where agents are kept."""

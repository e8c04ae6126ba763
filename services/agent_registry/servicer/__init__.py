"""The service on the wire: messages to inputs of the core and back; it decides nothing."""

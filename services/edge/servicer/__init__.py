"""The bridge as connections see it: handshake, messages in, messages out."""

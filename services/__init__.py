"""The services of Podium: each a process of its own, meeting the others only on the wire."""

"""What MLRouter is connected to: the event log, the disk, its memory of decisions."""

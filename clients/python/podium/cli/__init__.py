"""The command line `podium`: for people by default, for programs with --json."""

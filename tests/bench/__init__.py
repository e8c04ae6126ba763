"""The goals, with numbers: `make bench` prints them. Nothing here is asserted."""

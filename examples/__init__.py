"""Programs that show Podium at work, each runnable as it is."""

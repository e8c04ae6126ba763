"""What the agents do: pure functions from the bytes of files to what is wrong with them."""

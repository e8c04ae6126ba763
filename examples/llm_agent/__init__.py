"""An agent that answers by a language model, at whichever endpoint the environment names."""

"""An agent made of nothing but the generated stubs."""

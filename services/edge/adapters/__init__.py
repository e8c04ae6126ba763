"""How the bridge spells its messages and reaches its peers."""

"""How a preference enters a network."""

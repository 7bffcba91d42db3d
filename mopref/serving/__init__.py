"""Serving: a trained model behind an address, each request under a preference of its own."""

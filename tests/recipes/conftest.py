"""A tiny model, records, and one trained run."""

from _run_fixtures import load, tiny, trained, tree, write_recipe

__all__ = ["load", "tiny", "trained", "tree", "write_recipe"]

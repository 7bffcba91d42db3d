"""A tiny model and a trained run, which tests only read."""

from _run_fixtures import tiny, trained

__all__ = ["tiny", "trained"]

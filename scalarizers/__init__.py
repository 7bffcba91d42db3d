"""Scalarizers, one method a file. A new one is one file here plus its line in ``SCALARIZERS``."""

from typing import Any

from mopref.scalarizer import Scalarizer

from .linear import Linear
from .pbi import PBI
from .smooth_tchebycheff import SmoothTchebycheff
from .tchebycheff import AugmentedTchebycheff, ModifiedTchebycheff, Tchebycheff

__all__ = [
    "PBI",
    "SCALARIZERS",
    "AugmentedTchebycheff",
    "Linear",
    "ModifiedTchebycheff",
    "SmoothTchebycheff",
    "Tchebycheff",
    "scalarizer_by_name",
]

SCALARIZERS: dict[str, type[Scalarizer]] = {
    "linear": Linear,
    "tchebycheff": Tchebycheff,
    "modified-tchebycheff": ModifiedTchebycheff,
    "augmented-tchebycheff": AugmentedTchebycheff,
    "smooth-tchebycheff": SmoothTchebycheff,
    "pbi": PBI,
}


def scalarizer_by_name(name: str, **options: Any) -> Scalarizer:
    """Make a scalarizer by its name in ``SCALARIZERS``, with the options of its class.

    Raises:
        ValueError: an unknown name; the known ones are listed.
    """
    if name not in SCALARIZERS:
        raise ValueError(f"unknown scalarizer {name!r}: choose one of {', '.join(SCALARIZERS)}.")
    return SCALARIZERS[name](**options)

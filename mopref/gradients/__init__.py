"""Gradient weightings: weights of the m losses from their gradients. One method a file, and its line here."""

from mopref._faces import public_names as _public_names

from .epo import EPO as EPO
from .gramian import gramians as gramians
from .mgda import MGDA as MGDA
from .torchjd import TorchJD as TorchJD
from .weighting import GRADIENT_WEIGHTINGS as GRADIENT_WEIGHTINGS, GradientWeighting as GradientWeighting

__all__ = _public_names(globals())

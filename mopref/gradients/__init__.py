"""Gradient weightings: weights of the m losses from their gradients. One method a file, and its line here."""

from mopref._faces import public_names as _public_names

from .cagrad import CAGrad as CAGrad
from .epo import EPO as EPO
from .gramian import cosines as cosines, gramians as gramians
from .mgda import MGDA as MGDA
from .torchjd import TorchJD as TorchJD
from .weighted_mgda import WeightedMGDA as WeightedMGDA
from .weighting import GRADIENT_WEIGHTINGS as GRADIENT_WEIGHTINGS, GradientWeighting as GradientWeighting

__all__ = _public_names(globals())

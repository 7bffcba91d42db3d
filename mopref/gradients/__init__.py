"""Gradient combination: weights of the m losses from their gradients, where one number of the losses is not enough."""

from .epo import EPO
from .gramian import gramians
from .mgda import MGDA
from .torchjd import TorchJD
from .weighting import GradientWeighting

__all__ = ["EPO", "MGDA", "GradientWeighting", "TorchJD", "gramians"]

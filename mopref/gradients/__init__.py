"""Gradient weightings: weights of the m losses from their gradients. One method a file, and its line here."""

from .epo import EPO as EPO
from .gramian import gramians as gramians
from .mgda import MGDA as MGDA
from .torchjd import TorchJD as TorchJD
from .weighting import GRADIENT_WEIGHTINGS as GRADIENT_WEIGHTINGS, GradientWeighting as GradientWeighting

"""Preference samplers: which preferences are drawn in training. One family a file, and its line here."""

from mopref._faces import public_names as _public_names
from mopref.sampler import PreferenceSampler as PreferenceSampler

from .adaptive import AdaptiveSampler as AdaptiveSampler
from .cone import ConeSampler as ConeSampler, cone_preferences as cone_preferences
from .curriculum import CurriculumSampler as CurriculumSampler
from .dirichlet import DirichletSampler as DirichletSampler, UniformSampler as UniformSampler
from .lattice import LatticeSampler as LatticeSampler
from .low_discrepancy import LowDiscrepancySampler as LowDiscrepancySampler
from .stratified import StratifiedSampler as StratifiedSampler
from .vertex_biased import VertexBiasedSampler as VertexBiasedSampler

__all__ = _public_names(globals())

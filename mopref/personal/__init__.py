"""Which preference is whose: λ from a few choices, or from targets on a front."""

from mopref._faces import public_names as _public_names

from .fitting import FittedPreference as FittedPreference, fit_choices as fit_choices
from .implicit import fit_preference as fit_preference, pair_margins as pair_margins
from .margins import PairMargins as PairMargins, margin_nodes as margin_nodes
from .questions import Question as Question, next_question as next_question
from .region import CredibleRegion as CredibleRegion
from .targets import TargetedPreference as TargetedPreference, from_targets as from_targets

__all__ = _public_names(globals())

"""What the objectives on preference pairs share: rows, batches, and the losses of a margin; pairs of a model's own."""

from mopref._faces import public_names as _public_names

from .margin_gramian import margin_gramians as margin_gramians
from .margin_losses import LOSSES as LOSSES, MarginLoss as MarginLoss
from .on_policy import on_policy_pairs as on_policy_pairs
from .pair_objective import PairBatch as PairBatch, PairObjective as PairObjective, log_ratios as log_ratios

__all__ = _public_names(globals())

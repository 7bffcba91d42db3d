"""A person's λ from their choices between pairs whose margins are known."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from torch import Tensor

from mopref.argument_kinds import checks_arguments
from mopref.personal.margins import PairMargins
from mopref.personal.posterior import DECISIVENESS, posterior
from mopref.personal.region import CredibleRegion

__all__ = ["FittedPreference", "fit_choices"]


class FittedPreference(NamedTuple):
    """What choices say of a person's λ.

    Attributes:
        preference: the posterior mean E λ, ``(m,)`` float64; it lies on the simplex.
        region: where λ lies.
    """

    preference: Tensor
    region: CredibleRegion


@checks_arguments(but=("choices", "alpha", "decisiveness", "level"))
def fit_choices(
    margins: PairMargins,
    choices: Mapping[int, int],
    *,
    alpha: float = 1.0,
    decisiveness: Sequence[float] = DECISIVENESS,
    level: float = 0.9,
) -> FittedPreference:
    """A person's λ from choices between pairs, see :func:`mopref.personal.posterior.posterior` for the formula.

    λ is the posterior mean, not the most probable point: the mean has the least expected squared error, and a few
    choices often leave the most probable point in a corner of the simplex.

    Args:
        margins: d of the pairs.
        choices: 0 or 1, the response that the person chose, by the number of its pair.
        alpha: α > 0 of the Dirichlet prior.
        decisiveness: the values that β_u, how decided the person is, may have; each is equally likely before.
        level: the region's probability.

    Raises:
        ValueError: a pair or a choice that is none, or a number out of its range.
        TypeError: something else than margins, a mapping or numbers.

    Example:
        >>> margins = PairMargins([[1.0, -1.0], [1.0, -2.0], [2.0, -1.0]], ("helpful", "harmless"))
        >>> preference, region = fit_choices(margins, {0: 0, 1: 0, 2: 0})
        >>> preference[0] > 0.7, region.contains({"helpful": 0.9, "harmless": 0.1})
        (tensor(True), True)
    """
    found = posterior(margins, choices, alpha=alpha, decisiveness=decisiveness)
    return FittedPreference(found.mean(), CredibleRegion(found, margins.names, level))

"""What a person's choices say of their λ, and of how decided they are: a posterior on points of the simplex."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from mopref._repr import short_repr
from mopref._warning import warn
from mopref.option_checks import checked_positive
from mopref.personal.margins import LARGEST, PairMargins
from mopref.preferences import simplex_lattice
from mopref.samplers import LowDiscrepancySampler
from mopref.setting_types import python_value, python_values

__all__ = ["DECISIVENESS", "Posterior", "checked_choices", "checked_prior", "posterior"]

# β_u, equally likely each: from a person who hardly minds to one who hardly ever errs, in the unit of margins.
DECISIVENESS: tuple[float, ...] = tuple(2.0**power for power in range(-3, 7))
# Points of the simplex by the number of objectives; with more, points of a low-discrepancy sequence.
_LATTICE_POINTS = {2: 101, 3: 496}
_SEQUENCE_POINTS = 8192
# Fewer points than this that matter say little of a mean or a region.
_FEWEST_EFFECTIVE_POINTS = 50.0


class Posterior(NamedTuple):
    """A distribution over N points of the simplex and B values of β_u.

    Attributes:
        points: λ, ``(N, m)``, evenly spread.
        probabilities: of each point and value, ``(N, B)``; they add up to 1.
        decisiveness: β_u, ``(B,)``.
    """

    points: Tensor
    probabilities: Tensor
    decisiveness: Tensor

    def of_points(self) -> Tensor:
        """The probability of each point, whatever β_u is: ``(N,)``."""
        return self.probabilities.sum(dim=1)

    def mean(self) -> Tensor:
        """E λ, ``(m,)``."""
        return self.of_points() @ self.points


def posterior(
    margins: PairMargins,
    choices: Mapping[int, int],
    *,
    alpha: float = 1.0,
    decisiveness: Sequence[float] = DECISIVENESS,
) -> Posterior:
    """p(λ, β_u | choices) ∝ Π_n σ(β_u · c_n · d_λ(n)) · Π_i λ_i^{α−1}, c_n = 1 for response 0 and −1 for response 1.

    Bradley and Terry's model (1952) of each choice, a Dirichlet prior on λ, and equally likely β_u. With two and three
    objectives the points are a lattice, and the posterior is exact but for its spacing (.01, .03); with more they are
    8192 points of a Sobol sequence, uniform on the simplex: importance sampling.

    Args:
        margins: d of the pairs.
        choices: 0 or 1, the response that the person chose, by the number of its pair.
        alpha: α > 0; 1 for the uniform prior, above 1 for balanced preferences, below 1 for pure ones.
        decisiveness: the values of β_u.

    Raises:
        ValueError: a pair or a choice that is none, or an α or a β_u that is not positive or beyond 1e100.
        TypeError: something else than numbers.

    Warns:
        UserWarning: with four objectives or more, where hardly any of the points agrees with the choices.
    """
    own, betas = checked_prior(alpha, decisiveness)
    numbers, signs = checked_choices(margins, choices)
    points = _support(len(margins.names))
    signed = signs.unsqueeze(1) * margins.at(points)[numbers]
    log_weights = ((own - 1) * points.log().sum(dim=1)).unsqueeze(1).repeat(1, len(betas))
    for margin in signed:
        log_weights += logsigmoid(margin.unsqueeze(1) * betas)
    weights = (log_weights - log_weights.max()).exp()
    result = Posterior(points, weights / weights.sum(), betas)
    of_points = result.of_points()
    effective = 1 / of_points.square().sum().item()
    if len(margins.names) not in _LATTICE_POINTS and effective < _FEWEST_EFFECTIVE_POINTS:
        warn(
            f"the preference rests on {effective:.0f} of {len(points)} points, too few for a region to be relied on: "
            "the choices agree with a small part of the simplex, or with none. Ask fewer objectives at a time."
        )
    return result


def checked_choices(margins: PairMargins, choices: Mapping[int, int]) -> tuple[Tensor, Tensor]:
    """The numbers of the pairs, and 1 where response 0 was chosen, −1 where response 1 was: ``(n,)`` both.

    Raises:
        ValueError: a pair that is not there, or a choice that is none.
        TypeError: no mapping, or something else than whole numbers.
    """
    if not isinstance(choices, Mapping):
        raise TypeError(
            f"choices is {short_repr(choices)}, of type {type(choices).__name__}: give a dict, the chosen response, 0 "
            "or 1, by the number of its pair."
        )
    pairs, signs = [], []
    for key, value in choices.items():
        pair, choice = python_value(key, int, "a pair of choices"), python_value(value, int, f"choices[{key!r}]")
        if not 0 <= pair < len(margins):
            raise ValueError(f"choices have pair {pair}, but there are {len(margins)} pairs, 0 … {len(margins) - 1}.")
        if choice not in (0, 1):
            raise ValueError(
                f"choices[{pair}] is {choice}: give 0 or 1, the response that was chosen, and leave a pair out that "
                "was not decided."
            )
        pairs.append(pair)
        signs.append(1.0 - 2.0 * choice)
    return torch.tensor(pairs, dtype=torch.long), torch.tensor(signs, dtype=torch.float64)


def checked_prior(alpha: Any, decisiveness: Any) -> tuple[float, Tensor]:
    """α of the Dirichlet prior, and the values of β_u, ``(B,)`` float64.

    Raises:
        ValueError: no value, or a number that is not positive or beyond 1e100.
        TypeError: something else than numbers.
    """
    numbers = python_values(decisiveness, float, "decisiveness")
    if not numbers:
        raise ValueError("decisiveness is empty: give one value of β_u at least.")
    for place, number in enumerate(numbers):
        _checked_size(number, f"decisiveness[{place}]", "a person who decides has β_u > 0, so it must be > 0")
    own = _checked_size(alpha, "alpha", "it is the Dirichlet prior's, so it must be > 0")
    return own, torch.tensor(numbers, dtype=torch.float64)


def _checked_size(value: Any, name: str, reason: str) -> float:
    number = checked_positive(value, name, reason)
    if number > LARGEST:
        raise ValueError(f"{name} is {number:g}: it must be 1e100 at most.")
    return number


@lru_cache(maxsize=8)
def _support(num_objectives: int) -> Tensor:
    """Evenly spread points inside of the simplex, ``(N, m)``, each for a part of the same volume."""
    if num_objectives not in _LATTICE_POINTS:
        points = LowDiscrepancySampler(num_objectives).draw(_SEQUENCE_POINTS, np.random.default_rng(0))
        return torch.from_numpy(points.clip(min=1e-12))
    lattice = simplex_lattice(num_objectives, _LATTICE_POINTS[num_objectives]).double()
    steps = round(1 / float(lattice[lattice > 0].min()))
    # Moved inwards by a part of a step: a point on the border would stand for half of a part.
    return ((lattice * steps).round() + 1 / num_objectives) / (steps + 1)

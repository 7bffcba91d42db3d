"""TorchJD: the aggregators of the torchjd package as gradient weightings."""

import copy
from typing import Any

import torch
from torch import Tensor

from mopref.argument_kinds import checks_arguments
from mopref.option_checks import check_length

from .weighting import GRADIENT_WEIGHTINGS, GradientWeighting

__all__ = ["TorchJD"]


@GRADIENT_WEIGHTINGS.register("torchjd")
class TorchJD(GradientWeighting):
    """The weights that an aggregator of torchjd gives for the Gramian: UPGrad, DualProj, CAGrad, IMTLG, PCGrad, ….

    A method that takes a preference vector (UPGrad, DualProj, AlignedMTL) gets each group's λ: a larger λ_i makes
    gradient i weigh more, and so loss i smaller. The others do not look at the preference. Losses are not looked at.
    What the weights sum to, and whether all are ≥ 0, is the method's own: IMTLG and AlignedMTL may give negative ones.
    PCGrad draws from PyTorch's global generator.

    Methods that carry something from call to call (GradVac, NashMTL, PCD, ExcessMTL, …) are refused: successive groups
    have different preferences, so there is nothing to carry.

    Args:
        method: an aggregator or a weighting of ``torchjd.aggregation``, or the name of an aggregator. It is copied.
        options: the aggregator's own, where ``method`` is a name.

    Raises:
        ImportError: torchjd is not installed, or something that the method needs besides.
        ValueError: an unknown name, a method with a state or one that works on gradients only, options beside an
            object, or a preference vector, whose place is taken by λ.

    Source: P. Quinton and V. Rey, Jacobian Descent for Multi-Objective Optimization (arXiv 2406.16232), and the papers
    of the single methods.

    Example:
        >>> upgrad = TorchJD("UPGrad")  # doctest: +SKIP
        >>> cagrad = TorchJD("CAGrad", c=0.4)  # doctest: +SKIP
    """

    @checks_arguments
    def __init__(self, method: Any, **options: Any) -> None:
        try:
            from torchjd import Stateful, aggregation
        except ImportError as error:
            raise ImportError(
                "the package torchjd is missing, which TorchJD needs: run pip install 'mopref[torchjd]'."
            ) from error
        self._options = {"method": method, **options}
        if isinstance(method, str):
            kind = getattr(aggregation, method, None)
            if not (isinstance(kind, type) and issubclass(kind, aggregation.Aggregator)):
                raise ValueError(
                    f"method: torchjd.aggregation has no aggregator {method!r}, see its documentation for names."
                )
            try:
                method = kind(**options)
            except ImportError as error:
                raise ImportError(
                    f"{method} needs more than torchjd itself ({error}): run pip install 'mopref[torchjd]', or what "
                    "that says."
                ) from error
            except (TypeError, ValueError) as error:
                kind_of_error = TypeError if isinstance(error, TypeError) else ValueError
                raise kind_of_error(f"the options of {method} are {options!r}, which it refuses: {error}") from error
        elif options:
            raise ValueError(f"options {sorted(options)} beside an object: give them to {method!r} itself.")
        weighting = getattr(method, "gramian_weighting", method)
        if not isinstance(weighting, aggregation.Weighting):
            raise ValueError(
                f"method: {method!r} does not work on the Gramian of the gradients: give a "
                "GramianWeightedAggregator such as UPGrad(), or a Weighting such as UPGradWeighting()."
            )
        if isinstance(method, Stateful) or isinstance(weighting, Stateful):
            raise ValueError(
                f"{method!r} carries a state from call to call, but successive groups have different preferences: "
                "choose a method without one."
            )
        self.takes_preference = hasattr(weighting, "pref_vector")
        if self.takes_preference and weighting.pref_vector is not None:
            raise ValueError(
                f"{method!r} has a preference vector of its own: leave it out, each group's preference takes its place."
            )
        self.weighting = copy.deepcopy(weighting)

    def options(self) -> dict[str, Any]:
        """The method, and its own options where it is a name."""
        return dict(self._options)

    def check_objectives(self, num_objectives: int) -> None:
        """Refuse constant weights of another number of objectives."""
        weights = getattr(self.weighting, "weights", None)
        check_length(weights if isinstance(weights, Tensor) else None, num_objectives, "weights of method")

    def weights(self, losses: Tensor, gramians: Tensor, preferences: Tensor) -> Tensor:
        """The method's weights, group by group, ``(G, m)``."""
        rows = []
        for gramian, preference in zip(gramians, preferences, strict=True):
            if self.takes_preference:
                self.weighting.pref_vector = preference
            with torch.no_grad():
                rows.append(self.weighting(gramian).to(losses))
        return torch.stack(rows)

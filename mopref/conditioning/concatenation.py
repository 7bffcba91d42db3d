"""ConcatenationModel: the preference as more input features."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from mopref.argument_kinds import checked_kind, checks_arguments
from mopref.conditioning.conditioned_model import ConditionedModel, weight_like
from mopref.conditioning.conditioning_description import made_of
from mopref.conditioning.conditioning_files import SavedConditioning, read_conditioning
from mopref.conditioning.mlp import standardise_preferences
from mopref.conditioning.saved_form import SavedForm, take_on

__all__ = ["ConcatenationModel"]


class ConcatenationModel(SavedConditioning, ConditionedModel):
    """y = base([x, standardised λ]): the preference is appended to the features of the first input.

    The plainest conditioning; all parameters are those of the base, and it starts with an output that depends on λ.

    Args:
        base_model: a module whose first input is ``(B, …, d + m)``, floating-point.
        objectives: the names of the m objectives in the order of a preference, or their number m.

    Raises:
        ValueError: no objective, a name that is there twice, or a base without parameters.

    Example:
        >>> model = ConcatenationModel(nn.Linear(4 + 2, 3), objectives=2)
        >>> model(torch.zeros(5, 4), preferences=[0.5, 0.5]).shape
        torch.Size([5, 3])
    """

    @checks_arguments(but=("objectives",))
    def __init__(self, base_model: nn.Module, objectives: int | Sequence[str]) -> None:
        super().__init__(objectives)
        weight_like(base_model)
        self.base_model = base_model

    def _form(self) -> SavedForm:
        return SavedForm("ConcatenationModel", self.objectives, {}, {}, {}, self.base_model, whole_base=True)

    @classmethod
    def load(cls, base_model: nn.Module, folder: str | Path) -> Self:
        """A model with what :meth:`save_pretrained` wrote, in a base of the same architecture.

        Raises:
            FileNotFoundError: a file is missing.
            ValueError: another kind, another base, or a file that is damaged. The base is unchanged then.
        """
        content = read_conditioning(folder, "ConcatenationModel", lambda *_: {}, base_model)
        with made_of(folder):
            model = cls(base_model, content.objectives)
        model.preference_convention = content.convention
        take_on(content, model._form())
        return model

    def forward(self, x: Tensor, *args: Any, preferences: Any = None, **kwargs: Any) -> Any:
        """The base model's forward with λ beside the features of ``x``, ``(B, …, d)``.

        Raises:
            ValueError: no preferences, invalid ones, another number of them than of rows, or an ``x`` without features.
        """
        features = standardise_preferences(self.checked(preferences, weight_like(self.base_model)))
        x = checked_kind(x, Tensor, "the first input")
        if x.ndim < 2 or not x.is_floating_point():
            raise ValueError(
                f"the first input is {x.dtype} of shape {tuple(x.shape)}: λ is appended to the last dimension, so it "
                "must be floating-point of shape (B, …, d)."
            )
        if len(features) not in (1, len(x)):
            raise ValueError(
                f"{len(features)} preferences were given for {len(x)} rows: give one for each row, or a single one."
            )
        features = features.view(len(features), *[1] * (x.ndim - 2), -1).expand(*x.shape[:-1], -1)
        return self.base_model(torch.cat([x, features.to(x)], dim=-1), *args, **kwargs)

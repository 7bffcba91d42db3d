"""A reward for clean language."""

from collections.abc import Sequence
from importlib import import_module

import torch
from torch import Tensor

from mopref.argument_kinds import checked_texts, checks_arguments

from .reward import REWARDS, Prompt, Reward

__all__ = ["ProfanityFree"]


@REWARDS.register("profanity")
class ProfanityFree(Reward):
    """1 − P(profane) of the response by alt-profanity-check, 0 to 1; the prompt is not read.

    A linear support vector machine on words, English only. mopref keeps nothing as a pickle, but this package keeps its
    own weights as joblib pickles and loads them when it is imported: that is code of the package, to be trusted as far
    as the package is. Its versions are tied to versions of scikit-learn, which it takes seconds to import.

    Raises:
        ImportError: the package is missing (it comes with the extra ``rewards``), or its weights do not load with the
            scikit-learn that is installed.
    """

    direction = "higher is less profane"

    @checks_arguments
    def __init__(self) -> None:
        try:
            self._probabilities = import_module("profanity_check").predict_prob
        except ImportError as error:
            raise ImportError(
                "ProfanityFree needs the package alt-profanity-check, with the scikit-learn of the same version, which "
                "is missing: run pip install 'mopref[rewards]'."
            ) from error
        except Exception as error:
            raise ImportError(
                "alt-profanity-check does not load with the scikit-learn that is installed, to whose versions its own "
                "are tied: run pip install --upgrade --force-reinstall 'mopref[rewards]'."
            ) from error

    @checks_arguments
    def __call__(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> Tensor:
        """1 − P(profane) of N responses, shape ``(N,)``."""
        texts = checked_texts(responses, "responses")
        if not texts:
            return torch.zeros(0, dtype=torch.float64)
        return 1.0 - torch.as_tensor(self._probabilities(texts), dtype=torch.float64)

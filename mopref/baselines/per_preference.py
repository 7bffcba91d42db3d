"""One model for each preference: a policy that takes another LoRA for another λ."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from mopref.baselines.one_at_a_time import OneAtATime
from mopref.baselines.plain_lora import PlainLoRA, put_lora
from mopref.conditioning import PreferenceModel
from mopref.llm.policy.composed import groups_of_preferences

__all__ = ["LoRAPerPreference"]

# λ closer than this are the same λ.
_SAME = 1e-5


class LoRAPerPreference(OneAtATime):
    """N LoRAs, each for one preference; at any other preference there is no model.

    Args:
        module: a plain model, see ``plain_model``, which takes on one LoRA after the other.
        preferences: ``(N, m)``, what they were trained for.
        loras: N LoRAs.

    Raises:
        ValueError: another number of LoRAs than of preferences.
    """

    def __init__(self, module: PreferenceModel, preferences: Tensor, loras: Sequence[PlainLoRA]) -> None:
        super().__init__(module)
        if len(preferences) != len(loras):
            raise ValueError(f"there are {len(loras)} LoRAs for {len(preferences)} preferences: give one for each.")
        self.preferences, self._loras = preferences.detach().cpu().double(), list(loras)

    def put(self, preference: Tensor) -> None:
        """Let the model be the one for this preference ``(m,)``.

        Raises:
            ValueError: a preference that no LoRA was trained for.
        """
        distances = (self.preferences - preference.detach().cpu().double()).abs().amax(dim=1)
        place = int(distances.argmin())
        if distances[place] > _SAME:
            known = "; ".join(", ".join(f"{weight:g}" for weight in row) for row in self.preferences.tolist())
            raise ValueError(
                f"there is no model for λ = {preference.tolist()}: one is trained for each of ({known}), so ask for "
                "one of them, or train another."
            )
        put_lora(self.module, self._loras[place])

    @contextmanager
    def at(self, preference: Tensor) -> Iterator[Tensor]:
        """Within this block the model is the one for this preference, and stays it."""
        self.put(preference)
        yield preference.view(1, -1)

    def forward(self, input_ids: Tensor, preferences: Tensor) -> Any:
        """Logits for prompts ``(B, T)`` without padding, each of the model for its preference."""
        logits: list[Tensor] = []
        order: list[int] = []
        for preference, places in groups_of_preferences(preferences, len(input_ids)):
            self.put(preference)
            logits.append(self.module(input_ids[places], preferences=preference.view(1, -1)).logits)
            order += places
        return SimpleNamespace(logits=torch.cat(logits)[torch.tensor(order).argsort()])

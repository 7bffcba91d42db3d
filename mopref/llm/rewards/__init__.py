"""Rewards: what reinforcement learning on a language model maximises. One reward a file, and its line here."""

from mopref._faces import public_names as _public_names

from .anchors import Anchors as Anchors
from .brevity import Brevity as Brevity
from .classifier import ClassifierReward as ClassifierReward
from .conciseness import Conciseness as Conciseness
from .embedder import Embedder as Embedder, shared_embedder as shared_embedder
from .profanity import ProfanityFree as ProfanityFree
from .relevance import Relevance as Relevance
from .reward import (
    REWARDS as REWARDS,
    Reward as Reward,
    RewardError as RewardError,
    compute_rewards as compute_rewards,
    describe_rewards as describe_rewards,
    token_reward as token_reward,
)
from .sentiment import VaderSentiment as VaderSentiment

__all__ = _public_names(globals())

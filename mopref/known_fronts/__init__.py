"""What a result is measured against: exact optima on known fronts, and global search where optima are many."""

from mopref._faces import public_names as _public_names

from .cone_bandit import ConeBandit as ConeBandit
from .global_search import (
    SearchResult as SearchResult,
    global_search as global_search,
    warm_start as warm_start,
)
from .label_bandit import LabelBandit as LabelBandit
from .language_bandit import LanguageBandit as LanguageBandit
from .oracle import Optimum as Optimum, scalarizer_optimum as scalarizer_optimum
from .reward_bandit import RewardBandit as RewardBandit
from .tiny_llama import tiny_llama as tiny_llama

__all__ = _public_names(globals())

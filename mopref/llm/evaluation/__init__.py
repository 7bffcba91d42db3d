"""Held-out figures of a trained language model: fronts of losses and of rewards, sampled answers, win rates."""

from mopref._faces import public_names as _public_names

from .fronts import (
    answer_accuracies as answer_accuracies,
    answer_front as answer_front,
    loss_front as loss_front,
    preference_accuracies as preference_accuracies,
    preference_front as preference_front,
    reward_front as reward_front,
)
from .row_figures import (
    Figure as Figure,
    figure_columns as figure_columns,
    front_of_figures as front_of_figures,
    prompt_units as prompt_units,
)
from .sampled_answers import SampledAnswers as SampledAnswers, sample_answers as sample_answers
from .win_rates import Judge as Judge, RewardJudge as RewardJudge, win_rates as win_rates

__all__ = _public_names(globals())

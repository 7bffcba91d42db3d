"""Win rates: how often an answer at a preference is better than another one, by a judge."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from mopref._arrays import as_float64
from mopref.argument_kinds import checked_texts, checks_arguments
from mopref.llm.rewards.reward import compute_rewards, last_request, reads_tokens

__all__ = ["Judge", "RewardJudge", "win_rates"]

# Prompts, first answers and second answers, N each, to the probability (N,) that the first is the better one: 1, 0, ½
# for a draw, or anything between.
Judge: TypeAlias = Callable[[Sequence[Any], Sequence[str], Sequence[str]], Any]


class RewardJudge:
    """A judge that prefers the answer with the higher reward.

    Args:
        reward: ``(prompts, responses)`` to ``(N,)``, as ``mopref.llm.rewards`` has them.
        name: its name in messages.
        tokenizer: turns texts into the tokens of a reward that reads token ids.

    Raises:
        TypeError: no function.
        ValueError: a reward that reads token ids, without a tokenizer.
    """

    @checks_arguments
    def __init__(self, reward: Callable[..., Any], name: str = "judge", tokenizer: Any = None) -> None:
        if not callable(reward):
            raise TypeError(f"reward is {reward!r}: give a function of prompts and responses.")
        if reads_tokens(reward) and tokenizer is None:
            raise ValueError(f"the reward of judge {name!r} reads token ids: give the tokenizer that makes them.")
        self.reward, self.name, self.tokenizer = reward, name, tokenizer

    @checks_arguments
    def __call__(self, prompts: Sequence[Any], first: Sequence[str], second: Sequence[str]) -> Tensor:
        """1 where the first answer has the higher reward, 0 where the second has, ½ for equals: ``(N,)``."""
        return 0.5 * (1 + torch.sign(self._rewards(prompts, first) - self._rewards(prompts, second)))

    def _rewards(self, prompts: Sequence[Any], answers: Sequence[str]) -> Tensor:
        prompt_ids, answer_ids = None, None
        if reads_tokens(self.reward):
            texts = [last_request(prompt) for prompt in prompts]
            prompt_ids, answer_ids = (
                [self.tokenizer(text, add_special_tokens=False)["input_ids"] for text in part]
                for part in (texts, answers)
            )
        return compute_rewards({self.name: self.reward}, prompts, answers, prompt_ids, answer_ids)[:, 0]


@checks_arguments
def win_rates(judge: Judge, prompts: Sequence[Any], answers: Sequence[str], base_answers: Sequence[str]) -> Tensor:
    """For each prompt the probability that the answer is better than the base's, by a judge: ``(N,)``, float64.

    The judge is asked in both orders, and the mean counts, so that one that likes the first place is not rewarded for
    it. Equal answers are a draw, ½, and not shown to it.

    Args:
        judge: prompts, first and second answers to the probability that the first is better, in [0, 1].
        prompts: N texts or lists of chat messages.
        answers: N.
        base_answers: N.

    Raises:
        ValueError: numbers of prompts and answers that differ, or a judge that returns something else than N numbers in
            [0, 1]; the first such number is named.

    Example:
        >>> shorter = lambda prompts, first, second: [float(len(a) < len(b)) for a, b in zip(first, second)]
        >>> win_rates(shorter, ["Why?", "How?"], ["Because.", "So."], ["Since it is so.", "So."])
        tensor([1.0000, 0.5000], dtype=torch.float64)
    """
    answers, base_answers = checked_texts(answers, "answers"), checked_texts(base_answers, "base_answers")
    if not len(prompts) == len(answers) == len(base_answers):
        numbers = f"{len(prompts)} prompts, {len(answers)} answers and {len(base_answers)} base answers"
        raise ValueError(f"there are {numbers}: give one of each for every prompt.")
    rates = torch.full((len(prompts),), 0.5, dtype=torch.float64)
    places = [place for place, pair in enumerate(zip(answers, base_answers, strict=True)) if pair[0] != pair[1]]
    if places:
        asked, own, other = ([part[place] for place in places] for part in (prompts, answers, base_answers))
        rates[places] = 0.5 * (_verdicts(judge, asked, own, other) + 1 - _verdicts(judge, asked, other, own))
    return rates


def _verdicts(judge: Judge, prompts: Sequence[Any], first: Sequence[str], second: Sequence[str]) -> Tensor:
    answered = judge(prompts, first, second)
    # Whether the first is better is an answer, too.
    numbers = [float(verdict) for verdict in answered] if isinstance(answered, list | tuple) else answered
    verdicts = torch.from_numpy(as_float64(numbers, "the list of the judge's verdicts").copy())
    if verdicts.shape != (len(prompts),):
        shape = tuple(verdicts.shape)
        raise ValueError(f"the judge returned shape {shape} for {len(prompts)} prompts: one number for each is needed.")
    wrong = ~((verdicts >= 0) & (verdicts <= 1))
    if wrong.any():
        place = int(wrong.nonzero()[0])
        raise ValueError(
            f"the judge returned {verdicts[place].item()} for prompt {place}: it is the probability that the first "
            "answer is better, so it must lie in [0, 1]."
        )
    return verdicts

"""Preference pairs that a model writes itself: two sampled answers to each prompt, labelled by rewards."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mopref._progress import progress_bar
from mopref._repr import short_repr
from mopref.argument_kinds import checks_arguments
from mopref.llm.data.lengths import batches_of_like_length
from mopref.llm.data.loaders import LoadReport
from mopref.llm.data.loaders.report import tell
from mopref.llm.data.records import TEXT_COLUMNS, check_objectives, is_empty_text
from mopref.llm.data.tokenization import tokenize_prompts
from mopref.llm.policy.generation import Response, Sampling
from mopref.llm.policy.policy import Policy
from mopref.llm.rewards.reward import Prompt, RewardError, compute_rewards
from mopref.objective_names import checked_names
from mopref.setting_types import checked_count, checked_seed, python_value

__all__ = ["checked_gaps", "on_policy_pairs"]

# Differences such as .3 − .2 are not exact in binary: one that equals the gap must count on every machine.
_ROUNDING = 1e-9


@checks_arguments(but=("prompts",))
def on_policy_pairs(
    model: nn.Module,
    tokenizer: Any,
    prompts: Sequence[Prompt],
    rewards: Mapping[str, Callable[..., Any]],
    sampling: Sampling | None = None,
    seed: int = 0,
    gaps: Mapping[str, float] | None = None,
    batch_size: int = 16,
    *,
    max_prompt_length: int = 512,
    on_long_prompt: Literal["error", "truncate", "drop"] = "error",
    report: LoadReport | None = None,
    progress: bool = False,
) -> list[dict[str, Any]]:
    """Preference records of a model's own answers: two to each prompt, compared by a reward for each objective.

    With y_0, y_1 ~ π_ref(·|x), the base model's answers, and gap g_i ≥ 0, the label of objective i is

        1 if d_i > 0, 0 if d_i < 0, −1 where |d_i| < g_i or d_i = 0,    d_i = r_i(x, y_1) − r_i(x, y_0).

    These are the pairs that ``OnlineDPO`` would begin with, sampled once: what learns from pairs can be trained on
    them, and every method on the same ones. Two answers that read alike, an empty one, and pairs without any label are
    left out and counted. An answer that was cut is compared as it is; train with ``max_response_length`` of no more
    tokens than were sampled, so that none seems to end where it was cut.

    Args:
        model: the ``PreferenceModel`` whose base answers, adapters disabled.
        tokenizer: the model's.
        prompts: N texts or lists of chat messages; one that is there twice gets two pairs.
        rewards: name to reward, a callable ``(prompts, responses) -> (N,)``, higher is better; see
            ``mopref.llm.rewards``. The names become the label columns.
        sampling: how answers are sampled.
        seed: the same seed gives the same answers; the global random state stays as it was.
        gaps: for some rewards or all, the smallest difference that is a label, in the reward's own units; 0 for others.
        batch_size: prompts in one batch.
        max_prompt_length: in tokens.
        on_long_prompt: what happens to a longer one: ``"error"``, ``"truncate"`` or ``"drop"``.
        report: an empty one, which is filled with counts.
        progress: show a progress bar.

    Returns:
        At most N records, in the order of the prompts: ``prompt``, ``response_0``, ``response_1``, and a label for
        each reward.

    Raises:
        ValueError: no reward, one that is named as a text column is, a gap of no reward or below 0, no prompt, one that
            is empty, malformed or too long (the row is named), or no pair that is labelled on some objective.
        TypeError: a reward that cannot be called, or a value of another type, named.
        RewardError: a reward that fails, or returns something that is no number or not finite: reward and row are
            named.
    """
    names = _checked_rewards(rewards)
    limits = checked_gaps(gaps or {}, names)
    rows = tokenize_prompts(tokenizer, prompts, max_prompt_length, on_long_prompt)
    policy = Policy(model, (Sampling() if sampling is None else sampling).for_tokenizer(tokenizer))
    policy.check_prompts(rows)
    checked_count(batch_size, "batch_size")
    pairs: dict[int, dict[str, Any]] = {}
    largest = torch.zeros(len(names), dtype=torch.float64)
    report = LoadReport() if report is None else report
    answered = _answered(policy, tokenizer, rows, rewards, batch_size, checked_seed(seed), progress)
    for place, answers, difference in answered:
        labels = _labels(difference, limits)
        report.rows += 1
        if reason := _unfit(answers, labels):
            report.leave_out(reason)
        else:
            pairs[place] = {"prompt": rows[place]["prompt"], **answers, **dict(zip(names, labels, strict=True))}
        largest = torch.maximum(largest, difference.abs())
    records = [pairs[place] for place in sorted(pairs)]
    _refuse_unlabelled(records, names, largest, limits, report)
    tell(report, records, names)
    return records


def _checked_rewards(rewards: Mapping[str, Callable[..., Any]]) -> tuple[str, ...]:
    """The names of the rewards, which become columns of the records."""
    if not rewards:
        raise ValueError("there is no reward: give at least one, as name -> callable.")
    names = check_objectives(checked_names(tuple(rewards), "the list of the names of rewards"), TEXT_COLUMNS)
    for name, reward in rewards.items():
        if not callable(reward):
            raise TypeError(f"rewards[{name!r}] is {short_repr(reward)}: give a function of prompts and responses.")
    return names


def checked_gaps(gaps: Mapping[str, float], names: Sequence[str]) -> Tensor:
    """The gap of each reward, ``(m,)``; 0 where none is given.

    Raises:
        ValueError: a gap of no reward, or one that is below 0 or not finite.
        TypeError: one that is no number.
    """
    values = dict.fromkeys(names, 0.0)
    for name, gap in gaps.items():
        if name not in values:
            raise ValueError(
                f"gaps hold {short_repr(name)}, and there is no such reward: there are {', '.join(names)}."
            )
        values[name] = python_value(gap, float, f"gaps[{name!r}]")
        if not 0 <= values[name] < math.inf:
            raise ValueError(f"gaps[{name!r}] is {values[name]}: it is a difference, so it must be ≥ 0 and finite.")
    return torch.tensor(list(values.values()), dtype=torch.float64)


def _answered(
    policy: Policy,
    tokenizer: Any,
    rows: Sequence[Any],
    rewards: Mapping[str, Any],
    batch_size: int,
    seed: int,
    progress: bool,
) -> Iterator[tuple[int, dict[str, str], Tensor]]:
    """The place of each row, its two answers as columns of a record, and how much better the second is, ``(m,)``."""
    batches = batches_of_like_length([len(row["prompt_ids"]) for row in rows], batch_size)
    devices = [policy.device] if policy.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), torch.no_grad():
        torch.manual_seed(seed)
        for places in progress_bar(batches, "answering", enabled=progress, unit="batch"):
            texts, values = _answers(policy, tokenizer, [rows[place] for place in places], places, rewards)
            answers = [
                dict(zip(TEXT_COLUMNS[1:], pair, strict=True)) for pair in zip(texts[::2], texts[1::2], strict=True)
            ]
            yield from zip(places, answers, values[1::2] - values[::2], strict=True)


def _answers(
    policy: Policy, tokenizer: Any, batch: Sequence[Any], places: Sequence[int], rewards: Mapping[str, Any]
) -> tuple[list[str], Tensor]:
    """Two answers to each of B prompts by the base model, those of one prompt together, and rewards ``(2B, m)``."""
    prompt_ids = [list(row["prompt_ids"]) for row in batch]
    with policy.reference() as reference:
        responses: list[Response] = reference.sample(prompt_ids, None, 2).responses
    contents = [response.content for response in responses]
    texts = [text.strip() for text in tokenizer.batch_decode(contents, skip_special_tokens=True)]
    twice = [(row["prompt"], ids) for row, ids in zip(batch, prompt_ids, strict=True) for _ in range(2)]
    try:
        values = compute_rewards(rewards, [prompt for prompt, _ in twice], texts, [ids for _, ids in twice], contents)
    except RewardError as error:
        # Of all prompts, and not of the batch.
        error.prompt = None if error.row is None else places[error.row // 2]
        raise
    return texts, values


def _labels(difference: Tensor, gaps: Tensor) -> list[int]:
    """The label on each objective, of how much better the second answer is."""
    is_close = (difference.abs() < gaps * (1 - _ROUNDING)) | (difference == 0)
    labels: list[int] = torch.where(is_close, -1, (difference > 0).long()).tolist()
    return labels


def _unfit(answers: Mapping[str, str], labels: Sequence[int]) -> str | None:
    """Why a pair says nothing to train on; ``None`` for one that does."""
    if len(set(answers.values())) == 1:
        return "pairs: equal answers"
    if any(map(is_empty_text, answers.values())):
        return "pairs: empty text"
    return "pairs: no label on any objective" if max(labels) < 0 else None


def _refuse_unlabelled(
    records: Sequence[Mapping[str, Any]], names: Sequence[str], largest: Tensor, gaps: Tensor, report: LoadReport
) -> None:
    """Refuse records of which nothing can be learnt on some objective."""
    for name, difference, gap in zip(names, largest.tolist(), gaps.tolist(), strict=True):
        if not any(record[name] >= 0 for record in records):
            counts = "".join(f", {count} {reason}" for reason, count in sorted(report.left_out.items()))
            raise ValueError(
                f"no pair is labelled on {name!r}: of {report.rows} pairs of answers ({len(records)} of use{counts}) "
                f"its rewards differ by {difference:g} at most, and its gap is {gap:g}: take a smaller gap, more "
                "prompts, or a reward that tells answers apart."
            )

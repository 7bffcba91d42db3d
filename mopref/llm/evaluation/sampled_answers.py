"""Answers sampled at preferences, with their lengths and how far the model has moved from its base."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mopref.argument_kinds import checks_arguments
from mopref.data_rows import check_columns, checked_rows
from mopref.llm.data.sequences import collate_sequences
from mopref.llm.policy.generation import Sampling
from mopref.llm.policy.policy import Policy
from mopref.llm.policy_gradient.reward_statistics import sampled_batches
from mopref.preferences import validate_preferences

__all__ = ["SampledAnswers", "sample_answers"]


class SampledAnswers(NamedTuple):
    """One answer to each of R prompts at each of N preferences, on the CPU.

    Attributes:
        texts: N lists of R answers.
        kl: ``(N, R)``, log π(y|x; λ) − log π_ref(y|x) of the answer in nats, whose mean estimates the KL from the base
            model; a single one may be below 0. Zeros where it was not asked for.
        lengths: ``(N, R)``, tokens without the stop token.
        truncated: ``(N, R)``, 1 where an answer was cut, else 0.
    """

    texts: list[list[str]]
    kl: Tensor
    lengths: Tensor
    truncated: Tensor


@checks_arguments
def sample_answers(
    model: nn.Module,
    tokenizer: Any,
    data: Sequence[Any],
    preferences: Any,
    sampling: Sampling | None = None,
    batch_size: int = 16,
    *,
    with_kl: bool = True,
    seed: int = 0,
    progress: bool = False,
) -> SampledAnswers:
    """Sample an answer to every prompt at every preference.

    Args:
        model: the ``PreferenceModel``.
        tokenizer: turns tokens into text, and names those that end an answer.
        data: rows with ``prompt_ids``, as ``tokenize_prompts`` makes them.
        preferences: ``(N, m)``, or by name; ``None`` for the base model, as one preference.
        sampling: how answers are sampled.
        batch_size: prompts in one batch.
        with_kl: also estimate the KL, which takes a forward of the base model more.
        seed: the same seed gives the same answers; the global random state stays as it was.
        progress: show a progress bar.

    Raises:
        ValueError: no row, a row that is no prompt of the model's tokens, or too long for it, or preferences that do
            not lie on the simplex.
        TypeError: data whose rows cannot be counted, or had by their number.
    """
    if len(checked_rows(data, "data")) == 0:
        raise ValueError("there is nothing to answer: give data with at least one prompt.")
    check_columns(data, ("prompt_ids",), "use tokenize_prompts(tokenizer, prompts)")
    policy = Policy(model, (Sampling() if sampling is None else sampling).for_tokenizer(tokenizer))
    policy.check_prompts(data)
    if preferences is not None:
        matrix = validate_preferences(preferences, policy.conditioned.objectives).to(torch.get_default_dtype())
    else:
        matrix = None
    count = 1 if matrix is None else len(matrix)
    texts = [["" for _ in range(len(data))] for _ in range(count)]
    # KL, length, and whether cut.
    table = torch.zeros(3, count, len(data), dtype=torch.float64)
    stops = bool(policy.sampling.stop_token_ids)
    for indices, rows, at in sampled_batches(policy, data, matrix, batch_size, seed, progress):
        prompts = [list(data[row]["prompt_ids"]) for row in rows.tolist()]
        if at is None:
            with policy.reference() as reference:
                responses = reference.sample(prompts, None, 1).responses
        else:
            responses, outputs = policy.sample(prompts, at, 1)
            if with_kl:
                sequences = collate_sequences(prompts, [response.ids for response in responses]).to(policy.device)
                # What the policy said of its tokens is known from when it drew them.
                ratios = outputs.log_probabilities - policy.reference_log_probabilities(sequences)
                table[0, indices, rows] = ratios.sum(dim=1).double().cpu()
        decoded = tokenizer.batch_decode([response.content for response in responses], skip_special_tokens=True)
        for index, row, text, response in zip(indices.tolist(), rows.tolist(), decoded, responses, strict=True):
            texts[index][row] = text.strip()
            table[1, index, row] = len(response.content)
            table[2, index, row] = float(stops and not response.finished)
    return SampledAnswers(texts, *table)

"""What a preference-conditioned language model says of pairs: its implicit reward, at many λ from one forward."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mopref._progress import progress_bar
from mopref._repr import short_repr
from mopref._warning import warn
from mopref.argument_kinds import checks_arguments
from mopref.bootstrap import checked_level
from mopref.data_rows import check_columns, checked_rows, token_tuples
from mopref.evaluation_mode import evaluation_mode
from mopref.llm.data.lengths import batches_of_like_length
from mopref.llm.data.sequences import Sequences, collate_sequences
from mopref.llm.policy.policy import Policy
from mopref.option_checks import checked_positive
from mopref.personal.fitting import FittedPreference, fit_choices
from mopref.personal.margins import PairMargins, margin_nodes
from mopref.personal.posterior import DECISIVENESS, checked_prior
from mopref.setting_types import checked_count, python_value

__all__ = ["fit_preference", "pair_margins"]

_RESPONSES = ("response_0_ids", "response_1_ids")
_COLUMNS = ("prompt_ids", *_RESPONSES)
_REMEDY = "use tokenize_records(tokenizer, records, objectives) to make such rows"
# More than this of the margins' size between the nodes is no small error.
_LARGEST_ERROR = 0.1


@checks_arguments(but=("pairs", "beta"))
def pair_margins(
    model: nn.Module,
    pairs: Sequence[Any],
    *,
    beta: float = 0.1,
    steps: int = 4,
    batch_size: int = 4,
    progress: bool = False,
) -> PairMargins:
    """d_λ of pairs of responses, by a language model's implicit reward.

        d_λ = β · (h_λ(x, y_0) − h_λ(x, y_1)),   h_λ(x, y) = log π(y|x; λ) − log π_ref(y|x)

    summed over response tokens; the reference is the model with its adapters disabled. For a policy that is optimal for
    Σ λ_i r_i − β KL, β h_λ is Σ λ_i r_i(x, y) and a term that both responses share. Nothing is sampled or trained: the
    model is run in evaluation mode, at all nodes at once; some pairs are compared with what it says between them. Do it
    once for all pairs that may be asked about.

    Args:
        model: the ``PreferenceModel``.
        pairs: rows with ``prompt_ids``, ``response_0_ids`` and ``response_1_ids``, as ``tokenize_records`` makes them;
            their labels do not count.
        beta: β > 0 that the model was trained with.
        steps: H, so that d is a polynomial of degree H in λ; C(m + H − 1, H) nodes.
        batch_size: pairs in one forward, each at all of the nodes.
        progress: show a progress bar.

    Returns:
        Margins whose keys tell pairs apart by their tokens: the same two responses to a prompt are one question, in
        either order.

    Raises:
        ValueError: rows without token ids, with other tokens than the model's, or longer than it has positions for; or
            a number out of its range.
        TypeError: a model that is no preference model, or data whose rows cannot be counted, or had by their number.

    Warns:
        UserWarning: between the nodes d is off by more than a tenth of its size: more steps are needed.

    Source: Rafailov et al., arXiv 2305.18290, for the implicit reward.
    """
    factor = checked_positive(beta, "beta", "it is the pull towards the reference, so it must be > 0")
    size = checked_count(batch_size, "batch_size")
    policy = Policy(model)
    names = policy.conditioned.objectives
    nodes = margin_nodes(len(names), steps)
    check_columns(checked_rows(pairs, "pairs"), _COLUMNS, _REMEDY)
    if len(pairs) == 0:
        raise ValueError("pairs are empty: give one row at least.")
    lengths = policy.checked_lengths(pairs, _RESPONSES)
    values = torch.zeros(len(pairs), len(nodes), dtype=torch.float64)
    batches = batches_of_like_length(lengths, size)
    with torch.no_grad(), evaluation_mode(policy.conditioned):
        # What enters the first adapted block is the same at every λ.
        longest, tokens = _sequences(policy, [pairs[batches[-1][-1]]]), 2 * size * len(nodes) * max(lengths)
        is_shared = policy.settled_frozen_layers("auto", tokens, longest)
        for indices in progress_bar(batches, "margins", enabled=progress):
            rows = [pairs[i] for i in indices]
            values[indices] = factor * _log_ratio_differences(policy, rows, nodes, is_shared)
        found = PairMargins(values, names, _keys(pairs))
        # On the last batch, whose responses are the longest.
        between = _between(len(names), steps)
        exact = factor * _log_ratio_differences(policy, rows, between, is_shared)
    _tell_error(found.at(between)[indices], exact, steps)
    return found


@checks_arguments(but=("comparisons", "beta", "alpha", "decisiveness", "level"))
def fit_preference(
    model: nn.Module,
    comparisons: Sequence[Any],
    *,
    beta: float = 0.1,
    alpha: float = 1.0,
    decisiveness: Sequence[float] = DECISIVENESS,
    level: float = 0.9,
    steps: int = 4,
    batch_size: int = 4,
    progress: bool = False,
) -> FittedPreference:
    """The λ of a person who chose between pairs of responses, under a language model's implicit reward.

    The same as ``fit_choices(pair_margins(model, comparisons), …)``, which serves where one pair is asked about after
    the other: margins are computed once there.

    Args:
        model: the ``PreferenceModel``.
        comparisons: rows as :func:`pair_margins` takes them, each with ``choice``: 0 or 1, the response that the
            person chose.
        beta: β > 0 that the model was trained with.
        alpha: α > 0 of the Dirichlet prior on λ.
        decisiveness: the values that β_u, how decided the person is, may have; 1 for one who chooses with probability
            σ(d_λ).
        level: the region's probability.
        steps: as :func:`pair_margins` takes it.
        batch_size: pairs in one forward.
        progress: show a progress bar.

    Returns:
        λ, the posterior mean, ``(m,)``, and its credible region: ``preference, region = fit_preference(…)``.

    Raises:
        ValueError: as :func:`pair_margins` and :func:`fit_choices` do, or a row without a choice.
        TypeError: as these do.
    """
    check_columns(checked_rows(comparisons, "comparisons"), _COLUMNS, _REMEDY)
    check_columns(comparisons, ("choice",), "say which response was chosen")
    choices = {row: python_value(each["choice"], int, f"choice of row {row}") for row, each in enumerate(comparisons)}
    wrong = next((row for row, choice in choices.items() if choice not in (0, 1)), None)
    if wrong is not None:
        raise ValueError(
            f"row {wrong} has choice {short_repr(choices[wrong])}: give 0 or 1, the response that was chosen, and "
            "leave a row out that was not decided."
        )
    # Before any forward.
    checked_prior(alpha, decisiveness), checked_level(level)
    margins = pair_margins(model, comparisons, beta=beta, steps=steps, batch_size=batch_size, progress=progress)
    return fit_choices(margins, choices, alpha=alpha, decisiveness=decisiveness, level=level)


def _sequences(policy: Policy, rows: list[Mapping[str, Any]]) -> Sequences:
    """2B sequences, first those with response 0, on the model's device."""
    prompts = [row["prompt_ids"] for row in rows] * 2
    return collate_sequences(prompts, [row[column] for column in _RESPONSES for row in rows]).to(policy.device)


def _log_ratio_differences(policy: Policy, rows: list[Mapping[str, Any]], points: Tensor, is_shared: bool) -> Tensor:
    """h_λ(y_0) − h_λ(y_1) of B pairs at K preferences ``(K, m)``: ``(B, K)`` float64 on the CPU, by one forward."""
    sequences = _sequences(policy, rows)
    if is_shared:
        sequences = policy.with_lower_hidden_states(sequences)
    reference = policy.reference_log_probabilities(sequences).sum(dim=1)
    repeated = sequences.rows(torch.arange(2 * len(rows)).repeat_interleave(len(points)))
    preferences = points.repeat(2 * len(rows), 1).to(policy.device, torch.float32)
    log_probabilities = policy.sequence_log_probabilities(repeated, preferences).view(2 * len(rows), len(points))
    first, second = (log_probabilities.double() - reference.double().unsqueeze(1)).cpu().chunk(2)
    return first - second


def _between(num_objectives: int, steps: int) -> Tensor:
    """m preferences, from each corner halfway to the next nodes, where a polynomial errs the most: ``(m, m)``."""
    corners = torch.eye(num_objectives, dtype=torch.float64)
    others = (1 - corners) / (num_objectives - 1)
    return corners + (others - corners) / (2 * steps)


def _tell_error(approximate: Tensor, exact: Tensor, steps: int) -> None:
    error, size = (approximate - exact).square().mean().sqrt(), exact.square().mean().sqrt()
    if error > _LARGEST_ERROR * size:
        warn(
            f"between the nodes margins are off by {error / size:.0%} of their size: the model changes with λ faster "
            f"than a polynomial of degree {steps} does, so give more steps."
        )


def _keys(pairs: Sequence[Any]) -> list[Hashable]:
    """What tells pairs apart: their tokens, whichever response comes first."""
    columns = [token_tuples(pairs, column, _REMEDY) for column in _COLUMNS]
    return [(prompt, frozenset(responses)) for prompt, *responses in zip(*columns, strict=True)]

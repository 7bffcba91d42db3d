"""Whether responses were sampled from the distribution that a forward gives: what is learned from them hangs on it."""

import torch
from torch import Tensor

from mopref.conditioning.linear_layer import plain_weight
from mopref.llm.policy.policy import Policy
from mopref.llm.policy_gradient.rollout import Rollout
from mopref.mixed_precision import mixed_precision_in_force

__all__ = ["check_log_probabilities", "check_rollout"]

# The rows that are compared, and the nats by which a token's two log-probabilities may differ on average: where they
# differ by rounding alone it is far less. Quantised layers round by what else is in the batch.
_ROWS = 4
_ALLOWED, _ALLOWED_IN_HALF_PRECISION = 1e-2, 0.5


def check_rollout(policy: Policy, rollout: Rollout, row_preferences: Tensor, frozen_layers: bool) -> None:
    """What is asked once, of a first rollout: :func:`check_log_probabilities`, and kept activations where they are.

    Raises:
        ValueError: the model samples from another distribution, or its lower layers cannot be computed apart.
    """
    check_log_probabilities(policy, rollout, row_preferences)
    if frozen_layers:
        policy.check_frozen_layers(rollout.sequences)


def check_log_probabilities(policy: Policy, rollout: Rollout, row_preferences: Tensor) -> None:
    """Compare the log-probabilities that were recorded while sampling with those of a forward, on a few responses.

    Some models count positions or read padding in another way when they generate. The ratio π/π_old of every token
    would then be wrong from the first step on, and so would be whose samples a pair of responses is.

    Args:
        policy: the conditioned model, with the rollout's sampling settings.
        rollout: N responses.
        row_preferences: of the B prompts, ``(B, m)``.

    Raises:
        ValueError: they differ, by the mean of a token in nats.
    """
    count = len(rollout.lengths)
    # From first to last, so that prompts of other lengths are among them.
    rows = torch.linspace(0, count - 1, min(_ROWS, count)).round().long()
    few = rollout.rows(rows)
    preferences = row_preferences[rows.to(row_preferences.device) // (count // len(row_preferences))]
    with torch.no_grad(), policy.without_dropout():
        expected = policy.token_log_probabilities(few.sequences, preferences)
    gap = (few.log_probabilities - expected)[few.sequences.response_mask].abs().mean().item()
    base = policy.conditioned
    rounds = any(plain_weight(layer.base_layer) is None for layer in base.adapters.values())
    in_half = (
        rounds or base.dtype in (torch.float16, torch.bfloat16) or mixed_precision_in_force(policy.device) is not None
    )
    allowed = _ALLOWED_IN_HALF_PRECISION if in_half else _ALLOWED
    if not gap <= allowed:
        raise ValueError(
            f"{type(base.base_model).__name__} samples from another distribution than its forward gives: the "
            f"log-probabilities of its first responses differ by {gap:.3g} nats a token on average, where rounding "
            f"would be less than {allowed:g}. Its generate counts positions or reads padding in another way, so "
            "what is learned from its samples would be wrong: use another base model, or DPO, which samples nothing."
        )

"""What a vLLM server is asked for, field by field, and what its answers say: nothing is left to its own settings."""

import math
from collections.abc import Sequence
from typing import Any

import torch

from mopref._repr import short_repr
from mopref.llm.engines.engine import EngineSamples
from mopref.llm.policy.generation import Response, cut_response
from mopref.llm.policy.policy import Policy

__all__ = ["completed", "sampling_fields"]

# What vLLM adds to a logit at most; no token comes that is so much less likely.
_NEVER = -100.0


def sampling_fields(policy: Policy) -> dict[str, Any]:
    """The fields of a completion by which vLLM samples from the distribution of the policy's settings."""
    sampling = policy.sampling
    fields: dict[str, Any] = {
        "max_tokens": sampling.max_new_tokens,
        "min_tokens": sampling.min_new_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "stop_token_ids": list(sampling.stop_token_ids or ()),
        # What else a model's own generation_config would set, or a server's defaults.
        "ignore_eos": True,
        "top_k": -1,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "logprobs": 0,
        "return_token_ids": True,
        # No text is needed, nor a tokenizer.
        "return_tokens_as_token_ids": True,
        "skip_special_tokens": False,
    }
    size = policy.num_logits
    absent = sampling.absent_tokens(size)
    if len(absent) > size // 2:
        fields["allowed_token_ids"] = sorted({*range(size)} - {*absent})
    elif absent:
        fields["logit_bias"] = {str(token): _NEVER for token in absent}
    return fields


def completed(answers: Sequence[Any], policy: Policy, samples: int, source: str) -> EngineSamples:
    """The responses in B answers of ``samples`` choices each, checked to be this policy's.

    Args:
        answers: as the server gives them.
        policy: the conditioned model with its sampling settings.
        samples: S.
        source: the server, for messages.

    Raises:
        ValueError: an answer of another form, of tokens that the model cannot sample, or of another length.
    """
    responses: list[Response] = []
    values: list[list[float]] = []
    for answer in answers:
        choices: Any = answer.get("choices") if isinstance(answer, dict) else None
        is_list = isinstance(choices, list) and all(isinstance(choice, dict) for choice in choices)
        if not is_list or len(choices) != samples:
            raise ValueError(f"{source} gives {short_repr(answer)}, not {samples} choices: is it vLLM 0.32 or newer?")
        # In whatever order: the samples of one prompt are alike.
        for choice in choices:
            response, own = _choice(choice, policy, source)
            responses.append(response)
            values.append(own)
    columns = max(map(len, values))
    padded = torch.tensor([row + [0.0] * (columns - len(row)) for row in values], dtype=torch.float32)
    return EngineSamples(responses, padded)


def _is_log_probability(value: Any) -> bool:
    # Above 0 by rounding alone.
    return type(value) in (int, float) and -math.inf < value < 1e-3


def _choice(choice: Any, policy: Policy, source: str) -> tuple[Response, list[float]]:
    ids, told = choice.get("token_ids"), choice.get("logprobs")
    values = told.get("token_logprobs") if isinstance(told, dict) else None
    if not isinstance(ids, list) or not isinstance(values, list) or not 0 < len(ids) == len(values):
        raise ValueError(
            f"{source} gives no token ids with their log-probabilities ({short_repr(choice)}): it needs vLLM 0.32 or "
            "newer."
        )
    size, sampling = policy.num_logits, policy.sampling
    absent = next((token for token in ids if type(token) is not int or not 0 <= token < size), None)
    if absent is not None:
        raise ValueError(
            f"{source} samples the token {short_repr(absent)}, and the trained model has {size}: it serves another."
        )
    wrong = [value for value in values if not _is_log_probability(value)]
    if wrong:
        raise ValueError(f"{source} gives {short_repr(wrong[0])} as a log-probability: it does not work as it should.")
    response = cut_response(ids, {*(sampling.stop_token_ids or ())})
    if len(response.ids) != len(ids) or not (response.finished or len(ids) == sampling.max_new_tokens):
        raise ValueError(
            f"{source} ends a response after {len(ids)} tokens ({short_repr(choice.get('finish_reason'))}), where "
            f"no stop token ends it and {sampling.max_new_tokens} are not reached: its --max-model-len is too small, "
            "or it stops at other tokens."
        )
    return response, [float(value) for value in values]

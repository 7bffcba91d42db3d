"""What a base model does by itself: asked where its conditioned model differs, to tell whose doing it is."""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from family_inputs import (
    IDS,
    PROMPTS,
    Factory,
    flat_gradients,
    logits_of,
    padded_prompts,
    share_of_other_answers,
)
from outcomes import difference
from torch import Tensor, nn

from mopref.llm.data.sequences import Sequences
from mopref.llm.policy import Response, Sampling

__all__ = [
    "carried_rounding",
    "divergence_from_own_forward",
    "fails_like",
    "gap_of_base_gradients",
    "gap_of_rows",
    "runs_in_training",
    "share_of_other_base_answers",
]


def gap_of_rows(base: nn.Module, sequences: Sequences, padded: bool) -> float:
    """How much the rows of a padded batch differ from each alone, by the way of calling the base that it keeps best.

    Transformers' own generation calls a model with the mask and, where it takes them, positions of real tokens.
    """
    calls: list[Callable[[Sequences], dict[str, Any]]] = [lambda part: {"attention_mask": part.attention_mask}]
    if "position_ids" in inspect.signature(base.forward).parameters:
        calls.append(lambda part: {"attention_mask": part.attention_mask, "position_ids": part.position_ids})
    return min(_gap_of_call(base, sequences, call, padded) for call in calls)


def _gap_of_call(
    base: nn.Module, sequences: Sequences, call: Callable[[Sequences], dict[str, Any]], padded: bool
) -> float:
    together, gap = logits_of(base, sequences.input_ids, **call(sequences)), 0.0
    for i in range(len(together)):
        real = sequences.attention_mask[i].bool()
        row = sequences.rows(torch.tensor([i]))
        if padded:
            alone = logits_of(base, row.input_ids, **call(row))[0, real]
        else:
            alone = logits_of(base, row.input_ids[:, real])[0]
        gap = max(gap, difference(together[i, real], alone))
    return gap


def carried_rounding(base: Any) -> float:
    """How far changes of the embeddings by a millionth carry: far, where a base computes in fewer bits."""
    expected, generator = logits_of(base), torch.Generator().manual_seed(0)

    def shake(_: nn.Module, __: Any, output: Tensor) -> Tensor:
        return output * (1 + 1e-6 * torch.randn(output.shape, generator=generator))

    handle = base.get_input_embeddings().register_forward_hook(shake)
    try:
        return difference(logits_of(base), expected)
    finally:
        handle.remove()


def runs_in_training(base: nn.Module) -> bool:
    """Whether a base's own forward in training mode takes rows of this length."""
    try:
        logits_of(base.train())
    except Exception:
        return False
    return True


def share_of_other_base_answers(base: nn.Module) -> float:
    """The share of prompts whose greedy answer by the base depends on the other rows, or on the cache."""
    from transformers import GenerationConfig

    def answers(prompts: list[list[int]], _: Tensor, use_cache: bool = True) -> list[Response]:
        ids, mask = padded_prompts(prompts)
        config = GenerationConfig(max_new_tokens=8, do_sample=False, pad_token_id=0, use_cache=use_cache)
        output = base.generate(input_ids=ids, attention_mask=mask, generation_config=config)  # type: ignore[operator]
        return [Response(row, finished=False) for row in output[:, ids.shape[1] :].tolist()]

    base.generation_config = GenerationConfig()  # type: ignore[assignment]
    return share_of_other_answers(answers)


def gap_of_base_gradients(make: Factory) -> float:
    """How much the base's own gradients change where activations are computed again."""
    gradients = []
    for is_recomputed in (False, True):
        base: Any = make().train()
        # As below adapters, where the embeddings are frozen.
        base.get_input_embeddings().requires_grad_(False)
        if is_recomputed:
            base.gradient_checkpointing_enable({"use_reentrant": False})
        torch.manual_seed(0)
        base(input_ids=IDS, use_cache=False).logits.square().mean().backward()
        gradients.append(flat_gradients(base.parameters()))
    return difference(*gradients)


def fails_like(error: Exception, make: Factory) -> bool:
    """Whether the base's own activations, computed again, end in an error of the same type."""
    try:
        gap_of_base_gradients(make)
    except Exception as of_base:
        return type(of_base) is type(error)
    return False


def divergence_from_own_forward(make: Factory, sampling: Sampling) -> float:
    """Of what the base says in ``generate``, on a padded batch, from what it says in a forward on each row; in nats."""
    from transformers import GenerationConfig

    base: Any = make()
    base.generation_config = GenerationConfig()
    config = GenerationConfig(
        max_new_tokens=sampling.max_new_tokens,
        do_sample=False,
        pad_token_id=0,
        output_logits=True,
        return_dict_in_generate=True,
    )
    ids, mask = padded_prompts(PROMPTS)
    output = base.generate(input_ids=ids, attention_mask=mask, generation_config=config)
    generated, gap = torch.stack(output.logits, dim=1).float().log_softmax(-1), 0.0
    for i, prompt in enumerate(PROMPTS):
        row = output.sequences[i : i + 1, ids.shape[1] - len(prompt) :]
        forward = logits_of(base, row)[0, len(prompt) - 1 : -1].log_softmax(-1)
        gap = max(gap, (generated[i] - forward).abs().max().item())
    return gap

"""The columns of the matrix: what a conditioned model of any family must do, one function each.

A column takes a factory of plain base models and returns "right", or "base: …" where the base itself lacks the
property. It raises ``Deviation`` for a wrong number; what else it raises is judged by ``outcomes.outcome``.
"""

import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from base_properties import (
    carried_rounding,
    divergence_from_own_forward,
    fails_like,
    gap_of_base_gradients,
    gap_of_rows,
    runs_in_training,
    share_of_other_base_answers,
)
from family_inputs import (
    IDS,
    NAMES,
    PAIRS,
    PREFERENCE,
    PROMPTS,
    RESPONSES,
    ROW_PREFERENCES,
    Factory,
    flat_gradients,
    logits_of,
    share_of_other_answers,
    tokens,
)
from outcomes import Deviation, Warned, difference, verdict, warnings_of_mopref
from tiny_models import VOCABULARY
from torch import Tensor

from mopref import ParetoTrainer, PreferenceModel, SVDLoRAConfig, TrainerConfig
from mopref.llm.data.sequences import Sequences, collate_sequences
from mopref.llm.policy import Policy, Response, Sampling, sample_responses
from mopref.llm.rewards import token_reward
from mopref.objectives import DPO, RLHF
from mopref.scalarizers import Linear

__all__ = ["COLUMNS", "column_of"]

# In nats: of a few tokens, each exact up to rounding.
KL_TOLERANCE = 5e-3


def conditioned(make: Factory, layers: Sequence[int] | None = None) -> PreferenceModel:
    """A model whose adapters are as they start, in evaluation mode."""
    blocks = None if layers is None else tuple(layers)
    config = SVDLoRAConfig(objectives=NAMES, rank=4, preference_rank=2, layers=blocks)
    return PreferenceModel(make(), config).eval()


def randomised(model: PreferenceModel) -> PreferenceModel:
    """The model with random adapters, so that every one of them and λ matter."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for layer in model.adapters.values():
            for parameter, deviation in ((layer.U, 0.2), (layer.sigma, 0.5), (layer.scale, 0.0)):
                parameter.add_(deviation * torch.randn(parameter.shape, generator=generator).to(parameter))
    return model


# Doors of the model itself.


def wrap(make: Factory) -> str:
    """A fresh model is its base; random adapters and λ change it."""
    model = conditioned(make)
    base = logits_of(make())
    if difference(logits_of(model, preferences=PREFERENCE), base) > 0:
        raise Deviation("the model with adapters as they start is not its base")
    randomised(model)
    first, second = (logits_of(model, preferences=preference) for preference in ROW_PREFERENCES[:2])
    if difference(first, base) < 1e-2 or difference(first, second) < 1e-3:
        raise Deviation("adapters or λ change nothing")
    return "right"


def disabled(make: Factory) -> str:
    """With adapters disabled the model is its base, bit for bit."""
    model = randomised(conditioned(make))
    with model.disabled():
        logits = logits_of(model)
    if not logits.equal(logits_of(make())):
        raise Deviation(f"{difference(logits, logits_of(make())):.2g} off from the base")
    return "right"


def rows(make: Factory) -> str:
    """λ by row equals the loop over the rows, on plain and on padded batches."""
    model = randomised(conditioned(make))
    sequences = collate_sequences(PROMPTS, RESPONSES)
    together = logits_of(model, preferences=ROW_PREFERENCES)
    alone = [logits_of(model, IDS[i : i + 1], preferences=ROW_PREFERENCES[i]) for i in range(3)]
    padded = _log_probabilities(model, sequences, ROW_PREFERENCES)
    padded_alone = [
        _log_probabilities(model, sequences.rows(torch.tensor([i])), ROW_PREFERENCES[i : i + 1]) for i in range(3)
    ]
    gap = max(difference(together, torch.cat(alone)), difference(padded, torch.cat(padded_alone)))
    return verdict(gap, lambda: gap_of_rows(make(), sequences, padded=True), "another row in the batch")


def padding(make: Factory) -> str:
    """Each row of a padded batch equals the row alone."""
    model = randomised(conditioned(make))
    gap = 0.0
    together = _log_probabilities(model, collate_sequences(PROMPTS, RESPONSES), ROW_PREFERENCES)
    for i, (prompt, response) in enumerate(zip(PROMPTS, RESPONSES, strict=True)):
        alone = _log_probabilities(model, collate_sequences([prompt], [response]), ROW_PREFERENCES[i : i + 1])
        gap = max(gap, difference(together[i : i + 1, : len(response)], alone))
    sequences = collate_sequences(PROMPTS, RESPONSES)
    return verdict(gap, lambda: gap_of_rows(make(), sequences, padded=False), "padding on the left")


def logprob(make: Factory) -> str:
    """The reference's log-probabilities are those of the base's own plain forward on the row alone."""
    model, base, gap = randomised(conditioned(make)), make(), 0.0
    for prompt, response in zip(PROMPTS, RESPONSES, strict=True):
        ids = torch.tensor([prompt + response])
        plain = logits_of(base, ids)[0, len(prompt) - 1 : -1].log_softmax(-1)
        expected = plain.gather(1, torch.tensor(response).unsqueeze(1)).T
        of_policy = Policy(model).reference_log_probabilities(collate_sequences([prompt], [response]))
        gap = max(gap, difference(of_policy, expected))
    return verdict(gap, lambda: carried_rounding(make()), "rounding")


@torch.no_grad()
def _log_probabilities(model: PreferenceModel, sequences: Sequences, preferences: Tensor) -> Tensor:
    return Policy(model).token_log_probabilities(sequences, preferences)


# Files.


def save_load(make: Factory) -> str:
    """A saved adapter on another copy of the base gives the same logits, bit for bit."""
    model = randomised(conditioned(make))
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        copy = PreferenceModel.load(make(), folder).eval()
    expected = logits_of(model, preferences=PREFERENCE)
    logits = logits_of(copy, preferences=PREFERENCE)
    if not logits.equal(expected):
        raise Deviation(f"{difference(logits, expected):.2g} off after loading")
    return "right"


def merge(make: Factory) -> str:
    """The merged model equals the model at λ, in evaluation and in training mode."""
    model, gap = randomised(conditioned(make)), 0.0
    for training in (False, True) if runs_in_training(make()) else (False,):
        model.train(training)
        merged = model.merge(PREFERENCE).train(training)
        torch.manual_seed(0)
        expected = logits_of(model, preferences=PREFERENCE)
        torch.manual_seed(0)
        gap = max(gap, difference(logits_of(merged), expected))
    return verdict(gap, lambda: carried_rounding(make()), "rounding")


def lora(make: Factory) -> str:
    """An exported LoRA in stock PEFT equals the model at λ."""
    from peft import PeftModel

    model = randomised(conditioned(make))
    with tempfile.TemporaryDirectory() as folder:
        with _refused_by_warning():
            model.export_lora(folder, preference=PREFERENCE)
        plain = PeftModel.from_pretrained(make(), folder).eval()
    expected = logits_of(model, preferences=PREFERENCE)
    return verdict(difference(logits_of(plain), expected), lambda: carried_rounding(make()), "rounding")


def lora_set(make: Factory) -> str:
    """The m + 1 exported LoRAs, put together by PEFT with weights 1 and λ, equal the model at λ."""
    from peft import PeftModel

    model = randomised(conditioned(make))
    with tempfile.TemporaryDirectory() as folder:
        with _refused_by_warning():
            model.export_lora_set(folder)
        plain = PeftModel.from_pretrained(make(), Path(folder) / "shared", adapter_name="shared")
        for name in NAMES:
            plain.load_adapter(str(Path(folder) / name), adapter_name=name)
    weights = [1.0, *PREFERENCE.tolist()]
    plain.add_weighted_adapter(["shared", *NAMES], weights, "together", combination_type="cat")
    plain.set_adapter("together")
    expected = logits_of(model, preferences=PREFERENCE)
    return verdict(difference(logits_of(plain.eval()), expected), lambda: carried_rounding(make()), "rounding")


@contextmanager
def _refused_by_warning() -> Iterator[None]:
    """A warning of mopref within this block counts as a refusal.

    Raises:
        Warned: with the first warning's text.
    """
    with warnings_of_mopref() as texts:
        yield
    if texts:
        raise Warned(texts[0])


# Generation.


def generate(make: Factory) -> str:
    """λ by row, padded on the left, with a cache: the greedy tokens of each row alone, and of no cache."""
    model = randomised(conditioned(make))

    def answers(prompts: list[list[int]], preferences: Tensor, use_cache: bool = True) -> list[Response]:
        sampling = Sampling(max_new_tokens=8, stop_token_ids=())
        return sample_responses(model, prompts, preferences, sampling, greedy=True, use_cache=use_cache)

    return verdict(
        share_of_other_answers(answers), lambda: share_of_other_base_answers(make()), "another row, or no cache,"
    )


# Training.


def dpo(make: Factory) -> str:
    """Three steps of DPO: the first loss is log 2, and every adapter moves or is named in a warning."""
    model = conditioned(make)
    with warnings_of_mopref() as texts:
        history = _train(model, DPO(NAMES), PAIRS, steps=3, batch_size=4)
    if not abs(history[0]["loss"] - math.log(2)) < 1e-3:
        raise Deviation(f"the first loss is {history[0]['loss']:.4f}, not log 2")
    return _adapters_moved(model, texts)


def _train(model: PreferenceModel, objective: Any, data: list[Any], **options: Any) -> list[dict[str, float]]:
    config = TrainerConfig(preferences_per_step=2, log_every=1, progress=False, cpu=True, **options)
    return ParetoTrainer(model, objective, Linear(), train_data=data, config=config).train()


def _adapters_moved(model: PreferenceModel, warnings_given: list[str]) -> str:
    still = [name for name, layer in model.adapters.items() if not layer.U.any()]
    if still and not any(name in text for name in still for text in warnings_given):
        raise Deviation(f"{len(still)} of {len(model.adapters)} adapters did not move, such as {still[0]}")
    return "right"


def half(make: Factory) -> str:
    """A base in bfloat16 keeps float32 adapters and trains."""
    try:
        logits_of(make().to(torch.bfloat16), IDS)
    except Exception as error:
        return f"base: its forward in bfloat16 ends in {type(error).__name__}."
    model = conditioned(lambda: make().to(torch.bfloat16))
    if any(parameter.dtype != torch.float32 for layer in model.adapters.values() for parameter in (layer.U, layer.V)):
        raise Deviation("adapters are not float32")
    with warnings_of_mopref() as texts:
        history = _train(model, DPO(NAMES), PAIRS, steps=1, batch_size=4)
    if not abs(history[0]["loss"] - math.log(2)) < 2e-2:
        raise Deviation(f"the first loss is {history[0]['loss']:.4f}, not log 2")
    return _adapters_moved(model, texts)


def checkpointed(make: Factory) -> str:
    """Gradients with activations that are computed again equal those without, whatever ran in between."""
    if not getattr(make(), "supports_gradient_checkpointing", False):
        return "base: it has no gradient checkpointing."
    plain, recomputed = (randomised(conditioned(make)) for _ in range(2))
    expected = _gradients(plain)
    try:
        recomputed.gradient_checkpointing_enable()
        gap = difference(_gradients(recomputed), expected)
    except Exception as error:
        if fails_like(error, make):
            return f"base: its own gradient checkpointing ends in {type(error).__name__}."
        raise
    return verdict(gap, lambda: gap_of_base_gradients(make), "gradient checkpointing")


def _gradients(model: PreferenceModel) -> Tensor:
    """Of all adapters, as parts of the largest, by rows of different λ; other forwards run before the backward."""
    model.train()
    torch.manual_seed(0)
    loss = model(input_ids=IDS, preferences=ROW_PREFERENCES, use_cache=False).logits.square().mean()
    with torch.no_grad(), model.disabled():
        model(input_ids=IDS[:1], use_cache=False)
    logits_of(model, preferences=ROW_PREFERENCES.flip(0))
    loss.backward()
    return flat_gradients(parameter for layer in model.adapters.values() for parameter in (layer.U, layer.sigma))


def kept(make: Factory) -> str:
    """Kept activations below adapters on the last block change neither the reference nor the margins at λ.

    Where kinds of attention are mixed, the last block's is not the first one's.
    """
    model = randomised(conditioned(make, layers=[-1]))
    objective = DPO(NAMES)
    kept_rows = objective.precompute(model, PAIRS, batch_size=2, frozen_layers=True)
    plain_rows = objective.precompute(model, PAIRS, batch_size=2)
    first, second = (
        torch.tensor([row["reference_log_probabilities"] for row in part]) for part in (kept_rows, plain_rows)
    )
    preferences = torch.cat([ROW_PREFERENCES, ROW_PREFERENCES[:1]])
    with torch.no_grad():
        margins = [objective.margins(model, objective.collate(part), preferences) for part in (kept_rows, plain_rows)]
    gap = max(difference(first, second), difference(*margins))
    return verdict(gap, lambda: gap_of_rows(make(), collate_sequences(PROMPTS, RESPONSES), padded=False), "padding")


def rlhf(make: Factory) -> str:
    """Two steps of PPO: the divergence from the reference is 0 at the first, and adapters move."""
    model = conditioned(make)
    sampling = Sampling(max_new_tokens=6, stop_token_ids=())
    rewards = dict(zip(NAMES, (token_reward(_share_of_even), token_reward(_share_of_small)), strict=True))
    objective = RLHF(rewards, algorithm="ppo", samples_per_prompt=2, sampling=sampling)
    with warnings_of_mopref() as texts:
        _train(model, objective, [{"prompt_ids": ids} for ids in tokens(6, 3, 19, 7, 5)], steps=2, batch_size=4)
    divergence = max(abs(record["kl"]) for record in objective.history[:2])
    if not divergence <= KL_TOLERANCE:
        of_base = divergence_from_own_forward(make, sampling)
        if of_base > KL_TOLERANCE:
            return f"base: its generation and its forward differ by {of_base:.2g} nats."
        raise Deviation(f"the first divergence from the reference is {divergence:.2g} nats")
    return _adapters_moved(model, texts)


def _share_of_even(_: Sequence[Any], responses: Sequence[list[int]]) -> list[float]:
    return [sum(token % 2 == 0 for token in ids) / len(ids) for ids in responses]


def _share_of_small(_: Sequence[Any], responses: Sequence[list[int]]) -> list[float]:
    return [sum(token < VOCABULARY / 2 for token in ids) / len(ids) for ids in responses]


COLUMNS: dict[str, Callable[[Factory], str]] = {
    column.__name__: column
    for column in (
        wrap,
        disabled,
        rows,
        padding,
        logprob,
        save_load,
        merge,
        lora,
        lora_set,
        generate,
        dpo,
        checkpointed,
        kept,
        rlhf,
        half,
    )
}


def column_of(name: str, make: Factory) -> Callable[[], str]:
    """A column on a family's models, to be judged."""
    return partial(COLUMNS[name], make)

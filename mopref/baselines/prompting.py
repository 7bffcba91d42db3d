"""Prompt conditioning: λ as text in the prompt, and a plain LoRA that reads it."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from mopref.argument_kinds import checks_arguments
from mopref.baselines.interfaces import Budget, MethodPolicy
from mopref.baselines.plain_lora import plain_model
from mopref.baselines.runs import Trainings
from mopref.conditioning import PreferenceModel
from mopref.llm.data.chat_template import PairTokenizer
from mopref.llm.data.sequences import Sequences, collate_sequences
from mopref.llm.policy import Policy, Response, Sampling, sample_responses
from mopref.llm.policy.composed import ComposedPolicy
from mopref.llm.policy.padding import padding_traits
from mopref.objective_names import checked_names

__all__ = ["PromptConditioned", "PromptWriter", "prompt_conditioned", "text_writer"]


class PromptWriter:
    """Writes λ into prompts of token ids.

    Args:
        encode: a preference ``(m,)`` to the token ids that say it, one at least.
        place: how many tokens of a prompt come before them; all of a prompt that is shorter.

    Raises:
        ValueError: a place below 0.
    """

    @checks_arguments
    def __init__(self, encode: Callable[[Sequence[float]], Sequence[int]], place: int = 0) -> None:
        self.encode, self.place = encode, place
        if place < 0:
            raise ValueError(f"place is {place}: it is a number of tokens, so it must be ≥ 0.")

    def written(self, prompt_ids: Sequence[int], weights: Sequence[float]) -> list[int]:
        """A prompt that says the preference."""
        start = list(prompt_ids[: self.place])
        return [*start, *self.encode(weights), *prompt_ids[self.place :]]


@checks_arguments(but=("names",))
def text_writer(tokenizer: Any, names: Sequence[str]) -> PromptWriter:
    """Writes ``helpful: 0.25, harmless: 0.75.`` before what the user says first.

    Weights have two digits. What a chat template puts before the user's words stays before them: the place is found by
    two prompts that differ from their first letter on.

    Args:
        tokenizer: a tokenizer of transformers, or a ``PairTokenizer``.
        names: of the m objectives.

    Raises:
        ValueError: a tokenizer by which different weights become the same tokens.
    """
    names, pairs = checked_names(names), PairTokenizer.of(tokenizer)
    first, second = (pairs.prompt_ids(text) for text in ("A", "7"))
    place = next((i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), 0)

    def encode(preference: Sequence[float]) -> list[int]:
        weights = ", ".join(f"{name}: {weight:.2f}" for name, weight in zip(names, preference, strict=True))
        ids: list[int] = pairs.tokenizer(f"{weights}. ", add_special_tokens=False)["input_ids"]
        return ids

    m = len(names)
    if m > 1 and len({tuple(encode(row)) for row in torch.eye(m).tolist()}) < m:
        raise ValueError(
            f"the tokenizer makes the same tokens of {names[0]}: 1.00 and {names[0]}: 0.00, so that no prompt can say "
            "λ: leave the method 'prompt' out, or choose a tokenizer that knows digits."
        )
    return PromptWriter(encode, place)


class PromptConditioned(ComposedPolicy):
    """π(y | λ as text, x) of a model whose weights do not depend on λ.

    The reference is that of every other method, π_ref(y | x) of the prompt without the text.

    Args:
        module: a plain model, see ``plain_model``.
        writer: writes λ into prompts.
    """

    def __init__(self, module: PreferenceModel, writer: PromptWriter) -> None:
        super().__init__(module)
        self.writer = writer

    def forward(self, input_ids: Tensor, preferences: Tensor) -> Any:
        """The model's output for prompts ``(B, T)`` without padding, under ``(B, m)`` or ``(1, m)``, λ among them."""
        rows = preferences.expand(len(input_ids), -1).tolist()
        prompts = [self.writer.written(ids, at) for ids, at in zip(input_ids.tolist(), rows, strict=True)]
        longest = max(map(len, prompts))
        padded = torch.tensor([[0] * (longest - len(ids)) + ids for ids in prompts], device=input_ids.device)
        mask = torch.tensor([[0] * (longest - len(ids)) + [1] * len(ids) for ids in prompts], device=input_ids.device)
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0) + padding_traits(self.module).position_offset
        return self.module(padded, attention_mask=mask, position_ids=positions, preferences=preferences)

    def composed_log_probabilities(self, sequences: Sequences, preferences: Tensor, sampling: Sampling) -> Tensor:
        """Those of the responses behind the prompts that say λ, ``(N, R)``; differentiable."""
        count, columns = sequences.response_mask.shape
        rows = preferences.expand(count, -1)
        prompts, responses = [], []
        for ids, mask, of_response, at in zip(
            sequences.input_ids.tolist(),
            sequences.attention_mask.tolist(),
            sequences.response_lengths.tolist(),
            rows.tolist(),
            strict=True,
        ):
            real = [token for token, is_real in zip(ids, mask, strict=True) if is_real]
            prompts.append(self.writer.written(real[: len(real) - of_response], at))
            responses.append(real[len(real) - of_response :])
        longer = collate_sequences(prompts, responses).to(sequences.input_ids.device)
        policy = Policy(self.module, sampling)
        policy.check_lengths(longer.attention_mask.sum(dim=1).tolist(), "with λ in its prompt, row")
        own = policy.token_log_probabilities(longer, preferences)
        return pad(own, (0, columns - own.shape[1]))

    def composed_responses(
        self, prompt_ids: Sequence[Sequence[int]], preferences: Tensor, sampling: Sampling, greedy: bool
    ) -> list[Response]:
        """Responses to the prompts that say λ."""
        rows = preferences.expand(len(prompt_ids), -1).tolist()
        prompts = [self.writer.written(ids, at) for ids, at in zip(prompt_ids, rows, strict=True)]
        return sample_responses(self.module, prompts, preferences, sampling, greedy=greedy)


def prompt_conditioned(trainings: Trainings, writer: PromptWriter) -> MethodPolicy:
    """DPO with λ in the prompt: one plain LoRA for all preferences, which the setup's sampler draws.

    Args:
        trainings: of the comparison.
        writer: writes λ into prompts.
    """
    setup = trainings.setup

    def make() -> PromptConditioned:
        return PromptConditioned(plain_model(setup.make_model, setup.adapter), writer)

    trained = trainings.trained("prompt", make_model=make)
    model = make()
    trained.put_into(model.module)
    # A plain LoRA stores what it trains.
    budget = Budget.of([trained.cost], trained.cost.trained_parameters)
    example = writer.encode(torch.full((len(setup.names),), 1 / len(setup.names)).tolist())
    return MethodPolicy("prompt", model, budget, {"tokens_of_preference": len(example)})

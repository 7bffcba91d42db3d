"""Responses of a preference-conditioned language model, each prompt under a preference of its own."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from mopref._progress import progress_bar
from mopref.conditioning.preference_model import PreferenceModel
from mopref.evaluation_mode import evaluation_mode
from mopref.llm.data.chat_template import PairTokenizer

__all__ = [
    "Answer",
    "Response",
    "Sampling",
    "answer_prompts",
    "sample_responses",
    "stop_tokens",
]


@dataclass(frozen=True)
class Sampling:
    """How responses are sampled.

    The distribution sampled from is softmax(logits / temperature), without stop tokens in the first ``min_new_tokens``
    places. Training computes the log-probabilities of exactly this distribution, unless ``top_p`` < 1: then they are
    those of the distribution before its tail was cut off, and policy gradients are biased.

    Args:
        max_new_tokens: tokens after which a response is cut, a stop token counted.
        min_new_tokens: tokens that come before a stop token at the earliest.
        temperature: > 0; 1 for the model's own distribution.
        top_p: sample among the fewest tokens with this probability together, in (0, 1]; 1 for all.
        stop_token_ids: tokens that end a response; ``None`` for the tokenizer's (its end of turn and end of sequence),
            and ``()`` for none, so that every response has ``max_new_tokens`` tokens.

    Raises:
        ValueError: a value out of its range, named.
    """

    max_new_tokens: int = 64
    min_new_tokens: int = 0
    temperature: float = 1.0
    top_p: float = 1.0
    stop_token_ids: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens is {self.max_new_tokens}: a response has at least 1 token.")
        if not 0 <= self.min_new_tokens <= self.max_new_tokens:
            raise ValueError(
                f"min_new_tokens is {self.min_new_tokens}: it lies in 0 … max_new_tokens = {self.max_new_tokens}."
            )
        if not (self.temperature > 0 and math.isfinite(self.temperature)):
            raise ValueError(f"temperature is {self.temperature}: it must be positive and finite.")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is {self.top_p}: it is a probability in (0, 1].")
        if self.stop_token_ids is not None:
            object.__setattr__(self, "stop_token_ids", tuple(int(token) for token in self.stop_token_ids))


class Response(NamedTuple):
    """A sampled response: its token ids, a stop token at the end included, and whether it ended by itself.

    ``finished`` is false where the response was cut after ``max_new_tokens``; without stop tokens that is its end.
    """

    ids: list[int]
    finished: bool

    @property
    def content(self) -> list[int]:
        """The ids without the stop token."""
        return self.ids[:-1] if self.finished else self.ids


class Answer(NamedTuple):
    """A generated answer: its text, and its length in tokens without the end-of-turn token."""

    text: str
    num_tokens: int


def stop_tokens(tokenizer: Any) -> tuple[int, ...]:
    """The tokens that end a response: the chat template's end of turn and the end of a sequence."""
    ends = {*PairTokenizer(tokenizer).end_of_turn[-1:]}
    if tokenizer.eos_token_id is not None:
        ends.add(int(tokenizer.eos_token_id))
    return tuple(sorted(ends))


def sample_responses(
    model: PreferenceModel,
    prompt_ids: Sequence[Sequence[int]],
    preferences: Tensor | None,
    sampling: Sampling,
    samples_per_prompt: int = 1,
    *,
    greedy: bool = False,
    **generate_options: Any,
) -> list[Response]:
    """S responses to each of B prompts under its own preference, sampled in one padded batch with a cache.

    The settings are those of ``sampling`` alone: what the model's own ``generation_config`` holds (a top-k, a
    repetition penalty) would be another distribution than the one that is trained.

    Args:
        model: the conditioned model; dropout is off.
        prompt_ids: B lists of token ids.
        preferences: ``(B, m)``, or ``(1, m)`` for all; ``None`` within ``model.disabled()``.
        sampling: the settings; ``stop_token_ids`` must be given.
        samples_per_prompt: S.
        greedy: take the likeliest token at each place instead of sampling.
        **generate_options: for transformers' ``generate``, over the settings above.

    Returns:
        B·S responses, those of one prompt together. Randomness comes from PyTorch's global generator.

    Raises:
        ValueError: no prompt or an empty one, stop tokens that are not given, or preferences that fit neither all nor
            each.
    """
    stops = sampling.stop_token_ids
    if stops is None:
        raise ValueError("stop_token_ids is None: give those of the tokenizer, stop_tokens(tokenizer), or () for none.")
    if not prompt_ids or any(len(ids) == 0 for ids in prompt_ids):
        raise ValueError(f"{len(prompt_ids)} prompts: give at least one, each of at least one token.")
    if preferences is not None and len(preferences) not in (1, len(prompt_ids)):
        raise ValueError(
            f"{len(prompt_ids)} prompts and {len(preferences)} preferences: give one for each prompt, or one."
        )
    longest = max(len(ids) for ids in prompt_ids)
    rows = [torch.as_tensor(ids, dtype=torch.int64) for ids in prompt_ids]
    input_ids = torch.stack([nn.functional.pad(row, (longest - len(row), 0)) for row in rows])
    attention_mask = torch.stack([(torch.arange(longest) >= longest - len(row)).long() for row in rows])
    device = next(model.parameters()).device
    options: dict[str, Any] = {
        "max_new_tokens": sampling.max_new_tokens,
        "min_new_tokens": sampling.min_new_tokens or None,
        "do_sample": not greedy,
        "num_return_sequences": samples_per_prompt,
        "eos_token_id": list(stops) or None,
        "pad_token_id": stops[0] if stops else 0,
        "use_cache": True,
    }
    if not greedy:
        options |= {"temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0}
    with evaluation_mode(model), torch.no_grad(), _own_generation_config(model, options) as config:
        output = model.generate(
            input_ids=input_ids.to(device),
            attention_mask=attention_mask.to(device),
            preferences=preferences,
            generation_config=config,
            **generate_options,
        )
    return [_cut(row, set(stops)) for row in output[:, longest:].tolist()]


def _cut(ids: list[int], stops: set[int]) -> Response:
    end = next((position for position, token in enumerate(ids) if token in stops), None)
    return Response(ids, finished=False) if end is None else Response(ids[: end + 1], finished=True)


@contextmanager
def _own_generation_config(model: PreferenceModel, options: dict[str, Any]) -> Iterator[Any]:
    """A configuration with these options and nothing else, in place of the base model's own while the block runs."""
    from transformers import GenerationConfig

    base = cast(Any, model.base_model)
    before = base.generation_config
    # The model's own is set aside too, since transformers fills in from it what is not set.
    base.generation_config = GenerationConfig()
    try:
        yield GenerationConfig(**options)
    finally:
        base.generation_config = before


def answer_prompts(
    model: PreferenceModel,
    tokenizer: Any,
    prompts: Sequence[str | Sequence[Mapping[str, str]]],
    preferences: Tensor | None,
    max_new_tokens: int | None = None,
    sampling: Sampling | None = None,
    progress: bool = False,
    **generate_options: Any,
) -> list[Answer]:
    """One answer to each prompt under its preference, all in one padded batch.

    Args:
        model: the conditioned model.
        tokenizer: a transformers tokenizer; its chat template is used where it has one.
        prompts: N texts or lists of chat messages.
        preferences: ``(N, m)``, or ``(1, m)`` for all; ``None`` within ``model.disabled()``.
        max_new_tokens: the most tokens of an answer, for greedy decoding; 64 by default.
        sampling: sample with these settings; greedy decoding by default.
        progress: show a progress bar.
        **generate_options: for transformers' ``generate``, over the settings above.

    Raises:
        ValueError: no prompt, as many preferences as fit neither all nor each, or a number of tokens beside sampling
            settings, which have one.
    """
    if sampling is not None and max_new_tokens is not None:
        raise ValueError(
            f"max_new_tokens is {max_new_tokens} beside sampling, which has {sampling.max_new_tokens}: give it there."
        )
    settings = sampling or Sampling(max_new_tokens=64 if max_new_tokens is None else max_new_tokens)
    if settings.stop_token_ids is None:
        settings = replace(settings, stop_token_ids=stop_tokens(tokenizer))
    layout = PairTokenizer(tokenizer)
    prompt_ids = [layout.prompt_ids(prompt) for prompt in prompts]
    generate_options["greedy"] = sampling is None
    with progress_bar(None, "answering", enabled=progress, total=settings.max_new_tokens, unit="token") as bar:
        if progress:

            def count(input_ids: Tensor, scores: Tensor) -> Tensor:
                bar.update()
                return scores

            generate_options["logits_processor"] = [*generate_options.get("logits_processor", ()), count]
        responses = sample_responses(model, prompt_ids, preferences, settings, **generate_options)
    return [
        Answer(tokenizer.decode(response.content, skip_special_tokens=True).strip(), len(response.content))
        for response in responses
    ]

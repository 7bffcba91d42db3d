"""Responses of a preference-conditioned language model, each prompt under a preference of its own."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self, cast

import torch
from torch import Tensor, nn

from mopref._progress import progress_bar
from mopref._repr import short_repr
from mopref.argument_kinds import checks_arguments
from mopref.conditioning.preference_model import PreferenceModel
from mopref.evaluation_mode import evaluation_mode
from mopref.llm.data.chat_template import PairTokenizer
from mopref.llm.data.length_limits import prompt_ids_in_row
from mopref.llm.data.prompts import prompt_list
from mopref.llm.policy.model_kind import refuse_no_generation, refuse_other_kinds
from mopref.llm.policy.padding import equal_groups, padding_traits
from mopref.llm.policy.positions import check_lengths
from mopref.llm.policy.token_check import check_stop_tokens, token_counts
from mopref.preferences import validate_preferences
from mopref.setting_types import checked_count, python_values, set_python_values

__all__ = [
    "Answer",
    "Response",
    "Sampling",
    "answer_prompts",
    "cut_response",
    "preference_rows",
    "prompt_groups",
    "sample_responses",
    "stop_tokens",
    "stop_tokens_of",
]


@dataclass(frozen=True)
class Sampling:
    """How responses are sampled.

    The distribution sampled from is softmax(logits / temperature) over the vocabulary, without stop tokens in the first
    ``min_new_tokens`` places. Training computes the log-probabilities of exactly this distribution, unless ``top_p``
    < 1: then they are those of the distribution before its tail was cut off, and policy gradients are biased.

    Many models have more logits than their tokenizer has tokens. Rollouts and answers are sampled over the tokenizer's
    own, so that no response holds a token that has no text.

    Args:
        max_new_tokens: tokens after which a response is cut, a stop token counted.
        min_new_tokens: tokens that come before a stop token at the earliest.
        temperature: > 0; 1 for the model's own distribution.
        top_p: sample among the fewest tokens with this probability together, in (0, 1]; 1 for all.
        stop_token_ids: tokens that end a response; ``None`` for the tokenizer's (its end of turn and end of sequence)
            and those that the model's ``generation_config`` names, and ``()`` for none, so that every response has
            ``max_new_tokens`` tokens.
        vocabulary: the ids that may be sampled, as rising ranges with gaps between them; ``None`` for the tokenizer's,
            or all where there is no tokenizer.
        model_stops: whether tokens that the model's ``generation_config`` names end a response beside
            ``stop_token_ids``.

    Raises:
        ValueError: a value out of its range, named.
        TypeError: a value of another type, named.

    Example:
        >>> Sampling(vocabulary=(range(0, 3), range(4, 6))).absent_tokens(8)
        [3, 6, 7]
    """

    max_new_tokens: int = 64
    min_new_tokens: int = 0
    temperature: float = 1.0
    top_p: float = 1.0
    stop_token_ids: tuple[int, ...] | None = None
    vocabulary: tuple[range, ...] | None = None
    model_stops: bool = False

    def __post_init__(self) -> None:
        set_python_values(self, int, "max_new_tokens", "min_new_tokens")
        set_python_values(self, float, "temperature", "top_p")
        set_python_values(self, bool, "model_stops")
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
            object.__setattr__(self, "stop_token_ids", python_values(self.stop_token_ids, int, "stop_token_ids"))
        if self.vocabulary is not None:
            self._check_vocabulary(self.vocabulary)

    def for_tokenizer(self, tokenizer: Any) -> Self:
        """These settings with what they leave to the tokenizer, or ``PairTokenizer``: stop tokens and vocabulary.

        Raises:
            ValueError: a stop token that the tokenizer lacks.
        """
        settings = self
        if settings.stop_token_ids is None:
            settings = replace(settings, stop_token_ids=stop_tokens(tokenizer), model_stops=True)
        if settings.vocabulary is None:
            settings = replace(settings, vocabulary=_vocabulary(getattr(tokenizer, "tokenizer", tokenizer)))
        return settings

    def for_model(self, base_model: nn.Module) -> Self:
        """These settings with the stop tokens that they leave to the model; with ``model_stops`` only."""
        if not self.model_stops:
            return self
        stops = {*(self.stop_token_ids or ()), *(stop for stop in stop_tokens_of(base_model) if self._holds(stop))}
        return replace(self, stop_token_ids=tuple(sorted(stops)), model_stops=False)

    @property
    def vocabulary_end(self) -> int | None:
        """One more than the largest id of the vocabulary; ``None`` without one."""
        return None if self.vocabulary is None else self.vocabulary[-1].stop

    def absent_tokens(self, num_logits: int) -> list[int]:
        """The ids below ``num_logits`` that are not sampled, since they are not in the vocabulary."""
        if self.vocabulary is None:
            return []
        starts = [0, *(part.stop for part in self.vocabulary)]
        stops = [*(part.start for part in self.vocabulary), num_logits]
        gaps = zip(starts, stops, strict=True)
        return [token for start, stop in gaps for token in range(start, min(stop, num_logits))]

    def _holds(self, token: int) -> bool:
        return self.vocabulary is None or any(token in part for part in self.vocabulary)

    def _check_vocabulary(self, parts: tuple[range, ...]) -> None:
        if not isinstance(parts, tuple | list) or not all(isinstance(part, range) for part in parts):
            raise TypeError(f"vocabulary is {short_repr(parts)}: give a tuple of ranges, such as (range(0, 32000),).")
        edges = [edge for part in parts for edge in (part.start, part.stop)]
        if not parts or any(part.step != 1 for part in parts) or edges != sorted({*edges}):
            raise ValueError(f"vocabulary is {parts}: give rising ranges of ids with gaps between them.")
        stop = next((token for token in self.stop_token_ids or () if not self._holds(token)), None)
        if stop is not None:
            raise ValueError(
                f"stop_token_ids holds {stop}, which is not in the tokenizer's vocabulary, so it would never be "
                "sampled: give ids of the tokenizer's tokens."
            )


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


@checks_arguments
def stop_tokens(tokenizer: Any, model: nn.Module | None = None) -> tuple[int, ...]:
    """The tokens that end a response: the chat template's end of turn and the end of a sequence.

    Args:
        tokenizer: a tokenizer of transformers, or a ``PairTokenizer``.
        model: a language model, conditioned or not: the ends that its ``generation_config`` names are there, too.
    """
    pairs = PairTokenizer.of(tokenizer)
    ends = {*pairs.end_of_turn[-1:]}
    if pairs.tokenizer.eos_token_id is not None:
        ends.add(int(pairs.tokenizer.eos_token_id))
    if model is not None:
        ends |= {*stop_tokens_of(model.base_model if isinstance(model, PreferenceModel) else model)}
    return tuple(sorted(ends))


def stop_tokens_of(base_model: nn.Module) -> list[int]:
    """The ends of a response that a model's ``generation_config`` names: none, one or several."""
    ends = getattr(getattr(base_model, "generation_config", None), "eos_token_id", None)
    if ends is None:
        return []
    # Negative numbers are some configurations' way to say none.
    return [int(end) for end in torch.as_tensor(ends).reshape(-1).tolist() if end >= 0]


def _vocabulary(tokenizer: Any) -> tuple[range, ...] | None:
    """The ids that a tokenizer has a text for, as ranges; ``None`` if it does not tell."""
    if not hasattr(tokenizer, "get_vocab"):
        return None
    ids = sorted({*tokenizer.get_vocab().values()})
    edges = [place for place in range(1, len(ids)) if ids[place] != ids[place - 1] + 1]
    bounds = zip([0, *edges], [*edges, len(ids)], strict=True)
    return tuple(range(ids[start], ids[stop - 1] + 1) for start, stop in bounds)


@checks_arguments(but=("prompt_ids",))
def sample_responses(
    model: PreferenceModel,
    prompt_ids: Sequence[Sequence[int]],
    preferences: Any,
    sampling: Sampling,
    samples_per_prompt: int = 1,
    *,
    greedy: bool = False,
    **generate_options: Any,
) -> list[Response]:
    """S responses to each of B prompts under its own preference, sampled in one padded batch with a cache.

    A model that does not bear padding on the left is given the prompts of one length at a time.

    The settings are those of ``sampling`` alone: what the model's own ``generation_config`` holds (a top-k, a
    repetition penalty) would be another distribution than the one that is trained. Only the ends that it names are
    asked for, where ``sampling.model_stops`` says so.

    Args:
        model: the conditioned model; dropout is off.
        prompt_ids: B lists of token ids.
        preferences: ``(B, m)``, or ``(m,)`` or ``(1, m)`` for all, or by name; ``None`` within ``model.disabled()``.
        sampling: the settings; ``stop_token_ids`` must be given.
        samples_per_prompt: S.
        greedy: take the likeliest token at each place instead of sampling.
        **generate_options: for transformers' ``generate``, over the settings above.

    Returns:
        B·S responses, those of one prompt together. Randomness comes from PyTorch's global generator.

    Raises:
        ValueError: no prompt or an empty one, one prompt instead of a list, texts instead of ids, stop tokens that are
            not given or none of which the model has, preferences that fit neither all nor each, prompts of other tokens
            than the model's or too long for it, or a model that is no causal language model.
    """
    if sampling.stop_token_ids is None:
        raise ValueError("stop_token_ids is None: give those of the tokenizer, stop_tokens(tokenizer), or () for none.")
    refuse_other_kinds(model.base_model)
    refuse_no_generation(model.base_model)
    checked_count(samples_per_prompt, "samples_per_prompt")
    sampling = sampling.for_model(model.base_model)
    check_stop_tokens(model.base_model, sampling.stop_token_ids or ())
    prompt_ids = _id_lists(prompt_ids)
    counts = token_counts(model.base_model, [{"prompt_ids": ids} for ids in prompt_ids], ("prompt_ids",), "prompt")
    check_lengths(model.base_model, [tokens for (tokens,) in counts], "prompt", sampling.max_new_tokens)
    preferences = preference_rows(model, preferences, len(prompt_ids))
    responses: dict[int, list[Response]] = {}
    for places in prompt_groups(model, prompt_ids):
        own = preferences if preferences is None or len(preferences) == 1 else preferences[places]
        drawn = _sample(
            model, [prompt_ids[place] for place in places], own, sampling, samples_per_prompt, greedy, generate_options
        )
        responses |= {
            place: drawn[number * samples_per_prompt :][:samples_per_prompt] for number, place in enumerate(places)
        }
    return [response for place in range(len(prompt_ids)) for response in responses[place]]


def prompt_groups(model: PreferenceModel, prompt_ids: Sequence[Sequence[int]]) -> list[list[int]]:
    """The places of prompts that one batch can hold: all, or those of one length for a model that bears no padding."""
    lengths = [len(ids) for ids in prompt_ids]
    if len(set(lengths)) == 1 or padding_traits(model).left:
        return [list(range(len(lengths)))]
    return equal_groups(lengths)


def _sample(
    model: PreferenceModel,
    prompt_ids: Sequence[Sequence[int]],
    preferences: Tensor | None,
    sampling: Sampling,
    samples_per_prompt: int,
    greedy: bool,
    generate_options: Mapping[str, Any],
) -> list[Response]:
    """The responses to the prompts of one batch."""
    stops = sampling.stop_token_ids or ()
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
    processors = [_VocabularyMask(sampling), *(generate_options.get("logits_processor") or ())]
    # In turn, since for the time of it the model has other settings.
    own_config = _own_generation_config(model, options)
    with model.state.turn, evaluation_mode(model), torch.no_grad(), own_config as config:
        output = model.generate(
            input_ids=input_ids.to(device),
            attention_mask=attention_mask.to(device),
            preferences=preferences,
            generation_config=config,
            **{**generate_options, "logits_processor": processors},
        )
    return [cut_response(row, set(stops)) for row in output[:, longest:].tolist()]


class _VocabularyMask:
    """A logits processor that forbids the tokens that are not in the vocabulary."""

    def __init__(self, sampling: Sampling) -> None:
        self.sampling = sampling
        self._absent: Tensor | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        if self._absent is None:
            self._absent = torch.tensor(
                self.sampling.absent_tokens(scores.shape[-1]), dtype=torch.int64, device=scores.device
            )
        return scores.index_fill(-1, self._absent, -torch.inf) if len(self._absent) else scores


def _id_lists(prompt_ids: Any) -> list[Sequence[int]]:
    """The ids of each prompt, checked to be those of several prompts."""
    if not isinstance(prompt_ids, Iterable) or getattr(prompt_ids, "ndim", 1) == 0:
        raise TypeError(f"prompt_ids is {short_repr(prompt_ids)}: give a list of lists of token ids.")
    rows: list[Any] = list(prompt_ids)
    for number, ids in enumerate(rows):
        if isinstance(ids, str | Mapping):
            raise ValueError(f"prompt_ids, row {number}, is a {type(ids).__name__}: give a list of lists of token ids.")
        if not hasattr(ids, "__len__") or getattr(ids, "ndim", 1) == 0:
            raise ValueError("prompt_ids is the ids of a single prompt: give a list of them, [ids] for one.")
    if not rows or any(len(ids) == 0 for ids in rows):
        raise ValueError(f"{len(rows)} prompts: give at least one, each of at least one token.")
    return rows


def preference_rows(model: PreferenceModel, preferences: Any, num_prompts: int) -> Tensor | None:
    """One preference for each prompt, or one for all, as a matrix.

    Raises:
        ValueError: preferences that do not lie on the simplex, or fit neither all prompts nor each.
    """
    if preferences is None:
        return None
    rows = validate_preferences(preferences, model.objectives)
    if len(rows) not in (1, num_prompts):
        raise ValueError(f"{num_prompts} prompts and {len(rows)} preferences: give one for each prompt, or one.")
    return rows


def cut_response(ids: list[int], stops: set[int]) -> Response:
    """Sampled ids up to their first stop token, that one included."""
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


@checks_arguments(but=("prompts",))
def answer_prompts(
    model: PreferenceModel,
    tokenizer: Any,
    prompts: Sequence[str | Sequence[Mapping[str, str]]],
    preferences: Any,
    max_new_tokens: int | None = None,
    sampling: Sampling | None = None,
    progress: bool = False,
    **generate_options: Any,
) -> list[Answer]:
    """One answer to each prompt under its preference, all in one padded batch.

    An answer ends at the tokenizer's end of turn or end of sequence, or at an end that the model's
    ``generation_config`` names, and holds tokens of the tokenizer only.

    Args:
        model: the conditioned model.
        tokenizer: a tokenizer of transformers, or a ``PairTokenizer``; its chat template is used where it has one.
        prompts: N texts or lists of chat messages.
        preferences: ``(N, m)``, or ``(m,)`` or ``(1, m)`` for all, or by name; ``None`` within ``model.disabled()``.
        max_new_tokens: the most tokens of an answer, for greedy decoding; 64 by default.
        sampling: sample with these settings; greedy decoding by default.
        progress: show a progress bar.
        **generate_options: for transformers' ``generate``, over the settings above.

    Raises:
        ValueError: a single text or dialogue instead of a list, no prompt, an empty or malformed one, one that ends
            with the assistant's message or that the chat template refuses (the row is named), as many preferences as
            fit neither all nor each, prompts too long for the model, or a number of tokens beside sampling settings,
            which have one.
    """
    if sampling is not None and max_new_tokens is not None:
        raise ValueError(
            f"max_new_tokens is {max_new_tokens} beside sampling, which has {sampling.max_new_tokens}: give it there."
        )
    rows = prompt_list(prompts)
    pairs = PairTokenizer.of(tokenizer)
    settings = sampling or Sampling(max_new_tokens=64 if max_new_tokens is None else max_new_tokens)
    settings = settings.for_tokenizer(pairs)
    prompt_ids = [prompt_ids_in_row(pairs, prompt, number) for number, prompt in enumerate(rows)]
    generate_options["greedy"] = sampling is None
    total = settings.max_new_tokens * len(prompt_groups(model, prompt_ids))
    with progress_bar(None, "answering", enabled=progress, total=total, unit="token") as bar:
        if progress:

            def count(input_ids: Tensor, scores: Tensor) -> Tensor:
                bar.update()
                return scores

            generate_options["logits_processor"] = [*generate_options.get("logits_processor", ()), count]
        responses = sample_responses(model, prompt_ids, preferences, settings, **generate_options)
    return [
        Answer(pairs.tokenizer.decode(response.content, skip_special_tokens=True).strip(), len(response.content))
        for response in responses
    ]

"""One batch of requests that are being answered, a token at a time, each under its own preference.

Rows join and leave between two tokens. A row's tokens are those that it would get alone: its neighbours, and the empty
columns on its left, are hidden from it, and its preference is that of its row in every adapted layer.
"""

import inspect
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mopref.conditioning import PreferenceModel
from mopref.llm.policy import Sampling
from mopref.llm.policy.model_kind import refuse_no_generation, refuse_other_kinds
from mopref.llm.policy.padding import padding_traits
from mopref.serving.cache_rows import cache_of, cache_option, is_joinable, joined_rows, kept_rows
from mopref.serving.token_choice import Choice, chosen_tokens

__all__ = ["DecodingBatch", "DecodingRequest", "can_join"]


@dataclass(frozen=True)
class DecodingRequest:
    """What one row of a batch is asked.

    Attributes:
        prompt_ids: the tokens of the prompt, at least one.
        preference: λ, one weight for each objective.
        max_new_tokens: after which it leaves.
        strength: what ΔW is multiplied with; 1 is the model as it was trained.
        temperature: 0 for the likeliest token at each place.
        top_p: sample among the fewest tokens with this probability together.
        seed: of the row's own randomness; ``None`` for any.
    """

    prompt_ids: tuple[int, ...]
    preference: tuple[float, ...]
    max_new_tokens: int
    strength: float = 1.0
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None


class _Row(NamedTuple):
    request: DecodingRequest
    choice: Choice


def can_join(model: PreferenceModel) -> bool:
    """Whether rows of this model can join a batch that is under way and leave it, with the same tokens as alone.

    It bears padding on the left, and its cache holds keys and values of all tokens; tried on two tokens.
    """
    if not padding_traits(model).left:
        return False
    trial = DecodingBatch(model, Sampling(stop_token_ids=()))
    weights = (1.0, *(0.0 for _ in model.objectives[1:]))
    trial.join([DecodingRequest((0, 0), weights, 1)])
    return is_joinable(trial.cache)


class DecodingBatch:
    """The rows that are being answered, and their cache.

    Args:
        model: the conditioned model, in evaluation mode; called without gradients.
        sampling: which tokens may be chosen (its ``vocabulary``); all else is the requests' own.

    Attributes:
        rows: the requests, in the order of the cache's rows.
        cache: of transformers; ``None`` for an empty batch.

    Raises:
        ValueError: a model that is no causal language model, or takes no cache.
    """

    def __init__(self, model: PreferenceModel, sampling: Sampling) -> None:
        refuse_other_kinds(model.base_model)
        refuse_no_generation(model.base_model)
        self._model, self._sampling = model, sampling
        self._option = cache_option(model.base_model)
        self._offset = padding_traits(model).position_offset
        known = inspect.signature(model.base_model.forward).parameters
        self._options = {"logits_to_keep": 1} if "logits_to_keep" in known else {}
        self._absent: Tensor | None = None
        self.cache: Any = None
        self._rows: list[_Row] = []
        # Of each row the empty columns on its left, and the token that it is shown next; of all rows the columns.
        self._empty = self._next = torch.zeros(0, dtype=torch.int64, device=model.device)
        self._columns = 0

    @property
    def rows(self) -> list[DecodingRequest]:
        """The requests that are being answered."""
        return [row.request for row in self._rows]

    def join(self, requests: Sequence[DecodingRequest]) -> list[int]:
        """Run the prompts of new rows, which come behind those that are there; the first token of each.

        An error leaves the batch as it was.
        """
        rows = [_Row(each, Choice(each.temperature, each.top_p, _generator(each.seed))) for each in requests]
        lengths = torch.tensor([len(each.prompt_ids) for each in requests])
        columns = int(lengths.max())
        ids = torch.stack(
            [
                nn.functional.pad(torch.tensor(each.prompt_ids, dtype=torch.int64), (columns - len(each.prompt_ids), 0))
                for each in requests
            ]
        )
        empty = (columns - lengths).to(self._model.device)
        places = torch.arange(columns, device=empty.device)
        with self._in_force(rows) as base:
            output = self._forward(base, ids.to(empty.device), (places - empty[:, None]).clamp(min=0), empty)
        tokens, cache = self._tokens(output, rows), cache_of(output)
        if self._rows:
            cache = joined_rows(self.cache, cache)
            total = max(columns, self._columns)
            empty = torch.cat([self._empty + (total - self._columns), empty + (total - columns)])
            columns = total
        self._next = torch.cat([self._next, torch.tensor(tokens, device=empty.device)])
        self.cache, self._columns, self._empty, self._rows = cache, columns, empty, self._rows + rows
        return tokens

    def keep(self, places: Sequence[int]) -> None:
        """Let all rows leave but these."""
        if len(places) == len(self._rows):
            return
        rows = torch.tensor(places, dtype=torch.int64, device=self._empty.device)
        empty = self._empty[rows]
        unused = int(empty.min()) if places else 0
        cache = kept_rows(self.cache, rows, self._columns - unused) if places else None
        self.cache, self._empty, self._next = cache, empty - unused, self._next[rows]
        self._columns = self._columns - unused if places else 0
        self._rows = [self._rows[place] for place in places]

    @contextmanager
    def in_force(self) -> Iterator[nn.Module]:
        """Within this block the rows' preferences are in force; none joins or leaves."""
        with self._in_force(self._rows) as base:
            yield base

    def step(self, base: nn.Module) -> list[int]:
        """The next token of each row; ``base`` is what :meth:`in_force` yields.

        After an error the batch cannot go on.
        """
        positions = (self._columns - self._empty)[:, None]
        output = self._forward(base, self._next[:, None], positions, self._empty, **{self._option: self.cache})
        self.cache, self._columns = cache_of(output), self._columns + 1
        tokens = self._tokens(output, self._rows)
        self._next = torch.tensor(tokens, device=self._empty.device)
        return tokens

    @contextmanager
    def _in_force(self, rows: Sequence[_Row]) -> Iterator[nn.Module]:
        preferences = torch.tensor([row.request.preference for row in rows], dtype=torch.float64)
        strengths = [row.request.strength for row in rows]
        own = None if all(strength == 1 for strength in strengths) else strengths
        with self._model.decoding(preferences, len(rows), own) as base, torch.no_grad():
            yield base

    def _forward(self, base: nn.Module, ids: Tensor, positions: Tensor, empty: Tensor, **cache: Any) -> Any:
        # Attention without a mask takes a shorter way.
        mask = None
        if empty.any():
            columns = torch.arange(ids.shape[1] + (self._columns if cache else 0), device=empty.device)
            mask = (columns >= empty[:, None]).long()
        positions = positions + self._offset
        return base(
            input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=True, **self._options, **cache
        )

    def _tokens(self, output: Any, rows: Sequence[_Row]) -> list[int]:
        logits = output.logits[:, -1].float()
        if self._absent is None:
            absent = self._sampling.absent_tokens(logits.shape[-1])
            self._absent = torch.tensor(absent, dtype=torch.int64, device=logits.device)
        if len(self._absent):
            logits = logits.index_fill(-1, self._absent, -torch.inf)
        return chosen_tokens(logits, [row.choice for row in rows])


def _generator(seed: int | None) -> random.Random:
    """A row's own randomness; another one for each seed, where Python takes −1 for 1."""
    return random.Random(seed if seed is None or seed >= 0 else str(seed))

"""Samples with what the model said of each token when it drew it: no forward is needed to know it later."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from mopref.conditioning.preference_model import PreferenceModel
from mopref.llm.policy.generation import Response, Sampling, preference_rows, prompt_groups, sample_responses
from mopref.llm.policy.log_probabilities import TokenOutputs, selected_log_probabilities
from mopref.setting_types import checked_count

__all__ = ["Samples", "sample_with_outputs", "watch_head"]


class Samples(NamedTuple):
    """N sampled responses of R tokens at most, and what the model said of them.

    Attributes:
        responses: N responses, those of one prompt together.
        outputs: log-probabilities of the distribution sampled from (before top-p), and where asked for what the output
            head saw; on the model's device, without gradients.
    """

    responses: list[Response]
    outputs: TokenOutputs


def sample_with_outputs(
    model: PreferenceModel,
    prompt_ids: Sequence[Sequence[int]],
    preferences: Any,
    sampling: Sampling,
    samples_per_prompt: int = 1,
    *,
    with_head_inputs: bool = False,
) -> Samples:
    """The responses of ``sample_responses``, with their log-probabilities.

    They equal those of a forward on the finished sequences up to rounding.

    Args:
        model: the conditioned model; dropout is off.
        prompt_ids: B lists of token ids.
        preferences: ``(B, m)``, or ``(1, m)`` for all, or by name; ``None`` within ``model.disabled()``.
        sampling: the settings; ``stop_token_ids`` must be given.
        samples_per_prompt: S.
        with_head_inputs: keep what the output head sees, too.

    Raises:
        ValueError: as ``sample_responses``; head inputs of a model that does not name its output head; or a model that
            gives other logits for padded rows.
    """
    checked_count(samples_per_prompt, "samples_per_prompt")
    preferences = preference_rows(model, preferences, len(prompt_ids))
    groups = prompt_groups(model, prompt_ids)
    if len(groups) > 1:
        options: dict[str, Any] = {"with_head_inputs": with_head_inputs}
        return _sample_in_groups(model, prompt_ids, groups, preferences, sampling, samples_per_prompt, options)
    record = _TokenRecord(sampling.temperature)
    head_inputs: list[Tensor] = []
    with model.state.turn, watch_head(model.base_model, head_inputs) if with_head_inputs else nullcontext():
        responses = sample_responses(
            model, prompt_ids, preferences, sampling, samples_per_prompt, logits_processor=[record]
        )
    log_probabilities = record.log_probabilities(responses)
    # A prompt's forward may show the head all of its columns: the last one predicts.
    predicting = torch.cat([states[:, -1:] for states in head_inputs], dim=1) if with_head_inputs else None
    columns = log_probabilities.shape[1]
    return Samples(responses, TokenOutputs(log_probabilities, None if predicting is None else predicting[:, :columns]))


def _sample_in_groups(
    model: PreferenceModel,
    prompt_ids: Sequence[Sequence[int]],
    groups: Sequence[Sequence[int]],
    preferences: Tensor | None,
    sampling: Sampling,
    samples_per_prompt: int,
    options: dict[str, Any],
) -> Samples:
    """The same, from prompts of one length at a time, which need no padding."""
    responses: dict[int, Response] = {}
    outputs: dict[int, tuple[Tensor, Tensor | None]] = {}
    for places in groups:
        own = preferences if preferences is None or len(preferences) == 1 else preferences[places]
        prompts = [prompt_ids[place] for place in places]
        samples = sample_with_outputs(model, prompts, own, sampling, samples_per_prompt, **options)
        rows = [place * samples_per_prompt + sample for place in places for sample in range(samples_per_prompt)]
        states = samples.outputs.head_inputs
        responses |= zip(rows, samples.responses, strict=True)
        outputs |= {
            row: (samples.outputs.log_probabilities[index], None if states is None else states[index])
            for index, row in enumerate(rows)
        }
    ordered = [outputs[row] for row in range(len(outputs))]
    head_inputs = [states for _, states in ordered if states is not None]
    return Samples(
        [responses[row] for row in range(len(responses))],
        TokenOutputs(
            pad_sequence([values for values, _ in ordered], batch_first=True),
            pad_sequence(head_inputs, batch_first=True) if head_inputs else None,
        ),
    )


class _TokenRecord:
    """A logits processor that changes nothing and remembers the log-probability of every token that was drawn.

    It sees the logits after stop tokens and tokens that the tokenizer lacks were forbidden, and before temperature and
    top-p. A token is known when the next one is asked for, so that logits ``(N, V)`` of one column are held at a time.
    """

    def __init__(self, temperature: float) -> None:
        self.temperature = temperature
        self._columns: list[Tensor] = []
        self._logits: Tensor | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        if self._logits is not None:
            self._add(self._logits, input_ids[:, -1])
        self._logits = scores
        return scores

    def _add(self, logits: Tensor, tokens: Tensor) -> None:
        self._columns.append(selected_log_probabilities(logits, tokens, self.temperature))

    def log_probabilities(self, responses: Sequence[Response]) -> Tensor:
        """``(N, R)``, 0 after a response's end."""
        assert self._logits is not None
        lengths = torch.tensor([[len(response.ids)] for response in responses], device=self._logits.device)
        columns = int(lengths.max())
        if len(self._columns) < columns:
            # Of the last column's token only the responses tell; where they ended before, any token will do.
            last = [response.ids[columns - 1] if len(response.ids) == columns else 0 for response in responses]
            self._add(self._logits, torch.tensor(last, device=self._logits.device))
        values = torch.stack(self._columns[:columns], dim=1)
        return torch.where(torch.arange(columns, device=values.device) < lengths, values, torch.zeros_like(values))


@contextmanager
def watch_head(base: nn.Module, inputs: list[Tensor]) -> Iterator[None]:
    """Within this block, what enters the output head at each forward is appended to ``inputs``, ``(N, T, H)`` each.

    Raises:
        ValueError: a model that does not name its output head.
    """
    find_head = getattr(base, "get_output_embeddings", None)
    head = None if find_head is None else find_head()
    if head is None:
        raise ValueError(f"{type(base).__name__} does not name its output head (get_output_embeddings).")
    handle = head.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[0]))
    try:
        yield
    finally:
        handle.remove()

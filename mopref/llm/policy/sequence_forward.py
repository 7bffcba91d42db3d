"""One forward of a language model on sequences, and what it says of their responses' tokens."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mopref.conditioning.adapter_layer import AdapterLayer
from mopref.conditioning.preference_model import PreferenceModel
from mopref.conditioning.preference_state import PreferenceState
from mopref.llm.data.sequences import Sequences
from mopref.llm.policy.frozen_layers import skip_lower_layers
from mopref.llm.policy.generation import Sampling
from mopref.llm.policy.log_probabilities import TokenOutputs, selected_log_probabilities
from mopref.llm.policy.output_head import LogitsChange, Targets, replaced_head, target_log_probabilities
from mopref.llm.policy.packing import PackedSequences, attention_mask, block_mask
from mopref.llm.policy.samples import watch_head
from mopref.mixed_precision import mixed_precision_in_force

__all__ = ["SequenceForward"]

_HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


class SequenceForward(NamedTuple):
    """How a language model is run.

    Attributes:
        model: the model, or what accelerate wraps around it.
        conditioned: the preference model in it; ``None`` for a model without preferences.
        base: the language model of transformers in it.
        sampling: the distribution whose log-probabilities are asked for.
        position_offset: the first token's position.
    """

    model: nn.Module
    conditioned: PreferenceModel | None
    base: nn.Module
    sampling: Sampling
    position_offset: int = 0

    @property
    def activation_dtype(self) -> torch.dtype:
        """The type of the activations that attention sees, here and now."""
        own = next(each for each in self.base.parameters() if each.is_floating_point())
        in_force = mixed_precision_in_force(own.device)
        return getattr(self.base, "dtype", own.dtype) if in_force is None else _HALF[in_force]

    def with_logits(self, sequences: Sequences, preferences: Any, with_head_inputs: bool = False) -> TokenOutputs:
        """From the logits of the columns that predict response tokens, which all are made.

        Args:
            sequences: N of them.
            preferences: ``(N, m)``, or ``(1, m)`` for all; ``None`` for a model without any, or with its adapters off.
            with_head_inputs: also what the output head sees.
        """
        columns = sequences.response_mask.shape[1]
        head_inputs: list[Tensor] = []
        watched = watch_head(self.base, head_inputs) if with_head_inputs else nullcontext()
        with self._skipping(sequences.lower_hidden_states), watched:
            output = self._run(sequences, preferences, self._kept_columns(columns))
        # The column before a token predicts it; the last column predicts nothing that is known.
        predicting = slice(-columns - 1, -1)
        # Logits behind the vocabulary are left out by a view; masked, all of them would be copied.
        logits = output.logits[:, predicting, : self.sampling.vocabulary_end]
        log_probabilities = selected_log_probabilities(
            logits, sequences.targets, self.sampling.temperature, self._forbidden(logits.shape[-1], columns, logits)
        )
        return TokenOutputs(
            torch.where(sequences.response_mask, log_probabilities, torch.zeros_like(log_probabilities)),
            head_inputs[-1][:, predicting] if with_head_inputs else None,
        )

    def without_logits(
        self,
        sequences: Sequences,
        preferences: Tensor | None,
        with_head_inputs: bool,
        change: LogitsChange,
        packed: PackedSequences | None,
    ) -> TokenOutputs:
        """The same from the response tokens alone, a few at a time, so that no logits are kept.

        Args:
            sequences: N of them.
            preferences: as above, checked.
            with_head_inputs: as above.
            change: what the model does to its logits.
            packed: the sequences in rows that are run in their place.
        """
        mask, head = sequences.response_mask, self.base.get_output_embeddings()  # type: ignore[operator]
        owners, columns = mask.nonzero(as_tuple=True)
        width = int(head.out_features)
        forbidden = self._forbidden(width, mask.shape[1], sequences.input_ids)
        targets = Targets(
            sequences.targets[mask], columns, self.sampling.temperature, self.sampling.vocabulary_end, forbidden
        )
        # A head without an adapter asks for no preference.
        own = preferences if preferences is None or len(preferences) == 1 else preferences[owners]
        own = own if isinstance(head, AdapterLayer) else None
        state = self.conditioned.state if self.conditioned is not None else PreferenceState()
        found: list[tuple[Tensor, Tensor]] = []

        def use(hidden: Tensor, forward: Any) -> None:
            predicting = hidden[:, -mask.shape[1] - 1 : -1][mask] if packed is None else _picked(hidden, packed)
            values = target_log_probabilities(predicting, targets, head, forward, change, state, own)
            found.append((values, predicting))

        states = sequences.lower_hidden_states
        if states is not None and packed is not None:
            states = packed.gathered(states)
        # In this order, since what the frozen blocks are like may be learned in a forward.
        with self._skipping(states), replaced_head(head, use):
            if packed is None:
                output = self._run(sequences, preferences, self._kept_columns(mask.shape[1]))
            else:
                output = self._run_packed(sequences, packed)
        if len(found) != 1:
            raise ValueError(f"{type(self.base).__name__} calls its output head {len(found)} times in a forward.")
        values, predicting = found[0]
        if self.model is not self.conditioned:
            # What distributes a model watches its output for the backward pass.
            values = values + 0.0 * output.logits.float().sum()
        return TokenOutputs(_in_places(values, mask), _in_places(predicting, mask) if with_head_inputs else None)

    def _run(self, sequences: Sequences, preferences: Any, options: dict[str, Any]) -> Any:
        given = {} if preferences is None else {"preferences": preferences}
        return self.model(
            input_ids=sequences.input_ids,
            attention_mask=sequences.attention_mask,
            position_ids=sequences.position_ids + self.position_offset,
            use_cache=False,
            **given,
            **options,
        )

    def _run_packed(self, sequences: Sequences, packed: PackedSequences) -> Any:
        given: dict[str, Any] = {}
        if packed.preferences is not None:
            given["preferences"] = packed.preferences
            if len(packed.preferences) > 1:
                given["preference_indices"] = packed.preference_indices
        return self.model(
            input_ids=packed.gathered(sequences.input_ids),
            attention_mask=self._mask(packed),
            position_ids=packed.position_ids + self.position_offset,
            use_cache=False,
            **given,
        )

    def _mask(self, packed: PackedSequences) -> Any:
        """Which token sees which, in the form that the model's attention takes."""
        implementation = getattr(getattr(self.base, "config", None), "_attn_implementation", None)
        return (
            block_mask(packed) if implementation == "flex_attention" else attention_mask(packed, self.activation_dtype)
        )

    def _kept_columns(self, columns: int) -> dict[str, int]:
        """The option by which a model makes logits for its last columns only, where it has it."""
        has_it = "logits_to_keep" in inspect.signature(self.base.forward).parameters
        return {"logits_to_keep": columns + 1} if has_it else {}

    def _forbidden(self, num_logits: int, columns: int, like: Tensor) -> Tensor | None:
        """Absent tokens, and stop tokens in the first ``min_new_tokens`` places: ``(R, V)`` bool, ``None`` for none."""
        if self.sampling.vocabulary_end is not None:
            num_logits = min(num_logits, self.sampling.vocabulary_end)
        earliest = self.sampling.min_new_tokens
        absent = self.sampling.absent_tokens(num_logits)
        stops = [stop for stop in self.sampling.stop_token_ids or () if stop < num_logits] if earliest else []
        if not absent and not stops:
            return None
        forbidden = torch.zeros(columns, num_logits, dtype=torch.bool, device=like.device)
        forbidden[:, absent] = True
        forbidden[:earliest, stops] = True
        return forbidden

    @contextmanager
    def _skipping(self, states: Tensor | None) -> Iterator[None]:
        """Within this block what was kept of the blocks below the first adapter is used, where it was."""
        if states is None or self.conditioned is None:
            yield
        else:
            with skip_lower_layers(self.conditioned, states):
                yield


def _picked(hidden: Tensor, packed: PackedSequences) -> Tensor:
    """The hidden states that predict response tokens, ``(T, H)``."""
    return hidden.flatten(0, 1).index_select(0, packed.predicting)


def _in_places(values: Tensor, mask: Tensor) -> Tensor:
    """What belongs to response tokens ``(T, …)``, where they stand: ``(N, R, …)``, 0 where a response is padded."""
    result = values.new_zeros(*mask.shape, *values.shape[1:])
    return result.masked_scatter(mask.view(*mask.shape, *[1] * (values.ndim - 1)), values)

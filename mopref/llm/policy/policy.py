"""Policy: the one door to a language model.

What has to be known of a model to train it lives behind this door: which part of it is wrapped by accelerate and which
is the ``PreferenceModel``, how the reference is had from it, which columns of logits are needed, what the sampling
settings do to a distribution, and which blocks are frozen. Objectives ask a policy; they never look into a model.
"""

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Self

import torch
from torch import Tensor, nn

from mopref.conditioning.preference_model import PreferenceModel
from mopref.evaluation_mode import evaluation_mode
from mopref.llm.data.sequences import Sequences
from mopref.llm.policy.frozen_layers import (
    check_frozen_layers,
    first_adapted_block,
    lower_hidden_states,
    skip_lower_layers,
)
from mopref.llm.policy.generation import Sampling
from mopref.llm.policy.log_probabilities import TokenOutputs, selected_log_probabilities
from mopref.llm.policy.padding import position_offset, refuse_encoder_decoder
from mopref.llm.policy.samples import Samples, sample_with_outputs, watch_head

__all__ = ["KEPT_ACTIVATIONS", "Policy"]

# The most bytes of activations that are kept where that is left to us.
KEPT_ACTIVATIONS = 2 * 1024**3


class Policy:
    """π(y|x; λ), the distribution over responses of a preference-conditioned language model.

    Args:
        model: a ``PreferenceModel``, or what accelerate wraps around it; where only log-probabilities without a
            preference are asked for, any causal language model of transformers.
        sampling: the settings that responses are sampled with: log-probabilities are then those of exactly this
            distribution (before top-p). ``None`` for the model's own.
    """

    def __init__(self, model: nn.Module, sampling: Sampling | None = None) -> None:
        self.model = model
        self.sampling = sampling or Sampling(stop_token_ids=())
        self._conditioned = _preference_model(model)
        refuse_encoder_decoder(self._base)

    @property
    def conditioned(self) -> PreferenceModel:
        """The preference model itself, without what accelerate wraps around it.

        Raises:
            TypeError: the model is no preference model.
        """
        if self._conditioned is None:
            raise TypeError(
                "the reference, sampling, frozen layers and a critic need a PreferenceModel, whose adapters can be "
                f"disabled, but the model is a {type(self.model).__name__}: wrap it as PreferenceModel(model, "
                "SVDLoRAConfig(…))."
            )
        return self._conditioned

    @property
    def _base(self) -> nn.Module:
        """The language model of transformers itself."""
        return self.model if self._conditioned is None else self._conditioned.base_model

    @property
    def device(self) -> torch.device:
        """Where the model's parameters are."""
        return next(self.model.parameters()).device

    @property
    def hidden_size(self) -> int:
        """H, the width of what the output head sees."""
        return int(self.conditioned.config.get_text_config().hidden_size)

    # Log-probabilities.

    def token_outputs(
        self, sequences: Sequences, preferences: Tensor | None, with_head_inputs: bool = False
    ) -> TokenOutputs:
        """Log-probabilities of every response token and, where asked for, what the output head sees.

        One forward, differentiable. Logits are made at the columns that predict response tokens only, never for the
        prompt.

        Args:
            sequences: N sequences.
            preferences: ``(N, m)``, or ``(1, m)`` for all; ``None`` for a model without preferences, or within
                :meth:`reference`.
            with_head_inputs: also what the output head sees.
        """
        base, positions = self._base, sequences.position_ids
        if self._conditioned is not None:
            positions = positions + position_offset(self._conditioned)
        columns = sequences.response_mask.shape[1]
        options: dict[str, Any] = {} if preferences is None else {"preferences": preferences}
        if "logits_to_keep" in inspect.signature(base.forward).parameters:
            options["logits_to_keep"] = columns + 1
        head_inputs: list[Tensor] = []
        with self._skipping(sequences), watch_head(base, head_inputs) if with_head_inputs else nullcontext():
            output = self.model(
                input_ids=sequences.input_ids,
                attention_mask=sequences.attention_mask,
                position_ids=positions,
                use_cache=False,
                **options,
            )
        # The column before a token predicts it; the last column predicts nothing that is known.
        predicting = slice(-columns - 1, -1)
        log_probabilities = selected_log_probabilities(
            output.logits[:, predicting],
            sequences.targets,
            self.sampling.temperature,
            self._forbidden(output.logits, columns),
        )
        return TokenOutputs(
            torch.where(sequences.response_mask, log_probabilities, torch.zeros_like(log_probabilities)),
            head_inputs[-1][:, predicting] if with_head_inputs else None,
        )

    def token_log_probabilities(self, sequences: Sequences, preferences: Tensor | None = None) -> Tensor:
        """log π(y_t | x, y_<t; λ) of every response token, ``(N, R)``; 0 where a response is padded."""
        return self.token_outputs(sequences, preferences).log_probabilities

    def sequence_log_probabilities(self, sequences: Sequences, preferences: Tensor | None = None) -> Tensor:
        """log π(y | x; λ) = Σ_t log π(y_t | x, y_<t; λ), summed over response tokens: ``(N,)``."""
        return self.token_log_probabilities(sequences, preferences).sum(dim=1)

    def reference_log_probabilities(self, sequences: Sequences) -> Tensor:
        """log π_ref of every response token: adapters disabled, evaluation mode, no gradients; ``(N, R)``.

        Raises:
            TypeError: the model is no preference model, so there is no reference.
        """
        with self.reference() as reference, torch.no_grad():
            return reference.token_log_probabilities(sequences)

    @contextmanager
    def reference(self) -> Iterator[Self]:
        """Within this block the policy is the reference π_ref: adapters disabled, evaluation mode, no preferences."""
        with evaluation_mode(self.conditioned), self.conditioned.disabled():
            yield type(self)(self.conditioned, self.sampling)

    @contextmanager
    def without_dropout(self) -> Iterator[None]:
        """Evaluation mode; not where activations are checkpointed, which transformers does in training mode only."""
        checkpoints = any(getattr(part, "gradient_checkpointing", False) for part in self.conditioned.modules())
        with nullcontext() if checkpoints else evaluation_mode(self.conditioned):
            yield

    def _forbidden(self, logits: Tensor, columns: int) -> Tensor | None:
        """Stop tokens in the first ``min_new_tokens`` places, ``(R, V)`` bool."""
        if not (self.sampling.min_new_tokens and self.sampling.stop_token_ids):
            return None
        forbidden = torch.zeros(columns, logits.shape[-1], dtype=torch.bool, device=logits.device)
        forbidden[: self.sampling.min_new_tokens, list(self.sampling.stop_token_ids)] = True
        return forbidden

    @contextmanager
    def _skipping(self, sequences: Sequences) -> Iterator[None]:
        """Within this block what was kept of the blocks below the first adapter is used, where it was."""
        if sequences.lower_hidden_states is None:
            yield
        else:
            with skip_lower_layers(self.conditioned, sequences.lower_hidden_states):
                yield

    # Sampling.

    def sample(
        self,
        prompt_ids: Sequence[Sequence[int]],
        preferences: Tensor | None,
        samples_per_prompt: int,
        with_head_inputs: bool = False,
    ) -> Samples:
        """S responses to each of B prompts, with their log-probabilities; see ``sample_with_outputs``."""
        return sample_with_outputs(
            self.conditioned,
            prompt_ids,
            preferences,
            self.sampling,
            samples_per_prompt,
            with_head_inputs=with_head_inputs,
        )

    # Frozen layers.

    def keeps_lower_layers(self, tokens: int, most_bytes: int = KEPT_ACTIVATIONS) -> bool:
        """Whether activations of so many tokens are worth keeping: some blocks are frozen, and memory suffices."""
        try:
            frozen_blocks = first_adapted_block(self.conditioned)
        except ValueError:  # An adapter outside the blocks.
            return False
        size = tokens * self.hidden_size * next(self.conditioned.parameters()).element_size()
        return frozen_blocks > 0 and size <= most_bytes

    def with_lower_hidden_states(self, sequences: Sequences) -> Sequences:
        """The sequences with what enters the first adapted block, so that the blocks below it are not run again.

        Exact, unless these blocks drop units in training; takes (tokens × hidden size) numbers a sequence.

        Raises:
            ValueError: a model whose lower blocks cannot be computed apart. Blocks like Llama's can.
        """
        return sequences._replace(lower_hidden_states=lower_hidden_states(self.conditioned, sequences))

    def check_frozen_layers(self, sequences: Sequences) -> None:
        """Compare the model's output on the longest sequence with that from its kept activations.

        Raises:
            ValueError: the two differ, or the lower blocks cannot be computed apart.
        """
        check_frozen_layers(self.conditioned, self.with_lower_hidden_states(sequences))

    # Parts trained beside the adapters.

    def companion(self, name: str) -> nn.Module | None:
        """A part of that name that is trained beside the adapters, such as a critic; ``None`` if there is none."""
        companions = self.conditioned.companions
        return companions[name] if name in companions else None

    def add_companion(self, name: str, part: nn.Module) -> None:
        """Put a part beside the adapters: it is trained, moved and checkpointed with them."""
        self.conditioned.companions[name] = part.to(self.device)


def _preference_model(model: nn.Module) -> PreferenceModel | None:
    """The preference model inside what accelerate wraps around it for distributed runs; ``None`` if there is none."""
    inner: Any = model
    while not isinstance(inner, PreferenceModel):
        # What distributes a model holds it under the first name, what compiles one under the second.
        inner = getattr(inner, "module", getattr(inner, "_orig_mod", None))
        if not isinstance(inner, nn.Module):
            return None
    return inner

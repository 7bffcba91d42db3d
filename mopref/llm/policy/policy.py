"""Policy: the one door to a language model.

What has to be known of a model to train it lives behind this door: which part of it is wrapped by accelerate and which
is the ``PreferenceModel``, how the reference is had from it, which columns of logits are needed, what the sampling
settings do to a distribution, and which blocks are frozen. Objectives ask a policy; they never look into a model.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from mopref._tables import has_column
from mopref.argument_kinds import checks_arguments
from mopref.conditioning.preference_model import PreferenceModel
from mopref.evaluation_mode import evaluation_mode
from mopref.llm.data.sequences import Sequences, collate_sequences
from mopref.llm.policy.composed import ComposedPolicy
from mopref.llm.policy.forward_traits import forward_traits, tell_plain_rows
from mopref.llm.policy.frozen_layers import check_frozen_layers, first_adapted_block, lower_hidden_states
from mopref.llm.policy.generation import Sampling, preference_rows
from mopref.llm.policy.log_probabilities import TokenOutputs
from mopref.llm.policy.model_kind import refuse_no_generation, refuse_other_kinds
from mopref.llm.policy.packing import pack
from mopref.llm.policy.padding import equal_groups, padding_traits
from mopref.llm.policy.positions import check_lengths, check_one_scaling
from mopref.llm.policy.row_origin import check_row_origin, weights_digest
from mopref.llm.policy.samples import Samples, sample_with_outputs
from mopref.llm.policy.sequence_forward import SequenceForward
from mopref.llm.policy.token_check import Vocabulary, check_stop_tokens, token_counts
from mopref.preferences import validate_preferences

__all__ = ["KEPT_ACTIVATIONS", "Policy"]

# The most bytes of activations that are kept where that is left to us.
KEPT_ACTIVATIONS = 2 * 1024**3


class Policy:
    """π(y|x; λ), the distribution over responses of a preference-conditioned language model.

    Args:
        model: a ``PreferenceModel``, or what accelerate wraps around it; a ``ComposedPolicy``; or, where only
            log-probabilities without a preference are asked for, any causal language model of transformers.
        sampling: the settings that responses are sampled with: log-probabilities are then those of exactly this
            distribution (before top-p). ``None`` for the model's own.
    """

    @checks_arguments
    def __init__(self, model: nn.Module, sampling: Sampling | None = None) -> None:
        self.model = model
        self._composed = _composed_policy(model)
        self._conditioned = _preference_model(model)
        self.sampling = (sampling or Sampling(stop_token_ids=())).for_model(self._base)
        refuse_other_kinds(self._base)

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
    def _turn(self) -> AbstractContextManager[Any]:
        """Within this context no other thread runs a forward, and sees what is put into the model for one."""
        return nullcontext() if self._conditioned is None else self._conditioned.state.turn

    @property
    def device(self) -> torch.device:
        """Where the model's parameters are."""
        return next(self.model.parameters()).device

    @property
    def hidden_size(self) -> int:
        """H, the width of what the output head sees."""
        head = self.conditioned.base_model.get_output_embeddings()  # type: ignore[operator]
        width = getattr(head, "in_features", None)
        return int(self.conditioned.config.get_text_config().hidden_size if width is None else width)

    @property
    def num_logits(self) -> int:
        """V, how many tokens the model has logits for; some may be none of the tokenizer's.

        Raises:
            ValueError: a model that tells no such number.
        """
        size = Vocabulary.of(self._base).predictions
        if size is None:
            raise ValueError(f"{type(self._base).__name__} does not tell the size of its vocabulary.")
        return size

    # Rows.

    @checks_arguments
    def check_lengths(self, lengths: Sequence[int], what: str = "row", new_tokens: int = 0) -> None:
        """Refuse rows longer than the model has positions for, or such that their neighbours would change.

        Args:
            lengths: the tokens of each row.
            what: the rows' name, for the message.
            new_tokens: how many more are sampled to each at most.

        Raises:
            ValueError: the longest row, with its tokens and the limit.

        Warns:
            UserWarning: once a model, where it has positions beyond its limit, but was not made for them.
        """
        check_one_scaling(self._base, lengths, what, new_tokens)
        check_lengths(self._base, lengths, what, new_tokens)

    @checks_arguments
    def token_counts(self, data: Sequence[Any], columns: Sequence[str], what: str = "row") -> list[tuple[int, ...]]:
        """The number of tokens in each of these columns of each row, all of which the model has.

        Raises:
            ValueError: a row with another token, or with something else than a list of them; see ``token_counts``.
        """
        return token_counts(self._base, data, columns, what)

    @checks_arguments
    def checked_lengths(self, data: Sequence[Any], responses: Sequence[str], what: str = "row") -> list[int]:
        """The tokens of each row's longest sequence, all of which the model has, and positions for them.

        Args:
            data: rows with ``prompt_ids``.
            responses: the columns of their responses.
            what: the rows' name, for the message.

        Raises:
            ValueError: such a row; see :meth:`token_counts` and :meth:`check_lengths`.
        """
        if not responses:
            raise ValueError("responses are empty: name a column of responses at least.")
        counts = self.token_counts(data, ("prompt_ids", *responses), what)
        lengths = [prompt + max(of_responses) for prompt, *of_responses in counts]
        self.check_lengths(lengths, what)
        if self._conditioned is not None and lengths:
            tell_plain_rows(self._conditioned, max(lengths))
        return lengths

    @checks_arguments
    def check_prompts(self, data: Sequence[Any]) -> None:
        """Refuse prompts that cannot be answered: of other tokens than the model's, or too long.

        Args:
            data: rows with ``prompt_ids``.

        Raises:
            ValueError: such a row, stop tokens that the model cannot predict, or a model that generates nothing.
        """
        refuse_no_generation(self._base)
        check_stop_tokens(self._base, self.sampling.stop_token_ids or ())
        counts = self.token_counts(data, ("prompt_ids",), "prompt")
        self.check_lengths([tokens for (tokens,) in counts], "prompt", self.sampling.max_new_tokens)

    def check_origin(self, data: Sequence[Any], what: str, with_states: bool = False) -> None:
        """Refuse rows with numbers that another model computed; see ``check_row_origin``.

        Not where the weights are spread over processes, or the model is no preference model.

        Args:
            data: rows.
            what: what was computed.
            with_states: whether that is what enters the first adapted block.

        Raises:
            ValueError: the first such row, with both models.
        """
        is_whole = not any(hasattr(parameter, "placements") for parameter in self._base.parameters())
        if self._conditioned is not None and is_whole and has_column(data, f"{what}_model"):
            check_row_origin(data, what, self.origin(with_states))

    def origin(self, with_states: bool = False) -> str:
        """Which base model this is, and where asked for which of its blocks is the first adapted one."""
        base = f"the base of weights {weights_digest(self.conditioned.base_model)}"
        return f"{base}, adapted from block {first_adapted_block(self.conditioned)} on" if with_states else base

    # Log-probabilities.

    def token_outputs(self, sequences: Sequences, preferences: Any, with_head_inputs: bool = False) -> TokenOutputs:
        """Log-probabilities of every response token and, where asked for, what the output head sees.

        One forward, differentiable. Sequences are packed where the model allows it, those of one prompt and one
        preference behind a single copy of it, and no logits are kept; see ``packing`` and ``output_head``.

        Args:
            sequences: N sequences.
            preferences: ``(N, m)``, ``(1, m)`` for all, or by name; ``None`` for a model without any, or within
                :meth:`reference`.
            with_head_inputs: also what the output head sees.
        """
        if self._conditioned is None:
            return self._forward().with_logits(sequences, preferences, with_head_inputs)
        model = self._conditioned
        if self._composed is not None:
            return self._composed_outputs(self._composed, sequences, preferences, with_head_inputs)
        with self._turn:
            padding, traits = padding_traits(model), forward_traits(model)
            forward = self._forward(padding.position_offset)
            if preferences is not None:
                preferences = validate_preferences(preferences, model.objectives).to(sequences.input_ids.device)
            packed = pack(sequences, preferences, traits.longest_row) if traits.packs else None
            if packed is None and not padding.left and sequences.left_padding.any():
                return self._outputs_in_groups(sequences, preferences, with_head_inputs)
            if traits.change is None:
                return forward.with_logits(sequences, preferences, with_head_inputs)
            return forward.without_logits(sequences, preferences, with_head_inputs, traits.change, packed)

    def _composed_outputs(
        self, composed: ComposedPolicy, sequences: Sequences, preferences: Any, with_head_inputs: bool = False
    ) -> TokenOutputs:
        if with_head_inputs:
            raise ValueError(f"a {type(composed).__name__} has no head inputs of its own: leave with_head_inputs off.")
        rows = validate_preferences(preferences, composed.module.objectives).to(sequences.input_ids.device)
        with self._turn:
            return TokenOutputs(composed.composed_log_probabilities(sequences, rows, self.sampling), None)

    def _forward(self, position_offset: int = 0) -> SequenceForward:
        return SequenceForward(self.model, self._conditioned, self._base, self.sampling, position_offset)

    def _outputs_in_groups(self, sequences: Sequences, preferences: Any, with_head_inputs: bool) -> TokenOutputs:
        """The same, from sequences with prompts of one length at a time, which need no padding on the left."""
        parts, places = [], []
        for group in equal_groups(sequences.left_padding.tolist()):
            rows = torch.tensor(group, device=sequences.input_ids.device)
            own = preferences if preferences is None or len(preferences) == 1 else preferences[rows]
            parts.append(self.token_outputs(sequences.rows(rows).without_left_padding(), own, with_head_inputs))
            places.append(rows)
        order = torch.cat(places).argsort()
        states = [part.head_inputs for part in parts if part.head_inputs is not None]
        return TokenOutputs(
            torch.cat([part.log_probabilities for part in parts])[order], torch.cat(states)[order] if states else None
        )

    def token_log_probabilities(self, sequences: Sequences, preferences: Any = None) -> Tensor:
        """log π(y_t | x, y_<t; λ) of every response token, ``(N, R)``; 0 where a response is padded."""
        return self.token_outputs(sequences, preferences).log_probabilities

    def sequence_log_probabilities(self, sequences: Sequences, preferences: Any = None) -> Tensor:
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
        with self.conditioned.disabled(), evaluation_mode(self.conditioned):
            yield type(self)(self.conditioned, self.sampling)

    @contextmanager
    def without_dropout(self) -> Iterator[None]:
        """Evaluation mode; not where activations are checkpointed, which transformers does in training mode only."""
        checkpoints = any(getattr(part, "gradient_checkpointing", False) for part in self.conditioned.modules())
        with nullcontext() if checkpoints else evaluation_mode(self.conditioned):
            yield

    # Sampling.

    @checks_arguments
    def sample(
        self,
        prompt_ids: Sequence[Sequence[int]],
        preferences: Any,
        samples_per_prompt: int,
        with_head_inputs: bool = False,
    ) -> Samples:
        """S responses to each of B prompts, with their log-probabilities; see ``sample_with_outputs``.

        Raises:
            ValueError: as that, or prompts that cannot be answered; see :meth:`check_prompts`.
        """
        model = self.conditioned
        self.check_prompts([{"prompt_ids": ids} for ids in prompt_ids])
        # A model that is no causal language model is told here, before it answers.
        padding_traits(model)
        if self._composed is not None:
            return self._composed_samples(self._composed, prompt_ids, preferences, samples_per_prompt, with_head_inputs)
        return sample_with_outputs(
            model,
            prompt_ids,
            preferences,
            self.sampling,
            samples_per_prompt,
            with_head_inputs=with_head_inputs,
        )

    def _composed_samples(
        self,
        composed: ComposedPolicy,
        prompt_ids: Sequence[Sequence[int]],
        preferences: Any,
        samples_per_prompt: int,
        with_head_inputs: bool,
    ) -> Samples:
        rows = preference_rows(composed.module, preferences, len(prompt_ids))
        if rows is None or self.sampling.stop_token_ids is None:
            raise ValueError("preferences or stop_token_ids are None: give both, so that it is known what to sample.")
        repeated = [ids for ids in prompt_ids for _ in range(samples_per_prompt)]
        rows = rows if len(rows) == 1 else rows.repeat_interleave(samples_per_prompt, dim=0)
        with self._turn, evaluation_mode(composed), torch.no_grad():
            responses = composed.composed_responses(repeated, rows, self.sampling, False)
            sequences = collate_sequences(repeated, [response.ids for response in responses]).to(self.device)
            return Samples(responses, self._composed_outputs(composed, sequences, rows, with_head_inputs))

    # Frozen layers.

    def settled_frozen_layers(
        self, frozen_layers: bool | Literal["auto"], tokens: int, longest: Sequences | None
    ) -> bool:
        """Whether what enters the first adapted block is kept, compared before on one sequence.

        Args:
            frozen_layers: "auto" for where some blocks are frozen, memory suffices, and the comparison holds.
            tokens: of all rows.
            longest: the sequence of the comparison; ``None`` where there is no row.

        Raises:
            ValueError: another choice; or ``True`` for a model that it does not fit, such as one whose first block is
                adapted.
        """
        if frozen_layers not in (True, False, "auto"):
            raise ValueError(f"frozen_layers is {frozen_layers!r}: choose True, False or 'auto'.")
        if not frozen_layers or (frozen_layers == "auto" and not self.keeps_lower_layers(tokens)):
            return False
        try:
            if longest is not None:
                self.check_frozen_layers(longest)
        except ValueError:
            if frozen_layers == "auto":
                return False
            raise
        return True

    def keeps_lower_layers(self, tokens: int, most_bytes: int = KEPT_ACTIVATIONS) -> bool:
        """Whether activations of so many tokens are worth keeping: some blocks are frozen, and memory suffices."""
        try:
            frozen_blocks = first_adapted_block(self.conditioned)
        except ValueError:  # An adapter outside the blocks.
            return False
        size = tokens * self.hidden_size * next(self.conditioned.parameters()).element_size()
        return frozen_blocks > 0 and size <= most_bytes

    def require_frozen_layers(self) -> None:
        """Refuse a model without frozen blocks below its adapters.

        Raises:
            ValueError: its first block is adapted, or a layer outside its blocks.
        """
        if not self.keeps_lower_layers(0):
            raise ValueError(
                "frozen_layers is True, but the model's first block is adapted, or a layer outside its blocks, so that "
                "there is nothing below to keep: leave it off, or adapt the upper blocks only (the adapters' layers)."
            )

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


def _composed_policy(model: nn.Module) -> ComposedPolicy | None:
    """The model where it is composed; ``None`` where it is none."""
    inner: Any = model
    while isinstance(inner, nn.Module) and not isinstance(inner, PreferenceModel):
        if isinstance(inner, ComposedPolicy):
            if inner is not model:
                raise ValueError(
                    f"a {type(inner).__name__} is wrapped in a {type(model).__name__}, which would not exchange its "
                    "gradients: train it on one process."
                )
            return inner
        inner = getattr(inner, "module", getattr(inner, "_orig_mod", None))
    return None


def _preference_model(model: nn.Module) -> PreferenceModel | None:
    """The preference model inside what accelerate wraps around it for distributed runs; ``None`` if there is none."""
    inner: Any = model
    while not isinstance(inner, PreferenceModel):
        # What distributes a model holds it under the first name, what compiles one under the second.
        inner = getattr(inner, "module", getattr(inner, "_orig_mod", None))
        if not isinstance(inner, nn.Module):
            return None
    return inner

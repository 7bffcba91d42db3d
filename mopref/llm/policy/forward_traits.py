"""How a language model can be run: with its head on single tokens, and on packed rows. Tried once, on a few tokens."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary, WeakSet

import torch
from torch import Tensor, nn

from mopref._warning import warn
from mopref.conditioning.preference_model import PreferenceModel
from mopref.evaluation_mode import evaluation_mode
from mopref.llm.data.sequences import Sequences, collate_sequences
from mopref.llm.policy.generation import Sampling
from mopref.llm.policy.output_head import LogitsChange, known_changes
from mopref.llm.policy.packing import PackedSequences, pack
from mopref.llm.policy.padding import padding_traits
from mopref.llm.policy.sequence_forward import SequenceForward

__all__ = ["ForwardTraits", "forward_traits", "tell_plain_rows"]

# What may be rounding in a response's log-probability, as a share of what another prompt changes: in float32, and in
# half precision.
_ROUNDING, _ROUNDING_OF_HALF = 0.02, 0.2
# The same where nothing but the head is run in another way: a rule for logits that is missed may change little.
_OF_THE_HEAD, _OF_THE_HEAD_IN_HALF = 1e-4, 0.02


class ForwardTraits(NamedTuple):
    """How a language model can be run.

    Attributes:
        change: what it does to its logits behind its head, which is asked for single tokens then; ``None`` for a model
            whose logits have to be made in full.
        packs: whether several sequences can stand in one row.
        longest_row: the most tokens that a row may have then, where layers see a window only; ``None`` for any.
        reason: why sequences cannot be packed.
    """

    change: LogitsChange | None
    packs: bool
    longest_row: int | None = None
    reason: str = ""


_PLAIN = ForwardTraits(None, packs=False)
_traits: WeakKeyDictionary[nn.Module, ForwardTraits] = WeakKeyDictionary()
# The models whose users were told already.
_told: WeakSet[nn.Module] = WeakSet()


def forward_traits(model: PreferenceModel) -> ForwardTraits:
    """How this model can be run; tried at the first call."""
    if model not in _traits:
        _traits[model] = _try_forwards(model)
    return _traits[model]


def tell_plain_rows(model: PreferenceModel, longest: int) -> None:
    """Tell, once a model, that its sequences are not packed.

    Args:
        model: the conditioned model.
        longest: tokens of the longest row of the data.

    Warns:
        UserWarning: with the reason.
    """
    traits, base = forward_traits(model), model.base_model
    reason = traits.reason
    if not reason and traits.longest_row is not None and longest > traits.longest_row:
        reason = f"the longest row has {longest} tokens, and some of its layers see {traits.longest_row} only"
    if reason and base not in _told:
        _told.add(base)
        warn(
            f"sequences of {type(base).__name__} are padded and not packed, so that a prompt is run once for each of "
            f"its responses: {reason}. Results are the same; a step takes up to twice as long."
        )


def _try_forwards(model: PreferenceModel) -> ForwardTraits:
    base = model.base_model
    if not hasattr(base, "config"):
        return _PLAIN._replace(reason="it has no configuration to be known by")
    if not isinstance(getattr(_head(base), "out_features", None), int):
        return _PLAIN._replace(reason="it does not name its output head")
    config = model.config.get_text_config()
    enabled = model.state.record._replace(enabled=True)
    with model.state.turn, model.state.in_force(enabled), evaluation_mode(model), torch.no_grad():
        trial = _Trial.of(model)
        changes = known_changes(config)
        change = next((each for each in changes if trial.difference(each, None) is None), None)
        if change is None:
            return _PLAIN._replace(reason=f"without all of its logits {trial.difference(changes[-1], None)}")
        packed = pack(trial.sequences, trial.preferences)
        assert packed is not None
        assert len(packed.groups) == 2, "prompts of unlike length stand in one row"
        reason = trial.difference(change, packed)
    if reason is not None:
        return ForwardTraits(change, packs=False, reason=f"in packed rows {reason}")
    return ForwardTraits(change, packs=True, longest_row=_window(config))


def _head(base: nn.Module) -> Any:
    try:
        return base.get_output_embeddings()  # type: ignore[operator]
    except (AttributeError, NotImplementedError):
        return None


class _Trial(NamedTuple):
    """A few sequences, and what is right for them.

    Attributes:
        forward: how the model is run.
        sequences: of three prompts with two responses each.
        single: the same, each alone and without padding, which is another question.
        preferences: a corner for each prompt, in turn.
        expected: the log-probability of each response, from a forward of its own.
        allowed: what rounding may change in packed rows.
        allowed_of_head: the same where the head alone is run in another way.
    """

    forward: SequenceForward
    sequences: Sequences
    single: list[Sequences]
    preferences: Tensor
    expected: Tensor
    allowed: Tensor
    allowed_of_head: Tensor

    @classmethod
    def of(cls, model: PreferenceModel) -> "_Trial":
        """That of a model, in the precision that is in force."""
        base, vocabulary = model.base_model, int(model.config.get_text_config().vocab_size)
        sampling = Sampling(stop_token_ids=()).for_model(base)
        forward = SequenceForward(model, model, base, sampling, padding_traits(model).position_offset)
        ids = ((vocabulary // 3 + 7 * torch.arange(40)) % vocabulary).tolist()
        prompts = [ids[:4], ids[4:6], ids[6:9]] * 2
        responses = [ids[10:13], ids[13:15], ids[15:16], ids[16:20], ids[20:21], ids[21:23]]
        corners = torch.eye(model.num_objectives, device=model.device)[[0, -1, 0] * 2]

        def alone(own_prompts: list[list[int]]) -> list[Sequences]:
            pairs = zip(own_prompts, responses, strict=True)
            return [collate_sequences([prompt], [response]).to(model.device) for prompt, response in pairs]

        def sums(batches: list[Sequences]) -> Tensor:
            outputs = [forward.with_logits(each, at[None]) for each, at in zip(batches, corners, strict=True)]
            return torch.stack([each.log_probabilities[0].sum() for each in outputs])

        single = alone(prompts)
        expected = sums(single)
        change = (sums(alone(prompts[1:] + prompts[:1])) - expected).abs().mean()
        exact = torch.finfo(forward.activation_dtype).eps < 1e-5
        noise = 20 * torch.finfo(torch.float32).eps * expected.abs().max()
        shares = (_ROUNDING, _OF_THE_HEAD) if exact else (_ROUNDING_OF_HALF, _OF_THE_HEAD_IN_HALF)
        allowed, of_head = (change * share + noise for share in shares)
        beside_others = [
            collate_sequences([prompt, prompt[::-1]], [response, response[::-1]]).to(model.device)
            for prompt, response in zip(prompts, responses, strict=True)
        ]
        with _disturbed(base):
            allowed = allowed + 3 * (sums(beside_others) - expected).abs().max()
        sequences = collate_sequences(prompts, responses).to(model.device)
        return cls(forward, sequences, single, corners, expected, allowed, of_head)

    def difference(self, change: LogitsChange, packed: PackedSequences | None) -> str | None:
        """How the model's output differs, or why there is none; ``None`` where it is right."""
        batches = [(self.sequences, self.preferences)]
        if packed is None:
            batches = list(zip(self.single, self.preferences.unsqueeze(1), strict=True))
        try:
            parts = [self.forward.without_logits(each, at, False, change, packed) for each, at in batches]
        except Exception as error:  # Whatever a model's own code raises of rows that it was not made for.
            return f"it cannot be run ({type(error).__name__}: {(str(error).splitlines() or [''])[0]:.200})"
        found = torch.cat([part.log_probabilities.sum(dim=1) for part in parts])
        difference = (found - self.expected).abs().max()
        if difference <= (self.allowed_of_head if packed is None else self.allowed):
            return None
        return f"it gives other log-probabilities ({difference.item():.2g} nats off)"


@contextmanager
def _disturbed(base: nn.Module) -> Iterator[None]:
    """Within this block embeddings are off by as much as rounding in float32 makes them.

    Where activations are rounded to 8 bits some are rounded to the next number then, and other rows say which of them
    are not rounded at all: two ways of the same sums may differ far more than in float32.
    """

    def disturb(_: nn.Module, __: Any, embedded: Tensor) -> Tensor:
        return embedded * (1 + 1e-6 * torch.linspace(-1, 1, embedded.shape[-1]).to(embedded))

    handle = base.get_input_embeddings().register_forward_hook(disturb)  # type: ignore[operator]
    try:
        yield
    finally:
        handle.remove()


def _window(config: Any) -> int | None:
    """The fewest tokens that a layer sees back, where some see a window only; ``None`` where all see everything."""
    names = ("sliding_window", "attention_chunk_size", "window_size")
    sizes = [size for name in names if isinstance(size := getattr(config, name, None), int) and size > 0]
    return min(sizes, default=None)

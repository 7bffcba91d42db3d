"""Whether a model is a causal language model, from which the log-probability of a response can be had.

An encoder, a classifier or a masked language model takes the same inputs and gives numbers, too, which would be trained
on without a word. What its class and its settings say is read before anything runs; whether its outputs are predictions
of each next token from those before it is told from outputs on a few tokens.
"""

from typing import Any

from torch import Tensor, nn

from mopref.llm.policy.token_check import Vocabulary, stated_size

__all__ = ["checked_logits", "refuse_no_generation", "refuse_other_kinds", "refuse_seen_answers"]

_REMEDY = "use a causal language model (AutoModelForCausalLM)"


def refuse_other_kinds(base_model: nn.Module) -> None:
    """Refuse a model that is no causal language model by its class or its settings.

    Raises:
        ValueError: an encoder-decoder, whose decoder would see the response that it is to predict, a class of
            transformers that generates no text, or a model that returns tuples.
    """
    kind, config = type(base_model), getattr(base_model, "config", None)
    if getattr(config, "is_encoder_decoder", False):
        raise ValueError(
            f"{kind.__name__} is an encoder-decoder: prompt and response would both be its encoder's "
            "input, so that no log-probability of a response is had from it. Use a causal language model."
        )
    # Of classes from elsewhere their outputs tell.
    can_generate = getattr(base_model, "can_generate", None) if kind.__module__.startswith("transformers.") else None
    if can_generate is not None and not can_generate():
        raise ValueError(
            f"{kind.__name__} predicts no next tokens, so that no log-probability of a response is had from it: "
            f"{_REMEDY}."
        )
    if getattr(config, "return_dict", True) is False:
        raise ValueError(
            f"the config of {kind.__name__} has return_dict = False, so that its outputs are tuples without names: set "
            "model.config.return_dict = True."
        )


def refuse_no_generation(base_model: nn.Module) -> None:
    """Refuse a model that cannot be asked for responses.

    Raises:
        ValueError: a model without ``generate``.
    """
    if not callable(getattr(base_model, "generate", None)):
        raise ValueError(
            f"{type(base_model).__name__} has no generate(), so that no responses are had from it: {_REMEDY}."
        )


def checked_logits(base_model: nn.Module, output: Any, input_ids: Tensor) -> Tensor:
    """The logits ``(N, T, V)`` of a model's output for tokens ``(N, T)``.

    Raises:
        ValueError: an output without logits, or with others than one for each token that the model can predict.
    """
    name, logits = type(base_model).__name__, getattr(output, "logits", None)
    if not isinstance(logits, Tensor):
        raise ValueError(f"{name} returns a {type(output).__name__} without logits: {_REMEDY}.")
    # Some models can be shown tokens that they do not predict.
    sizes = {size for size in (Vocabulary.of(base_model).embeddings, stated_size(base_model)) if size is not None}
    if logits.shape[:-1] != input_ids.shape or (sizes and logits.shape[-1] not in sizes):
        vocabulary = " or ".join(map(str, sorted(sizes))) or "its"
        raise ValueError(
            f"{name} returns logits of shape {tuple(logits.shape)} for tokens of shape {tuple(input_ids.shape)}, not "
            f"one for each of {vocabulary} tokens at each place: {_REMEDY}."
        )
    return logits


def refuse_seen_answers(base_model: nn.Module, difference: float, allowed: float) -> None:
    """Refuse a model whose predictions at a place change with the tokens behind it.

    Args:
        base_model: the language model.
        difference: how far its logits of the first tokens change with those behind them, at most.
        allowed: what rounding may change.

    Raises:
        ValueError: the difference is larger.
    """
    if not difference <= allowed:
        raise ValueError(
            f"{type(base_model).__name__} changes what it predicts at a place with the tokens behind it (logits by "
            f"{difference:g}), so that it sees the response that it is to predict: {_REMEDY} or, where this model can "
            "be one, load it as such (is_decoder=True of BERT's kind, causal=True of XLM's)."
        )

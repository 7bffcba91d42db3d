"""What has to be known of a base model as a whole: what it is wrapped in, what its inputs are, where experts lie."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mopref._warning import warn
from mopref.conditioning.linear_layer import is_adaptable, plain_weight
from mopref.conditioning.wrapping import name_pattern

__all__ = [
    "auto_class",
    "expert_parameters",
    "keep_gradients",
    "keep_statistics",
    "plain_base_model",
    "tell_experts_left_out",
    "token_counts",
]


def plain_base_model(base_model: nn.Module) -> nn.Module:
    """The model inside what ``torch.compile`` made of it, whose layers have other names; a warning says so.

    Raises:
        TypeError: no module, such as a model's name.
    """
    if not isinstance(base_model, nn.Module):
        raise TypeError(
            f"base_model is {base_model!r:.80}: give the model itself, or use PreferenceModel.from_pretrained(…)."
        )
    original = getattr(base_model, "_orig_mod", None)
    if not isinstance(original, nn.Module):
        return base_model
    warn(
        "the base model is compiled, so the plain one inside is conditioned: compile the conditioned model afterwards, "
        "by model.compile().",
    )
    return original


def keep_gradients(base_model: nn.Module) -> None:
    """Keep 4-bit layers of bitsandbytes as they can be trained.

    On a CPU they pack their weights anew in the first forward in evaluation mode, and pass no gradient from then on.
    """
    for part in base_model.modules():
        if hasattr(part, "support_avx512bf16_for_cpu"):
            part.support_avx512bf16_for_cpu = False  # type: ignore[assignment]


def keep_statistics(base_model: nn.Module) -> None:
    """Put the parts of a frozen base that are others in training mode in evaluation mode, as the reference is.

    Those that count running statistics, which are part of the base, and layers whose weight is quantised or computed:
    bitsandbytes' 8-bit ones round otherwise in training mode, and a spectral norm counts on.
    """
    for part in base_model.modules():
        is_computed = is_adaptable(part) and plain_weight(part) is None
        if is_computed or getattr(part, "running_mean", None) is not None:
            part.eval()


def token_counts(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[int | None, tuple[int, ...]]:
    """The rows of a language model's inputs and the tokens of each; ``None`` and nothing of other inputs.

    Example:
        >>> token_counts((), {"input_ids": torch.zeros(2, 5, dtype=torch.long)})
        (2, (5,))
    """
    names = ("input_ids", "inputs_embeds", "decoder_input_ids", "decoder_inputs_embeds", "labels")
    inputs = [value for name in names if isinstance(value := kwargs.get(name), Tensor) and value.ndim >= 2]
    if args and isinstance(args[0], Tensor) and args[0].ndim == 2 and args[0].dtype in (torch.int64, torch.int32):
        inputs.insert(0, args[0])
    if not inputs:
        return None, ()
    return inputs[0].shape[0], tuple(sorted({value.shape[1] for value in inputs}))


def expert_parameters(base_model: nn.Module) -> dict[str, int]:
    """How many numbers the experts of mixtures hold that are stored as one parameter for all experts, by its name.

    Names have * for the numbers of blocks.
    """
    sizes: dict[str, int] = {}
    for name, parameter in base_model.named_parameters():
        if parameter.ndim >= 3 and re.search(r"(^|[._])experts?([._]|$)", name):
            pattern = name_pattern(name)
            sizes[pattern] = sizes.get(pattern, 0) + parameter.numel()
    return sizes


def tell_experts_left_out(base_model: nn.Module) -> None:
    """Warn where the experts of a mixture hold weights that no adapter reaches."""
    sizes = expert_parameters(base_model)
    if not sizes:
        return
    total = sum(parameter.numel() for parameter in base_model.parameters())
    warn(
        f"{100 * sum(sizes.values()) / total:.0f} % of the base model's weights are experts of a mixture, stored as "
        f"one parameter for all experts, which gets no adapter: {', '.join(sizes)}. Attention and shared layers are "
        "adapted.",
    )


def auto_class(name: str, model_options: Mapping[str, Any]) -> Any:
    """The class of transformers that loads a language model: one for text alone, or one that sees images too.

    Raises:
        ValueError: a model that predicts no next token.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

    options = {
        key: model_options[key]
        for key in (
            "revision",
            "token",
            "cache_dir",
            "subfolder",
            "local_files_only",
            "force_download",
            "proxies",
            "gguf_file",
        )
        if key in model_options
    }
    # Said, since transformers asks on a terminal otherwise.
    options["trust_remote_code"] = False
    config = model_options.get("config") or AutoConfig.from_pretrained(name, **options)
    for kind in (AutoModelForCausalLM, AutoModelForImageTextToText):
        if type(config) in kind._model_mapping:
            return kind
    raise ValueError(
        f"{name} is a {config.model_type}, which predicts no next token: load its model by a class of its own, and "
        "wrap it as PreferenceModel(model, SVDLoRAConfig(…)) where your own objective can call it."
    )

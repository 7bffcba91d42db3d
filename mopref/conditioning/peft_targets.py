"""Which exported LoRAs stock PEFT misreads or refuses, by the names of their layers."""

from collections.abc import Iterable

from torch import nn

from mopref.conditioning.base_model import expert_parameters

__all__ = ["refuse_misread_targets"]

# What the projections of an expert were called while each expert was a module of its own. Where PEFT moves an older
# LoRA to today's fused experts, it takes every layer of such a name for one of theirs.
_EXPERT_PROJECTIONS = {
    "qwen2_moe": ("gate", "gate_proj", "up_proj", "down_proj"),
    "mixtral": ("gate", "w1", "w2", "w3"),
}
# In these families it takes no LoRA of a state-space layer's output projection.
_STATE_SPACE_FAMILIES = ("falcon_h1", "mamba", "mamba2", "falcon_mamba", "nemotron_h")


def refuse_misread_targets(base_model: nn.Module, names: Iterable[str]) -> None:
    """Refuse to export LoRAs that stock PEFT would not load as they are.

    Those of layers that it takes for the experts of a mixture it leaves out without an error.

    Raises:
        ValueError: such a layer, named.
    """
    names = list(names)
    model_type = getattr(getattr(base_model, "config", None), "model_type", None)
    refused = [name for name in names if name.endswith("out_proj")] if model_type in _STATE_SPACE_FAMILIES else []
    if refused:
        raise ValueError(
            f"stock PEFT takes no LoRA of {refused[0]} in a {model_type}: serve merge(λ), or train without out_proj in "
            "the target modules."
        )
    projections = _EXPERT_PROJECTIONS.get(_expert_family(base_model) or "", ())
    misread = [name for name in names if name.rsplit(".", 1)[-1] in projections]
    if misread:
        raise ValueError(
            f"a LoRA of {misread[0]} ({len(misread)} such layers) would be lost: in a {model_type} stock PEFT takes "
            f"layers called {', '.join(projections)} for the experts of the mixture. Serve merge(λ), or train adapters "
            "on attention only, by target_modules."
        )
    renamed = _renamed(model_type, names)
    if renamed:
        raise ValueError(
            f"a LoRA of {renamed[0]} ({len(renamed)} such layers) would be lost: in a {model_type} transformers "
            "renames that layer while a file is loaded. Serve merge(λ), or train without it, by target_modules."
        )


def _expert_family(base_model: nn.Module) -> str | None:
    """The family after whose experts PEFT renames a model's targets; ``None`` where it renames none."""
    model_type = getattr(getattr(base_model, "config", None), "model_type", None)
    if model_type is None or model_type == "mixtral":
        return model_type
    try:
        from transformers import conversion_mapping
    except ImportError:
        # A release from before experts were fused: nothing is renamed.
        return None
    families: dict[str, str] | None = getattr(conversion_mapping, "_MODEL_TO_CONVERSION_PATTERN", None)
    if families is not None:
        return families.get(model_type)
    # Without the list it is safer to take any mixture of fused experts for one of them.
    return "qwen2_moe" if expert_parameters(base_model) else None


def _renamed(model_type: str | None, names: Iterable[str]) -> list[str]:
    """The layers that transformers takes for older names of others."""
    try:
        from transformers.conversion_mapping import get_checkpoint_conversion_mapping
        from transformers.core_model_loading import WeightRenaming
    except ImportError:
        return []
    entries = get_checkpoint_conversion_mapping(model_type) or []
    renamings = [entry for entry in entries if type(entry) is WeightRenaming]
    keys = {name: f"{name}.lora_A.weight" for name in names}
    return [name for name, key in keys.items() if any(entry.rename_source_key(key)[0] != key for entry in renamings)]

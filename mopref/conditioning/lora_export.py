"""Plain LoRAs of an adapter, for other tools: at one preference, or one for each objective."""

import unicodedata
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple

from torch import Tensor, nn

from mopref._sharded import written_once
from mopref._write_ahead import write_together
from mopref.conditioning.adapter_description import check_finite
from mopref.conditioning.adapter_files import Adapters, kind_of, stored
from mopref.conditioning.adapter_folder import EXPORTED, adapter_content, check_replaceable
from mopref.conditioning.base_origin import base_origin
from mopref.conditioning.peft_targets import refuse_misread_targets
from mopref.conditioning.svd_lora import SVDLoRAConfig

__all__ = ["export_lora", "export_lora_set"]


class _Lora(NamedTuple):
    """One plain LoRA.

    Attributes:
        folder: where it is written.
        name: among the LoRAs of one adapter.
        factors: A ``(rank, n_in)`` and B ``(n_out, rank)`` of each layer by its name.
        rank: of every layer.
    """

    folder: Path
    name: str
    factors: dict[str, tuple[Tensor, Tensor]]
    rank: int


def export_lora(
    folder: Path, adapters: Adapters, config: SVDLoRAConfig, base_model: nn.Module, preference: Tensor
) -> None:
    """Write the adapters at one preference ``(m,)`` as a plain LoRA of rank k + p·m.

    Raises:
        FileExistsError: the folder holds something other than such a LoRA of the same adapter.
        ValueError: values that are not finite, or PEFT would take some layers for others.
    """
    factors = {
        name: (layer.V.T, layer.config.scaling * layer.U * layer.gate(preference.view(1, -1)))
        for name, layer in adapters.items()
    }
    _write([_Lora(folder, "at one preference", factors, config.total_rank)], adapters, config, base_model)


def export_lora_set(folder: Path, adapters: Adapters, config: SVDLoRAConfig, base_model: nn.Module) -> None:
    """Write ``shared`` and one plain LoRA for each objective, to be scaled by λ where they are served.

    Raises:
        FileExistsError: a folder holds something other than this LoRA of the same adapter; none is written then.
        ValueError: an objective is called "shared" or by what is no name of a folder of its own, values that are not
            finite, or PEFT would take some layers for others.
    """
    if "shared" in config.objectives:
        raise ValueError("an objective is called 'shared', which is the name of the LoRA that all preferences share.")
    names = ("shared", *config.objectives)
    for name in names:
        if name in ("", ".", "..") or any(kind(name).name != name for kind in (PurePosixPath, PureWindowsPath)):
            raise ValueError(
                f"the objective {name!r} cannot name a folder of its own, in which its LoRA is written: train with a "
                "name without slashes."
            )
        if (folder / name).is_symlink() and not (folder / name).resolve().is_relative_to(folder.resolve()):
            raise ValueError(f"{folder / name} is a link out of {folder}: delete it, or choose another folder.")
    if len({unicodedata.normalize("NFC", name).casefold() for name in names}) < len(names):
        raise ValueError(
            f"the LoRAs {', '.join(names)} would be called alike but for capital letters, so that on some disks two "
            "of them would share a folder: train with other names."
        )
    loras = []
    for index, name in enumerate(names):
        start = 0 if index == 0 else config.rank + (index - 1) * config.preference_rank
        rank = config.rank if index == 0 else config.preference_rank
        if rank == 0:
            continue
        columns = slice(start, start + rank)
        factors = {}
        for module, layer in adapters.items():
            values = layer.sigma if index == 0 else layer.scale.expand(rank)
            factors[module] = (layer.V[:, columns].T, layer.config.scaling * layer.U[:, columns] * values)
        loras.append(_Lora(folder / name, f"of a set, {name}", factors, rank))
    _write(loras, adapters, config, base_model)


def _write(loras: list[_Lora], adapters: Adapters, config: SVDLoRAConfig, base_model: nn.Module) -> None:
    """Write the LoRAs as PEFT reads them, once all of them can be written."""
    refuse_misread_targets(base_model, adapters)
    kind = kind_of(adapters, config, base_model)
    prepared = {}
    for lora in loras:
        own = {**kind, EXPORTED: lora.name}
        check_replaceable(lora.folder, own, base_model)
        tensors = {}
        for name, (a, b) in lora.factors.items():
            tensors[f"base_model.model.{name}.lora_A.weight"] = stored(a)
            tensors[f"base_model.model.{name}.lora_B.weight"] = stored(b)
        check_finite(tensors, "the model cannot be exported")
        prepared[lora.folder] = adapter_content(_description(lora, adapters, base_model), tensors, own)
    with written_once(base_model.parameters()) as writes:
        if writes:
            write_together(prepared)


def _description(lora: _Lora, adapters: Adapters, base_model: nn.Module) -> dict[str, Any]:
    origin = base_origin(base_model)
    return {
        "peft_type": "LORA",
        "task_type": _task_type(base_model),
        "base_model_name_or_path": origin.name,
        "revision": origin.revision,
        "inference_mode": True,
        "r": lora.rank,
        # PEFT scales by lora_alpha / r; ours is in B already.
        "lora_alpha": lora.rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": any(layer.transposed for layer in adapters.values()),
        "target_modules": list(lora.factors),
    }


def _task_type(base_model: nn.Module) -> str | None:
    if not hasattr(base_model, "generate"):
        return None
    return "SEQ_2_SEQ_LM" if getattr(base_model.config, "is_encoder_decoder", False) else "CAUSAL_LM"

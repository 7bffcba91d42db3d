"""Plain LoRAs of an adapter, for other tools: at one preference, or one for each objective."""

import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple

from safetensors.torch import save
from torch import Tensor, nn

from mopref._repr import short_repr
from mopref._sharded import written_once
from mopref._write_ahead import write_together
from mopref.conditioning.adapter_description import CONFIG_FILE, check_finite
from mopref.conditioning.adapter_files import Adapters, kind_of, stored
from mopref.conditioning.adapter_folder import (
    EXPORTED,
    TENSOR_FILE,
    adapter_content,
    check_replaceable,
    description_text,
)
from mopref.conditioning.base_origin import base_origin
from mopref.conditioning.peft_targets import refuse_misread_targets
from mopref.conditioning.svd_lora import SVDLoRAConfig, SVDLoRALayer

__all__ = [
    "SHARED",
    "PlainLora",
    "check_set",
    "check_set_names",
    "export_lora",
    "export_lora_set",
    "lora_files",
    "lora_set",
    "peft_tensors",
]

# The LoRA of a set that all preferences share.
SHARED = "shared"
# Of an objective, so that what is called after it has room for an ending.
_LONGEST_NAME = 200


class PlainLora(NamedTuple):
    """One plain LoRA.

    Attributes:
        name: among the LoRAs of one adapter.
        factors: A ``(rank, n_in)`` and B ``(n_out, rank)`` of each layer by its name.
        rank: of every layer.
    """

    name: str
    factors: dict[str, tuple[Tensor, Tensor]]
    rank: int


def lora_files(
    adapters: Adapters, config: SVDLoRAConfig, base_model: nn.Module, preference: Tensor
) -> dict[str, bytes]:
    """The files of the LoRA at one preference ``(m,)``, by their names, without the mark of an :func:`export_lora`.

    For a reader that takes them now: nothing is compared with the base, so that making them takes no time.

    Raises:
        ValueError: values that are not finite, or PEFT would take some layers for others.
    """
    lora = _at_preference(adapters, config, preference)
    refuse_misread_targets(base_model, adapters)
    tensors = peft_tensors(lora.factors)
    check_finite(tensors, "the model cannot be exported")
    description = description_text(_description(lora, adapters, base_model), CONFIG_FILE)
    return {TENSOR_FILE: save(tensors, metadata={"format": "pt"}), CONFIG_FILE: description}


def export_lora(
    folder: Path, adapters: Adapters, config: SVDLoRAConfig, base_model: nn.Module, preference: Tensor
) -> None:
    """Write the adapters at one preference ``(m,)`` as a plain LoRA of rank k + p·m.

    Raises:
        FileExistsError: the folder holds something other than such a LoRA of the same adapter.
        ValueError: values that are not finite, or PEFT would take some layers for others.
    """
    _write({folder: _at_preference(adapters, config, preference)}, adapters, config, base_model)


def _at_preference(adapters: Adapters, config: SVDLoRAConfig, preference: Tensor) -> PlainLora:
    """A = Vᵀ and B = c · U · diag(g(λ)), or c · U · C(λ), of every layer."""
    factors = {name: (layer.V.T, layer.out_factor(preference)) for name, layer in adapters.items()}
    return PlainLora("at one preference", factors, config.total_rank)


def export_lora_set(folder: Path, adapters: Adapters, config: SVDLoRAConfig, base_model: nn.Module) -> None:
    """Write ``shared`` and one plain LoRA for each objective, to be scaled by λ where they are served.

    Raises:
        FileExistsError: a folder holds something other than this LoRA of the same adapter; none is written then.
        ValueError: what :func:`check_set` refuses, values that are not finite, or PEFT would take some
            layers for others.
    """
    check_set(config)
    for name in (SHARED, *config.objectives):
        if (folder / name).is_symlink() and not (folder / name).resolve().is_relative_to(folder.resolve()):
            raise ValueError(f"{folder / name} is a link out of {folder}: delete it, or choose another folder.")
    loras = lora_set(adapters, config)
    named = {folder / lora.name: lora._replace(name=f"of a set, {lora.name}") for lora in loras}
    _write(named, adapters, config, base_model)


def check_set(config: SVDLoRAConfig) -> None:
    """Refuse adapters that no set of LoRAs, scaled by λ, can stand for, or whose names are none of folders.

    Raises:
        ValueError: a gate that is not linear; and as :func:`check_set_names`.
    """
    if config.gate != "linear":
        raise ValueError(
            f"gate is {config.gate!r}, so that the change at λ is no sum of m LoRAs scaled by λ: export at one λ "
            "(export_lora, or a lora-grid), merge(λ), or serve the adapter by mopref."
        )
    check_set_names(config.objectives)


def check_set_names(objectives: Sequence[str]) -> None:
    """Refuse objectives after which the LoRAs of a set cannot be named, each in a folder or a file of its own.

    Raises:
        ValueError: an objective that is called "shared" or by what is no name of a folder of its own, or two names that
            are alike but for capital letters, or a name that is too long.
    """
    if SHARED in objectives:
        raise ValueError(
            "an objective is called 'shared', which is the name of the LoRA that all preferences share: train with "
            "another name, or export plain LoRAs, each at one preference."
        )
    names = (SHARED, *objectives)
    for name in names:
        if name in ("", ".", "..") or any(kind(name).name != name for kind in (PurePosixPath, PureWindowsPath)):
            raise ValueError(
                f"the objective {name!r} cannot name a folder of its own, in which its LoRA is written: train with a "
                "name without slashes and colons."
            )
        if len(name.encode("utf-8", "surrogatepass")) > _LONGEST_NAME:
            raise ValueError(
                f"the objective {short_repr(name)} has a name of more than {_LONGEST_NAME} bytes, after which no file "
                "can be called on some disks: train with a shorter one."
            )
    if len({unicodedata.normalize("NFC", name).casefold() for name in names}) < len(names):
        raise ValueError(
            f"the LoRAs {', '.join(names)} would be called alike but for capital letters, so that on some disks two "
            "of them would share a folder: train with other names."
        )


def lora_set(adapters: Adapters, config: SVDLoRAConfig) -> list[PlainLora]:
    """The LoRA that all preferences share, where there is one, and one for each objective, in their order.

    The change at λ is that of ``shared`` plus Σ_i λ_i · (objective i).

    Raises:
        ValueError: as :func:`check_set`.
    """
    check_set(config)
    loras = []
    for index, name in enumerate((SHARED, *config.objectives)):
        rank = config.rank if index == 0 else config.objective_rank
        if rank == 0:
            continue
        factors = {module: _factors(layer, index) for module, layer in adapters.items()}
        loras.append(PlainLora(name, factors, rank))
    return loras


def _factors(layer: SVDLoRALayer, index: int) -> tuple[Tensor, Tensor]:
    """A and B of what all preferences share (0), or of an objective (from 1)."""
    config = layer.config
    rank = config.rank if index == 0 else config.objective_rank
    if config.core == "full":
        # All objectives act on the same directions, each by its own core.
        columns = slice(0, rank) if index == 0 else slice(config.rank, config.rank + rank)
        core = layer.shared_core if index == 0 else layer.preference_cores[index - 1]
        return layer.V[:, columns].T, config.scaling * layer.U[:, columns] @ core
    start = 0 if index == 0 else config.rank + (index - 1) * rank
    columns = slice(start, start + rank)
    values = layer.sigma if index == 0 else layer.scale.expand(rank)
    return layer.V[:, columns].T, config.scaling * layer.U[:, columns] * values


def peft_tensors(factors: Mapping[str, tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    """A ``(rank, n_in)`` and B ``(n_out, rank)`` of each layer, by the names that PEFT has for them."""
    tensors = {}
    for name, (a, b) in factors.items():
        tensors[f"base_model.model.{name}.lora_A.weight"] = stored(a)
        tensors[f"base_model.model.{name}.lora_B.weight"] = stored(b)
    return tensors


def _write(loras: Mapping[Path, PlainLora], adapters: Adapters, config: SVDLoRAConfig, base_model: nn.Module) -> None:
    """Write the LoRAs, by their folders, as PEFT reads them, once all of them can be written."""
    refuse_misread_targets(base_model, adapters)
    kind = kind_of(adapters, config, base_model)
    prepared = {}
    for folder, lora in loras.items():
        own = {**kind, EXPORTED: lora.name}
        check_replaceable(folder, own, base_model)
        tensors = peft_tensors(lora.factors)
        check_finite(tensors, "the model cannot be exported")
        prepared[folder] = adapter_content(_description(lora, adapters, base_model), tensors, own)
    with written_once(base_model.parameters()) as writes:
        if writes:
            write_together(prepared)


def _description(lora: PlainLora, adapters: Adapters, base_model: nn.Module) -> dict[str, Any]:
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

"""Plain LoRAs of an adapter, for other tools: at one preference, or a set that is scaled by λ.

A set is exact. A layer's change is c · Σ_j g_j(λ) u_j v_jᵀ, with g_j(λ) = σ_j, or s·λ_i of objective i: one LoRA of all
σ_j, and one of s for each objective, whose scale is λ_i. A gate of all layers adds δ_j(λ) to g_j, the same number in
each layer: c · u_j v_jᵀ is a LoRA of rank one with that scale. It cannot be part of the others, since σ and s are each
layer's own.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from safetensors.torch import save
from torch import Tensor, nn

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
from mopref.conditioning.lora_names import SCALES_FILE, SHARED, check_set_names, set_names
from mopref.conditioning.peft_targets import refuse_misread_targets
from mopref.conditioning.scale_files import check_scales_replaceable, scales_content
from mopref.conditioning.svd_lora import SVDLoRAConfig, SVDLoRALayer

__all__ = [
    "PlainLora",
    "check_set",
    "export_lora",
    "export_lora_set",
    "lora_files",
    "lora_set",
    "names_of_set",
    "peft_tensors",
    "scales_of_set",
]


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
    """Write the LoRAs of :func:`lora_set`, each into its folder, and ``scales.json``, which says how they are scaled.

    Raises:
        FileExistsError: a folder holds something other than this LoRA of the same adapter, or there are LoRAs of an
            older set that this one has not; none is written then.
        ValueError: what :func:`check_set` refuses, values that are not finite, or PEFT would take some
            layers for others.
    """
    check_set(config)
    for name in names_of_set(config):
        if (folder / name).is_symlink() and not (folder / name).resolve().is_relative_to(folder.resolve()):
            raise ValueError(f"{folder / name} is a link out of {folder}: delete it, or choose another folder.")
    check_scales_replaceable(folder, config.objectives, names_of_set(config))
    loras = lora_set(adapters, config)
    named = {folder / lora.name: lora._replace(name=f"of a set, {lora.name}") for lora in loras}
    _write(named, adapters, config, base_model, {folder: {SCALES_FILE: scales_of_set(adapters, config)}})


def check_set(config: SVDLoRAConfig) -> None:
    """Refuse adapters that no set of LoRAs, scaled by λ, can stand for, or whose names are none of folders.

    Raises:
        ValueError: a gate of each layer; and as ``check_set_names``.
    """
    if config.gate == "layer-mlp":
        raise ValueError(
            "gate is 'layer-mlp', so that each layer follows λ by a network of its own, and no scale says for all "
            "layers how much of a LoRA is taken at λ: export at one λ (export_lora, or a lora-grid), merge(λ), serve "
            "the adapter by mopref, or train with gate='shared-mlp'."
        )
    check_set_names(config.objectives, _directions(config) > 0)


def names_of_set(config: SVDLoRAConfig) -> tuple[str, ...]:
    """The names of the LoRAs of :func:`lora_set`, in their order."""
    return set_names(config.objectives, config.rank > 0, _directions(config))


def _directions(config: SVDLoRAConfig) -> int:
    """How many directions have a LoRA of their own.

    All or none, whatever D holds: so the settings tell the files, and a newer set replaces an older one's.
    """
    return config.total_rank if config.gate == "shared-mlp" else 0


def scales_of_set(adapters: Adapters, config: SVDLoRAConfig) -> bytes:
    """The content of the file that says how the LoRAs of :func:`lora_set` are scaled.

    Raises:
        ValueError: a gate with values that are not finite.
    """
    gate = next(iter(adapters.values())).curved_gate
    return scales_content(config.objectives, names_of_set(config), gate)


def lora_set(adapters: Adapters, config: SVDLoRAConfig) -> list[PlainLora]:
    """The LoRA that all preferences share, where there is one, one for each objective, and one for each direction.

    The change at λ is that of ``shared`` plus Σ_i λ_i · (objective i), plus with a gate of all layers
    Σ_j δ_j(λ) · (direction j): what ``lora_scales`` gives.

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
    for index, name in enumerate(set_names((), False, _directions(config))):
        factors = {module: _direction(layer, index) for module, layer in adapters.items()}
        loras.append(PlainLora(name, factors, 1))
    return loras


def _direction(layer: SVDLoRALayer, index: int) -> tuple[Tensor, Tensor]:
    """A and B of c · u_j v_jᵀ."""
    column = slice(index, index + 1)
    return layer.V[:, column].T, layer.config.scaling * layer.U[:, column]


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


def _write(
    loras: Mapping[Path, PlainLora],
    adapters: Adapters,
    config: SVDLoRAConfig,
    base_model: nn.Module,
    scales: Mapping[Path, Mapping[str, bytes]] | None = None,
) -> None:
    """Write the LoRAs, by their folders, as PEFT reads them, once all can be written; the file of scales counts last.

    So it never stands beside LoRAs of another training.
    """
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
            write_together({**(scales or {}), **prepared}, SCALES_FILE if scales else None)


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

"""Adapter folders in our own format: JSON and safetensors, no pickle.

The functions take what a model holds: the adapters by the names of their layers, their settings and the base model.
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, TypeAlias

from torch import Tensor, nn

from mopref._checked_files import file_digest, regular_file
from mopref._sharded import whole_tensor, written_once
from mopref._warning import warn
from mopref._write_ahead import write_together
from mopref.conditioning.adapter_description import (
    ADAPTER_TYPE,
    CONFIG_FILE,
    AdapterSettings,
    check_finite,
    check_tensors,
    checked_settings,
    difference_of_base,
    difference_of_kind,
    read_config,
    version_of,
)
from mopref.conditioning.adapter_folder import TENSOR_FILE, adapter_content, check_replaceable, model_weights
from mopref.conditioning.base_check import base_check, shares_no_weight, storage_kinds
from mopref.conditioning.base_origin import BaseOrigin, base_origin, checked_origin
from mopref.conditioning.svd_lora import SVDLoRAConfig, SVDLoRALayer, own_parameters
from mopref.conditioning.tensor_files import described_tensors, read_tensors
from mopref.option_checks import RecordedConvention

__all__ = [
    "AdapterContent",
    "Adapters",
    "check_savable",
    "introduce_to_peft",
    "introduce_to_pipelines",
    "kind_of",
    "named_base",
    "read_adapter",
    "read_alone",
    "recorded_commit",
    "refuse_mixed_folder",
    "save_adapter",
    "saved_tensors",
    "stored",
]

# By the names of their layers in the base model.
Adapters: TypeAlias = Mapping[str, SVDLoRALayer]


class AdapterContent(NamedTuple):
    """What an adapter folder holds.

    Attributes:
        config: the adapters' settings.
        layers: the names of the adapted layers.
        tensors: by ``<layer>.<part>``.
        convention: what a preference says: "importance", "ray", or "unrecorded".
    """

    config: SVDLoRAConfig
    layers: tuple[str, ...]
    tensors: dict[str, Tensor]
    convention: RecordedConvention


class _NoPeftConfig:
    """Stands in PEFT's list of methods for our type, and says which tool an adapter is for."""

    def __init__(self, **_: Any) -> None:
        self.from_pretrained()

    @classmethod
    def from_pretrained(cls, folder: Any = "this folder", **_: Any) -> NoReturn:
        """Refuse to be loaded by PEFT."""
        raise ValueError(
            f"{folder} holds a mopref adapter ({ADAPTER_TYPE}), which PEFT cannot load: load it by "
            "mopref.PreferenceModel.from_pretrained(folder), or export a LoRA from it."
        )


def introduce_to_peft() -> None:
    """Let PEFT, where it is loaded, answer one of our folders with a sentence instead of a KeyError."""
    methods = getattr(sys.modules.get("peft.mapping"), "PEFT_TYPE_TO_CONFIG_MAPPING", None)
    if methods is not None:
        methods.setdefault(ADAPTER_TYPE, _NoPeftConfig)


def introduce_to_pipelines(name: str) -> None:
    """Let the text generation of transformers' pipelines, where they are loaded, know a class that generates.

    They go by names of classes, and would log that this one is not supported, with all those that are.
    """
    tasks = getattr(sys.modules.get("transformers.pipelines.base"), "SUPPORTED_PEFT_TASKS", None)
    names = tasks.get("text-generation") if isinstance(tasks, dict) else None
    if isinstance(names, list) and name not in names:
        names.append(name)


def kind_of(adapters: Adapters, config: SVDLoRAConfig, base_model: nn.Module) -> dict[str, Any]:
    """The fields by which adapters are of the same kind: objectives, layers and base."""
    return {
        "objectives": list(config.objectives),
        "adapted_modules": {name: [layer.n_out, layer.n_in] for name, layer in adapters.items()},
        "base_check": base_check(base_model),
    }


def saved_tensors(adapters: Adapters) -> dict[str, Tensor]:
    """What is saved of adapters, no copies: by ``<layer>.<part>``, and a gate of all layers under its own name."""
    tensors = {f"{name}.{part}": value for name, layer in adapters.items() for part, value in layer.parts.items()}
    return {**own_parameters(adapters), **tensors}


def check_savable(folder: Path, adapters: Adapters, config: SVDLoRAConfig, base_model: nn.Module) -> None:
    """Refuse now the folder that :func:`save_adapter` would refuse later."""
    check_replaceable(folder, kind_of(adapters, config, base_model), base_model)


def save_adapter(
    folder: Path, adapters: Adapters, config: SVDLoRAConfig, base_model: nn.Module, convention: str
) -> None:
    """Write the adapters; an older save of the same objectives, layers and base is replaced.

    Raises:
        FileExistsError: the folder holds something else.
        ValueError: what :func:`read_adapter` would refuse.
        OSError: nothing can be written; an older save is as it was.
    """
    introduce_to_peft()
    kind, origin = kind_of(adapters, config, base_model), base_origin(base_model)
    tensors = {name: stored(whole_tensor(value)) for name, value in saved_tensors(adapters).items()}
    description = {
        # PEFT and transformers read these two, and refuse a type that they do not know.
        "peft_type": ADAPTER_TYPE,
        "base_model_name_or_path": origin.name,
        "format_version": version_of(config),
        "preference_convention": convention,
        "base_model": origin.name,
        "base_revision": origin.revision,
        "base_is_local": origin.is_local,
        "base_check": kind["base_check"],
        "base_weights": storage_kinds(layer.base_layer for layer in adapters.values()),
        **asdict(config),
        "adapted_modules": kind["adapted_modules"],
        "versions": {package: version(package) for package in ("mopref", "torch")},
    }
    _check_readable(description, tensors, adapters, base_model)
    check_replaceable(folder, kind, base_model)
    with written_once(base_model.parameters()) as writes:
        if writes:
            write_together({folder: adapter_content(description, tensors, kind)})


def _check_readable(
    description: dict[str, Any], tensors: dict[str, Tensor], adapters: Adapters, base_model: nn.Module
) -> None:
    """Refuse to write what could not be read again, or would be another adapter then."""
    check_finite(tensors, "the model cannot be saved")
    modules = dict(base_model.named_modules(remove_duplicate=False))
    try:
        settings = checked_settings(json.loads(json.dumps(description)))
        check_tensors(tensors, settings.shapes)
        for name, layer in adapters.items():
            if modules.get(name) is not layer:
                raise ValueError(f"the adapter of {name} is no longer in the base model")
            if layer.config != settings.config:
                raise ValueError(f"adapter_config is not that of {name}")
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"the model cannot be saved, since it could not be loaded again: {str(error).rstrip('.')}. Its settings or "
            "its layers were changed after it was made: make a new model with these settings."
        ) from error


def named_base(folder: Path) -> BaseOrigin:
    """Where the base model of an adapter folder comes from.

    Raises:
        FileNotFoundError: no adapter folder.
        ValueError: it names none, a folder that is not here, or the adapter's own, which transformers would not take
            for a base.
    """
    origin = checked_origin(read_config(folder), folder)
    if Path(origin.name).is_dir() and Path(origin.name).resolve() == folder.resolve():
        refuse_mixed_folder(folder)
        raise ValueError(
            f"{folder} names itself as its base model, of which it holds no weights: load the base and call "
            "PreferenceModel.load(base, folder)."
        )
    return origin


def recorded_commit(folder: Path, name: str) -> str | None:
    """The hub's commit of the base model of an adapter folder, where that is called so; ``None`` where it is not known.

    Raises:
        FileNotFoundError, ValueError: as :func:`named_base`.
    """
    description = read_config(folder)
    return checked_origin(description, folder).revision if description.get("base_model") == name else None


def refuse_mixed_folder(folder: Path) -> None:
    """Refuse a folder of an adapter that holds a model's weights, too.

    Raises:
        ValueError: such a folder.
    """
    weights = model_weights(folder)
    if weights is not None:
        raise ValueError(
            f"{folder} holds both an adapter and the weights of a model ({weights}), so that transformers does not "
            f"load the model: move {CONFIG_FILE} and {TENSOR_FILE} into a folder of their own, and load that or the "
            "model."
        )


def read_adapter(folder: Path, base_model: nn.Module) -> AdapterContent:
    """What an adapter folder holds, checked against a base model, which is not touched.

    Raises:
        FileNotFoundError: a missing file.
        ValueError: another type or base; a description that is damaged; tensors missing, unexpected, of another shape
            or type, or not finite.
    """
    description = read_config(folder)
    settings = _settings_of(description, folder)
    difference = difference_of_base(settings.sizes, settings.samples, base_model, description["format_version"])
    if difference:
        raise ValueError(
            f"{folder} was trained on another base model ({description.get('base_model')!r:.200}): {difference}."
        )
    # A base whose weights were all quantised leaves no numbers to compare.
    if set(settings.base_weights or {"float": 1}) == {"float"} and shares_no_weight(settings.samples, base_model):
        raise ValueError(
            f"{folder / CONFIG_FILE}: base_check has no number of this base's weights, so that another base would go "
            "unnoticed: the adapter is damaged, save it again."
        )
    tensors = _read_tensors(folder, settings)
    _tell_convention(settings.convention, folder)
    _tell_storage(settings, base_model, folder)
    return AdapterContent(settings.config, tuple(settings.sizes), tensors, settings.convention)


def read_alone(folder: Path) -> tuple[AdapterSettings, dict[str, Tensor]]:
    """What an adapter folder holds, where no base model is loaded that it could be compared with.

    Raises:
        FileNotFoundError: a missing file.
        ValueError: another type, or a folder that is damaged.
    """
    settings = _settings_of(read_config(folder), folder)
    return settings, _read_tensors(folder, settings)


def _settings_of(description: Mapping[str, Any], folder: Path) -> AdapterSettings:
    try:
        return checked_settings(description)
    except ValueError as error:
        raise ValueError(f"{folder / CONFIG_FILE}: {error}: the adapter is damaged, save it again.") from error


def read_values(folder: Path, adapters: Adapters, config: SVDLoRAConfig, base_model: nn.Module) -> dict[str, Tensor]:
    """The tensors of an adapter that was saved of these adapters, at an earlier step say.

    Raises:
        FileNotFoundError, ValueError: as :func:`read_adapter`, or an adapter of another base or of other settings.
    """
    description = read_config(folder)
    settings = checked_settings(description)
    difference = difference_of_kind(description, kind_of(adapters, config, base_model), base_model)
    if difference is not None or settings.config != config:
        reason = difference or "other settings"
        raise ValueError(
            f"{folder} holds another adapter than this model's ({reason}): load it by PreferenceModel.load."
        )
    return _read_tensors(folder, settings)


def _read_tensors(folder: Path, settings: AdapterSettings) -> dict[str, Tensor]:
    """The tensors, once the header of their file and its checksum are right."""
    path = regular_file(folder, TENSOR_FILE)
    if path is None:
        raise FileNotFoundError(f"{folder} is no complete adapter: it has no {TENSOR_FILE}.")
    try:
        described = described_tensors(path)
    except ValueError as error:
        raise ValueError(f"{error}: the adapter is damaged, save it again.") from error
    try:
        check_tensors(described, settings.shapes)
    except ValueError as error:
        raise ValueError(f"{path}: {error}: the adapter is damaged, save it again.") from error
    if settings.tensors_digest is not None and file_digest(path) != settings.tensors_digest:
        raise ValueError(
            f"{path} is not as mopref wrote it (its SHA-256 is another than {CONFIG_FILE} records): it is damaged, or "
            "of another save than the description. Take both files of one save, or save the adapter again."
        )
    tensors = read_tensors(path)
    check_finite(tensors, str(path))
    return tensors


def _tell_convention(convention: RecordedConvention, folder: Path) -> None:
    """Warn where a preference does not say the importance of each objective."""
    if convention == "unrecorded":
        warn(
            f"{folder} does not record what a preference says to it. Trained before version 0.2 by PBI, modified "
            "Tchebycheff, an achievement function or COSMOS, a LARGER λ_i asks for a larger loss i: train it again, or "
            'set model.preference_convention = "ray". By any other scalarizer λ_i is the importance of objective i: '
            'set model.preference_convention = "importance". Then save it again.',
        )
    if convention == "ray":
        warn(
            f"{folder} was trained on rays: its λ is a direction of losses, and a LARGER λ_i asks for a larger loss i.",
        )


def _tell_storage(settings: AdapterSettings, base_model: nn.Module, folder: Path) -> None:
    """Warn where the adapted layers are quantised otherwise than those that were adapted."""
    own = storage_kinds(base_model.get_submodule(name) for name in settings.sizes)
    if settings.base_weights is not None and settings.base_weights != own:
        recorded, here = (
            ", ".join(f"{count} × {kind}" for kind, count in kinds.items()) for kinds in (settings.base_weights, own)
        )
        warn(
            f"{folder} was saved on a base whose adapted layers are stored as {recorded:.200}, and here they are "
            f"{here}: outputs differ by the rounding of the base. Evaluate the front again, or load the base as it was "
            "(quantization_config).",
        )


def stored(tensor: Tensor) -> Tensor:
    """A tensor as safetensors takes it: on the CPU, contiguous, and with memory of its own."""
    return tensor.detach().cpu().clone().contiguous()

"""Adapter folders: our own format, and plain LoRAs for other tools. JSON and safetensors, no pickle.

The functions take what a model holds: the adapters by the names of their layers, their settings and the base model.
"""

import json
import os
import sys
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple, NoReturn, TypeAlias, cast, get_args

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from mopref.conditioning.base_check import base_check, difference_of_weights
from mopref.conditioning.linear_layer import is_adaptable, layer_sizes
from mopref.conditioning.peft_targets import refuse_misread_targets
from mopref.conditioning.svd_lora import SVDLoRAConfig, SVDLoRALayer
from mopref.option_checks import RecordedConvention

__all__ = [
    "CONFIG_FILE",
    "PARTS",
    "AdapterContent",
    "export_lora",
    "export_lora_set",
    "introduce_to_peft",
    "read_adapter",
    "read_config",
    "save_adapter",
]

CONFIG_FILE, TENSOR_FILE = "adapter_config.json", "adapter_model.safetensors"
# Under another method's type an adapter may load "successfully" elsewhere and do nothing.
ADAPTER_TYPE = "MOPREF_SVD_LORA"
# 2: records what a preference says (preference_convention).
FORMAT_VERSION = 2
PARTS = ("U", "V", "sigma", "scale")

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


def save_adapter(
    folder: Path, adapters: Adapters, config: SVDLoRAConfig, base_model: nn.Module, convention: str
) -> None:
    """Write the adapters; existing adapter files in the folder are replaced."""
    introduce_to_peft()
    tensors = {f"{name}.{part}": _stored(getattr(layer, part)) for name, layer in adapters.items() for part in PARTS}
    name = _base_name(base_model)
    description = {
        # PEFT and transformers read these two, and refuse a type that they do not know.
        "peft_type": ADAPTER_TYPE,
        "base_model_name_or_path": name,
        "format_version": FORMAT_VERSION,
        "preference_convention": convention,
        "base_model": name,
        "base_check": base_check(base_model),
        **asdict(config),
        "adapted_modules": {name: [layer.n_out, layer.n_in] for name, layer in adapters.items()},
        "versions": {package: version(package) for package in ("mopref", "torch")},
    }
    _write(folder, description, tensors)


def read_config(folder: Path) -> dict[str, Any]:
    """The description of an adapter folder, checked.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not JSON, an adapter of another type, or of a newer format.
    """
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise FileNotFoundError(f"{folder} is no adapter folder: it has no {CONFIG_FILE}.")
    try:
        description: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not valid JSON ({error}): the adapter is damaged, save it again.") from error
    kind = description.get("peft_type") if isinstance(description, dict) else None
    if kind != ADAPTER_TYPE:
        raise ValueError(
            f"{folder} holds an adapter of type {kind!r}, not {ADAPTER_TYPE!r}: load it with the tool that wrote it."
        )
    if description.get("format_version") not in (1, FORMAT_VERSION):
        raise ValueError(
            f"{folder} has format version {description.get('format_version')!r}, and this mopref reads 1 and "
            f"{FORMAT_VERSION}: use the release of mopref that wrote it ({description.get('versions')})."
        )
    return description


def read_adapter(folder: Path, base_model: nn.Module) -> AdapterContent:
    """What an adapter folder holds, checked against a base model, which is not touched.

    Raises:
        FileNotFoundError: a missing file.
        ValueError: another type or base; tensors missing, unexpected, of another shape, or not finite.
    """
    description = read_config(folder)
    try:
        config = SVDLoRAConfig(**{field: description[field] for field in SVDLoRAConfig.__dataclass_fields__})
        sizes: dict[str, list[int]] = description["adapted_modules"]
        samples: dict[str, list[float]] = description["base_check"]
    except KeyError as error:
        raise ValueError(f"{folder / CONFIG_FILE} lacks {error}: the adapter is damaged, save it again.") from error
    version_of_file = description["format_version"]
    difference = _difference_of_layers(sizes, base_model) or difference_of_weights(samples, base_model, version_of_file)
    if difference:
        raise ValueError(
            f"{folder} was trained on another base model ({description.get('base_model')!r}): {difference}."
        )
    shapes = {
        f"{name}.{part}": shape
        for name, (n_out, n_in) in sizes.items()
        for part, shape in zip(
            PARTS, ((n_out, config.total_rank), (n_in, config.total_rank), (config.rank,), ()), strict=True
        )
    }
    tensors = _read_tensors(folder / TENSOR_FILE, shapes)
    return AdapterContent(config, tuple(sizes), tensors, _convention(description, folder))


def _convention(description: Mapping[str, Any], folder: Path) -> RecordedConvention:
    """What a preference says to the adapter; a warning where it is not the importance of each objective."""
    convention = description.get("preference_convention", "unrecorded")
    if convention not in get_args(RecordedConvention):
        raise ValueError(
            f"{folder / CONFIG_FILE}: preference_convention is {convention!r}, which is none of "
            f"{', '.join(get_args(RecordedConvention))}: the adapter is damaged, save it again."
        )
    if convention == "unrecorded":
        warnings.warn(
            f"{folder} does not record what a preference says to it. Trained before version 0.2 by PBI, modified "
            "Tchebycheff, an achievement function or COSMOS, a LARGER λ_i asks for a larger loss i: train it again, or "
            'set model.preference_convention = "ray". By any other scalarizer λ_i is the importance of objective i: '
            'set model.preference_convention = "importance". Then save it again.',
            stacklevel=4,
        )
    if convention == "ray":
        warnings.warn(
            f"{folder} was trained on rays: its λ is a direction of losses, and a LARGER λ_i asks for a larger loss i.",
            stacklevel=4,
        )
    return cast(RecordedConvention, convention)


def _difference_of_layers(sizes: dict[str, list[int]], base_model: nn.Module) -> str | None:
    """What tells a base model from the one whose layers were adapted, by the sizes of its layers."""
    modules = dict(base_model.named_modules(remove_duplicate=False))
    for name, size in sizes.items():
        module = modules.get(name)
        own_size = layer_sizes(module) if module is not None and is_adaptable(module) else "missing"
        if own_size != tuple(size):
            return f"it adapts {name} of shape {tuple(size)}, which is {own_size} here"
    return None


def _read_tensors(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    if not path.is_file():
        raise FileNotFoundError(f"{path.parent} is no complete adapter: it has no {path.name}.")
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} cannot be read ({error}): the adapter is damaged, save it again.") from error
    for name in sorted(shapes.keys() | tensors.keys()):
        if name not in tensors:
            raise ValueError(f"{path} has no tensor {name!r}: the adapter is damaged, save it again.")
        if name not in shapes:
            raise ValueError(f"{path} has a tensor {name!r} that {CONFIG_FILE} does not describe.")
        if tuple(tensors[name].shape) != shapes[name]:
            raise ValueError(f"{path}: {name!r} has shape {tuple(tensors[name].shape)}, not {shapes[name]}.")
        if not tensors[name].isfinite().all():
            raise ValueError(f"{path}: {name!r} has values that are not finite: the training diverged.")
    return tensors


def export_lora(
    folder: Path, adapters: Adapters, config: SVDLoRAConfig, base_model: nn.Module, preference: Tensor
) -> None:
    """Write the adapters at one preference ``(m,)`` as a plain LoRA of rank k + p·m.

    Raises:
        ValueError: the folder holds a mopref adapter, or PEFT would take some layers for others.
    """
    factors = {
        name: (layer.V.T, layer.config.scaling * layer.U * layer.gate(preference.view(1, -1)))
        for name, layer in adapters.items()
    }
    _write_lora(folder, adapters, base_model, factors, config.total_rank)


def export_lora_set(folder: Path, adapters: Adapters, config: SVDLoRAConfig, base_model: nn.Module) -> None:
    """Write ``shared`` and one plain LoRA for each objective, to be scaled by λ where they are served.

    Raises:
        ValueError: an objective is called "shared" or by what is no name of a folder, a folder holds a mopref adapter,
            or PEFT would take some layers for others.
    """
    if "shared" in config.objectives:
        raise ValueError("an objective is called 'shared', which is the name of the LoRA that all preferences share.")
    for name in config.objectives:
        if name in ("", ".", "..") or any(kind(name).name != name for kind in (PurePosixPath, PureWindowsPath)):
            raise ValueError(
                f"the objective {name!r} cannot name a folder of its own, in which its LoRA is written: train with a "
                "name without slashes."
            )
    refuse_misread_targets(base_model, adapters)
    for index, name in enumerate(("shared", *config.objectives)):
        start = 0 if index == 0 else config.rank + (index - 1) * config.preference_rank
        rank = config.rank if index == 0 else config.preference_rank
        if rank == 0:
            continue
        columns = slice(start, start + rank)
        factors = {}
        for module, layer in adapters.items():
            values = layer.sigma if index == 0 else layer.scale.expand(rank)
            factors[module] = (layer.V[:, columns].T, layer.config.scaling * layer.U[:, columns] * values)
        _write_lora(folder / name, adapters, base_model, factors, rank)


def _write_lora(
    folder: Path, adapters: Adapters, base_model: nn.Module, factors: dict[str, tuple[Tensor, Tensor]], rank: int
) -> None:
    """Write A and B of each layer, ``(rank, n_in)`` and ``(n_out, rank)``, as PEFT reads them."""
    refuse_misread_targets(base_model, adapters)
    description_file = folder / CONFIG_FILE
    if description_file.is_file() and ADAPTER_TYPE in description_file.read_text(encoding="utf-8"):
        raise ValueError(f"{folder} holds a mopref adapter, which the export would replace: choose another folder.")
    tensors = {}
    for name, (a, b) in factors.items():
        tensors[f"base_model.model.{name}.lora_A.weight"] = _stored(a)
        tensors[f"base_model.model.{name}.lora_B.weight"] = _stored(b)
    description = {
        "peft_type": "LORA",
        "task_type": _task_type(base_model),
        "base_model_name_or_path": _base_name(base_model),
        "inference_mode": True,
        "r": rank,
        # PEFT scales by lora_alpha / r; ours is in B already.
        "lora_alpha": rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": any(layer.transposed for layer in adapters.values()),
        "target_modules": list(factors),
    }
    _write(folder, description, tensors)


def _stored(tensor: Tensor) -> Tensor:
    """A tensor as safetensors takes it: on the CPU, contiguous, and with memory of its own."""
    return tensor.detach().cpu().clone().contiguous()


def _base_name(base_model: nn.Module) -> str:
    return str(getattr(base_model, "name_or_path", "") or "")


def _task_type(base_model: nn.Module) -> str | None:
    if not hasattr(base_model, "generate"):
        return None
    return "SEQ_2_SEQ_LM" if getattr(base_model.config, "is_encoder_decoder", False) else "CAUSAL_LM"


def _write(folder: Path, description: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Write both files, the description last, each in one move: an interrupted write leaves no valid adapter."""
    text = json.dumps(description, indent=2, ensure_ascii=False).encode()
    content = save(tensors, metadata={"format": "pt"})
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".writing-") as temporary:
        for name, data in ((TENSOR_FILE, content), (CONFIG_FILE, text)):
            (Path(temporary) / name).write_bytes(data)
        (folder / CONFIG_FILE).unlink(missing_ok=True)
        for name in (TENSOR_FILE, CONFIG_FILE):
            os.replace(Path(temporary) / name, folder / name)

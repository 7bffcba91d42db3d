"""Adapter folders: our own format, and plain LoRAs for other tools. JSON and safetensors, no pickle.

The functions take what a model holds: the adapters by the names of their layers, their settings and the base model.
"""

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeAlias

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from mopref.conditioning.svd_lora import SVDLoRAConfig, SVDLoRALayer

__all__ = ["CONFIG_FILE", "PARTS", "export_lora", "export_lora_set", "read_adapter", "read_config", "save_adapter"]

CONFIG_FILE, TENSOR_FILE = "adapter_config.json", "adapter_model.safetensors"
# Under another method's type an adapter may load "successfully" elsewhere and do nothing.
ADAPTER_TYPE = "MOPREF_SVD_LORA"
FORMAT_VERSION = 1
PARTS = ("U", "V", "sigma", "scale")

# By the names of their layers in the base model.
Adapters: TypeAlias = Mapping[str, SVDLoRALayer]


def save_adapter(folder: Path, adapters: Adapters, config: SVDLoRAConfig, base_model: nn.Module) -> None:
    """Write the adapters; existing adapter files in the folder are replaced."""
    tensors = {f"{name}.{part}": _stored(getattr(layer, part)) for name, layer in adapters.items() for part in PARTS}
    description = {
        # PEFT reads this key, and refuses a type that it does not know.
        "peft_type": ADAPTER_TYPE,
        "format_version": FORMAT_VERSION,
        "base_model": _base_name(base_model),
        "base_check": _base_check(base_model),
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
    if description.get("format_version") != FORMAT_VERSION:
        raise ValueError(
            f"{folder} has format version {description.get('format_version')!r}, and this mopref reads "
            f"{FORMAT_VERSION}: use the release of mopref that wrote it ({description.get('versions')})."
        )
    return description


def read_adapter(folder: Path, base_model: nn.Module) -> tuple[SVDLoRAConfig, dict[str, Tensor]]:
    """The settings and the tensors of an adapter folder, checked against a base model, which is not touched.

    Raises:
        FileNotFoundError: a missing file.
        ValueError: another type or base; tensors missing, unexpected, of another shape, or not finite.
    """
    description = read_config(folder)
    try:
        config = SVDLoRAConfig(**{field: description[field] for field in SVDLoRAConfig.__dataclass_fields__})
        sizes: dict[str, list[int]] = description["adapted_modules"]
        base_check: dict[str, list[float]] = description["base_check"]
    except KeyError as error:
        raise ValueError(f"{folder / CONFIG_FILE} lacks {error}: the adapter is damaged, save it again.") from error
    difference = _difference_of_layers(sizes, base_model) or _difference_of_weights(base_check, base_model)
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
    return config, _read_tensors(folder / TENSOR_FILE, shapes)


def _difference_of_layers(sizes: dict[str, list[int]], base_model: nn.Module) -> str | None:
    """What tells a base model from the one whose layers were adapted, by the shapes of their weights."""
    modules = dict(base_model.named_modules(remove_duplicate=False))
    for name, (n_out, n_in) in sizes.items():
        weight = getattr(modules.get(name), "weight", torch.empty(0))
        # A quantised weight is packed, and its shape says nothing.
        is_packed = name in modules and not weight.is_floating_point()
        if not is_packed and sorted(weight.shape) != sorted((n_out, n_in)):
            shape = tuple(weight.shape) if name in modules else "missing"
            return f"it adapts {name} of shape {(n_out, n_in)}, which is {shape} here"
    return None


def _difference_of_weights(base_check: dict[str, list[float]], base_model: nn.Module) -> str | None:
    """What tells a base model from the one whose layers were adapted, by samples of its weights."""
    for name, values in _base_check(base_model).items():
        # The same weights may be stored in half precision here and not there: 1 % covers that rounding.
        expected = torch.tensor(base_check.get(name, values))
        if not torch.tensor(values).allclose(expected, rtol=1e-2, atol=1e-2 * float(expected.abs().max())):
            return f"the weights of {name} differ from those it was trained on"
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
        ValueError: the folder holds a mopref adapter.
    """
    factors = {
        name: (layer.V.T, layer.config.scaling * layer.U * layer.gate(preference.view(1, -1)))
        for name, layer in adapters.items()
    }
    _write_lora(folder, adapters, base_model, factors, config.total_rank)


def export_lora_set(folder: Path, adapters: Adapters, config: SVDLoRAConfig, base_model: nn.Module) -> None:
    """Write ``shared`` and one plain LoRA for each objective, to be scaled by λ where they are served.

    Raises:
        ValueError: an objective is called "shared", or a folder holds a mopref adapter.
    """
    if "shared" in config.objectives:
        raise ValueError("an objective is called 'shared', which is the name of the LoRA that all preferences share.")
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
    description_file = folder / CONFIG_FILE
    if description_file.is_file() and ADAPTER_TYPE in description_file.read_text(encoding="utf-8"):
        raise ValueError(f"{folder} holds a mopref adapter, which the export would replace: choose another folder.")
    tensors = {}
    for name, (a, b) in factors.items():
        tensors[f"base_model.model.{name}.lora_A.weight"] = _stored(a)
        tensors[f"base_model.model.{name}.lora_B.weight"] = _stored(b)
    description = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM" if hasattr(base_model, "generate") else None,
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


def _base_check(base_model: nn.Module) -> dict[str, list[float]]:
    """A few numbers of every weight, by which another base of the same shapes is noticed."""
    adapter_parameters = {
        id(parameter)
        for layer in base_model.modules()
        if isinstance(layer, SVDLoRALayer)
        for parameter in layer.parameters(recurse=False)
    }
    samples = {}
    for name, parameter in base_model.named_parameters():
        # A quantised weight is packed, and differs from the same weight in float.
        if id(parameter) not in adapter_parameters and parameter.is_floating_point():
            values = parameter.detach().flatten()
            positions = torch.linspace(0, len(values) - 1, 8, dtype=torch.float64).long()
            # With the adapters in place the names are longer.
            samples[name.replace(".base_layer.", ".")] = values[positions.to(values.device)].float().cpu().tolist()
    return samples


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

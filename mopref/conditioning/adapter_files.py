"""Adapter folders: our own format, and plain LoRAs for other tools. JSON and safetensors, no pickle."""

import json
import os
import tempfile
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from mopref.conditioning.svd_lora import SVDLoRAConfig, SVDLoRALayer

if TYPE_CHECKING:
    from mopref.conditioning.preference_model import PreferenceModel

__all__ = ["CONFIG_FILE", "PARTS", "export_lora", "export_lora_set", "read_adapter", "read_config", "save_adapter"]

CONFIG_FILE, TENSOR_FILE = "adapter_config.json", "adapter_model.safetensors"
# Under another method's type an adapter may load "successfully" elsewhere and do nothing.
ADAPTER_TYPE = "MOPREF_SVD_LORA"
FORMAT_VERSION = 1
PARTS = ("U", "V", "sigma", "scale")


def save_adapter(model: "PreferenceModel", folder: Path) -> None:
    """Write the adapter of ``model``; existing adapter files there are replaced."""
    tensors = {
        f"{name}.{part}": getattr(layer, part).detach().cpu().clone().contiguous()
        for name, layer in model.adapters.items()
        for part in PARTS
    }
    description = {
        # PEFT reads this key, and refuses a type that it does not know.
        "peft_type": ADAPTER_TYPE,
        "format_version": FORMAT_VERSION,
        "base_model": _base_name(model.base_model),
        "base_check": _base_check(model.base_model),
        **asdict(model.adapter_config),
        "adapted_modules": {name: [layer.n_out, layer.n_in] for name, layer in model.adapters.items()},
        "versions": {package: version(package) for package in ("mopref", "torch")},
    }
    _write(folder, description, tensors)


def read_config(folder: Path) -> dict[str, Any]:
    """Read and check the description of an adapter folder.

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
    """Read an adapter and check it against a base model, which is not touched.

    Raises:
        FileNotFoundError: a missing file.
        ValueError: another type or base; tensors missing, unexpected, of another shape, or not finite.
    """
    description = read_config(folder)
    try:
        config = SVDLoRAConfig(**{field: description[field] for field in SVDLoRAConfig.__dataclass_fields__})
        shapes: dict[str, list[int]] = description["adapted_modules"]
        stored_check: dict[str, list[float]] = description["base_check"]
    except KeyError as error:
        raise ValueError(f"{folder / CONFIG_FILE} lacks {error}: the adapter is damaged, save it again.") from error
    modules = dict(base_model.named_modules(remove_duplicate=False))
    for name, (n_out, n_in) in shapes.items():
        shape = tuple(getattr(modules.get(name), "weight", torch.empty(0)).shape)
        # A quantised weight is packed, and its shape says nothing.
        packed = name in modules and not getattr(modules[name], "weight", torch.empty(0)).is_floating_point()
        if not packed and sorted(shape) != sorted((n_out, n_in)):
            raise ValueError(
                f"{folder} was trained on another base model ({description['base_model']!r}): it adapts {name} of "
                f"shape {(n_out, n_in)}, which is {shape if name in modules else 'missing'} here."
            )
    for name, values in _base_check(base_model).items():
        # The same weights may be stored in half precision here and not there: 1 % covers that rounding.
        stored = torch.tensor(stored_check.get(name, values))
        if not torch.tensor(values).allclose(stored, rtol=1e-2, atol=1e-2 * float(stored.abs().max())):
            raise ValueError(
                f"{folder} was trained on another base model ({description['base_model']!r}): the weights of {name} "
                "differ from those it was trained on."
            )
    path = folder / TENSOR_FILE
    if not path.is_file():
        raise FileNotFoundError(f"{folder} is no complete adapter: it has no {TENSOR_FILE}.")
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} cannot be read ({error}): the adapter is damaged, save it again.") from error
    expected = {
        f"{name}.{part}": shape
        for name, (n_out, n_in) in shapes.items()
        for part, shape in zip(
            PARTS, ((n_out, config.total_rank), (n_in, config.total_rank), (config.rank,), ()), strict=True
        )
    }
    for name in sorted(expected.keys() | tensors.keys()):
        if name not in tensors:
            raise ValueError(f"{path} has no tensor {name!r}: the adapter is damaged, save it again.")
        if name not in expected:
            raise ValueError(f"{path} has a tensor {name!r} that {CONFIG_FILE} does not describe.")
        if tuple(tensors[name].shape) != expected[name]:
            raise ValueError(f"{path}: {name!r} has shape {tuple(tensors[name].shape)}, not {expected[name]}.")
        if not tensors[name].isfinite().all():
            raise ValueError(f"{path}: {name!r} has values that are not finite: the training diverged.")
    return config, tensors


def export_lora(model: "PreferenceModel", folder: Path, preference: Tensor) -> None:
    """Write the adapter at one preference ``(m,)`` as a plain LoRA of rank k + p·m."""
    factors = {
        name: (layer.V.T, layer.config.scaling * layer.U * layer.gate(preference.view(1, -1)))
        for name, layer in model.adapters.items()
    }
    _write_lora(model, folder, factors, model.adapter_config.total_rank)


def export_lora_set(model: "PreferenceModel", folder: Path) -> None:
    """Write ``shared`` and one plain LoRA for each objective, to be scaled by λ where they are served."""
    config = model.adapter_config
    if "shared" in config.objectives:
        raise ValueError("an objective is called 'shared', which is the name of the LoRA that all preferences share.")
    for index, name in enumerate(("shared", *config.objectives)):
        start = 0 if index == 0 else config.rank + (index - 1) * config.preference_rank
        rank = config.rank if index == 0 else config.preference_rank
        if rank == 0:
            continue
        chosen = slice(start, start + rank)
        factors = {}
        for module, layer in model.adapters.items():
            values = layer.sigma if index == 0 else layer.scale.expand(rank)
            factors[module] = (layer.V[:, chosen].T, layer.config.scaling * layer.U[:, chosen] * values)
        _write_lora(model, folder / name, factors, rank)


def _write_lora(model: "PreferenceModel", folder: Path, factors: dict[str, tuple[Tensor, Tensor]], rank: int) -> None:
    existing = folder / CONFIG_FILE
    if existing.is_file() and ADAPTER_TYPE in existing.read_text(encoding="utf-8"):
        raise ValueError(f"{folder} holds a mopref adapter, which the export would replace: choose another folder.")
    tensors = {}
    for name, (a, b) in factors.items():
        tensors[f"base_model.model.{name}.lora_A.weight"] = a.detach().cpu().clone().contiguous()
        tensors[f"base_model.model.{name}.lora_B.weight"] = b.detach().cpu().clone().contiguous()
    description = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM" if hasattr(model.base_model, "generate") else None,
        "base_model_name_or_path": _base_name(model.base_model),
        "inference_mode": True,
        "r": rank,
        # PEFT scales by lora_alpha / r; ours is in B already.
        "lora_alpha": rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": any(layer.transposed for layer in model.adapters.values()),
        "target_modules": list(factors),
    }
    _write(folder, description, tensors)


def _base_name(base_model: nn.Module) -> str:
    return str(getattr(base_model, "name_or_path", "") or "")


def _base_check(base_model: nn.Module) -> dict[str, list[float]]:
    """A few numbers of every weight, by which another base of the same shapes is noticed."""
    adapters = {
        id(parameter)
        for layer in base_model.modules()
        if isinstance(layer, SVDLoRALayer)
        for parameter in layer.parameters(recurse=False)
    }
    samples = {}
    for name, parameter in base_model.named_parameters():
        # A quantised weight is packed, and differs from the same weight in float.
        if id(parameter) not in adapters and parameter.is_floating_point():
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

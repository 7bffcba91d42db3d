"""What ``adapter_config.json`` and the tensors beside it may hold: one check of what is read and what is written."""

import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, get_args

import torch
from torch import Tensor, nn

from mopref._checked_files import parsed_description, regular_file
from mopref.conditioning.adapter_layer import AdapterLayer
from mopref.conditioning.base_check import difference_of_weights
from mopref.conditioning.linear_layer import is_adaptable, layer_sizes
from mopref.conditioning.preference_core import core_shapes
from mopref.conditioning.preference_gate import SHARED_GATE, gate_shapes
from mopref.conditioning.svd_lora import SVDLoRAConfig, check_ranks, part_names
from mopref.option_checks import RecordedConvention

__all__ = [
    "ADAPTER_TYPE",
    "CONFIG_FILE",
    "FORMAT_VERSION",
    "KIND",
    "AdapterSettings",
    "check_finite",
    "check_tensors",
    "checked_settings",
    "difference_of_base",
    "difference_of_kind",
    "digest_of",
    "is_base_check",
    "read_config",
    "sealed",
    "version_of",
]

CONFIG_FILE = "adapter_config.json"
# Under another method's type an adapter may load "successfully" elsewhere and do nothing.
ADAPTER_TYPE = "MOPREF_SVD_LORA"
# 2: records what a preference says (preference_convention). 3: has checksums (sha256, tensors_sha256), and says where
# the base comes from (base_revision, base_is_local). 4: may have a gate that is not linear. 5: may have a full core.
# Those that have neither stay at 3, which earlier releases read.
FORMAT_VERSION = 5
_SINCE = {"core": 5, "gate": 4}
_PLAIN = {"core": "diagonal", "gate": "linear"}
_PLAIN_VERSION = 3
_READABLE = range(1, FORMAT_VERSION + 1)
_SEALED_SINCE = 3
_SAVE_AGAIN = "the adapter is damaged, save it again"
# The fields by which adapters are of the same kind, so that a newer one may take the place of an older.
KIND = ("objectives", "adapted_modules", "base_check")
_FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


class AdapterSettings(NamedTuple):
    """What the description of an adapter says.

    Attributes:
        config: the adapters' settings.
        sizes: ``(n_out, n_in)`` of each adapted layer by its name.
        samples: the numbers of the base's weights, of ``base_check``.
        base_weights: how many adapted layers were stored in which way, of ``storage_kinds``; ``None`` where nothing
            tells.
        convention: what a preference says: "importance", "ray", or "unrecorded".
        tensors_digest: the SHA-256 of the file of tensors; ``None`` of a format before version 3.
    """

    config: SVDLoRAConfig
    sizes: dict[str, tuple[int, int]]
    samples: dict[str, list[float]]
    base_weights: dict[str, int] | None
    convention: RecordedConvention
    tensors_digest: str | None

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each tensor, by ``<layer>.<part>``."""
        config, total, m = self.config, self.config.total_rank, len(self.config.objectives)
        full = core_shapes(m, config.rank, config.preference_rank)
        inner: tuple[tuple[int, ...], ...] = full if config.core == "full" else ((config.rank,), ())
        shapes: dict[str, tuple[int, ...]] = {
            f"{name}.{part}": shape
            for name, (n_out, n_in) in self.sizes.items()
            for part, shape in zip(part_names(config), ((n_out, total), (n_in, total), *inner), strict=True)
        }
        of_gate = gate_shapes(config.gate, m, total)
        for owner in self.sizes if config.gate == "layer-mlp" else (SHARED_GATE,):
            shapes |= {f"{owner}.{part}": shape for part, shape in of_gate.items()}
        return shapes


def version_of(config: SVDLoRAConfig) -> int:
    """The version of the format that an adapter is written in: the earliest that can say what it is."""
    needed = (since for field, since in _SINCE.items() if getattr(config, field) != _PLAIN[field])
    return max(needed, default=_PLAIN_VERSION)


def read_config(folder: Path) -> dict[str, Any]:
    """The description of an adapter folder, of whose fields only type and version are checked.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no plain file of its own, not JSON, an adapter of another type or of a newer format, or one that was
            changed after it was written.
    """
    path = regular_file(folder, CONFIG_FILE)
    if path is None:
        raise FileNotFoundError(f"{folder} is no adapter folder: it has no {CONFIG_FILE}.")
    try:
        description = parsed_description(path)
    except ValueError as error:
        raise ValueError(f"{error}: {_SAVE_AGAIN}.") from error
    kind = description.get("peft_type") if isinstance(description, dict) else None
    if kind != ADAPTER_TYPE:
        raise ValueError(
            f"{folder} holds an adapter of type {kind!r:.80}, not {ADAPTER_TYPE!r}: load it with the tool that wrote "
            "it."
        )
    number = description.get("format_version")
    if type(number) is not int or number not in _READABLE:
        raise ValueError(
            f"{folder} has format version {number!r:.80}, and this mopref reads {_READABLE[0]} to {FORMAT_VERSION}: "
            f"use the release of mopref that wrote it ({description.get('versions')!r:.200})."
        )
    _check_seal(description, path)
    return dict(description)


def sealed(description: Mapping[str, Any], tensors: bytes) -> dict[str, Any]:
    """A description with the checksums by which a later change of it, or of the file of tensors, is noticed."""
    noted = {**description, "tensors_sha256": hashlib.sha256(tensors).hexdigest()}
    return {**noted, "sha256": digest_of(noted)}


def digest_of(description: Mapping[str, Any]) -> str:
    """The checksum of all that a description says, however it is laid out, but for the checksum itself."""
    text = json.dumps({**description, "sha256": None}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _check_seal(description: Mapping[str, Any], path: Path) -> None:
    """Refuse a description that is not as it was written.

    Raises:
        ValueError: such a description.
    """
    number = description["format_version"]
    if number < _SEALED_SINCE:
        if "sha256" in description:
            raise ValueError(f"{path} says format version {number}, which had no checksum, and has one: {_SAVE_AGAIN}.")
        return
    if description.get("sha256") != digest_of(description):
        raise ValueError(
            f"{path} is not as mopref wrote it (its sha256 differs): it is damaged, or was edited by hand. Take a copy "
            "of what was written; to change it, load that by PreferenceModel.load(base, folder), set what is to be "
            "changed on the model, and save it again by save_pretrained."
        )


def checked_settings(description: Mapping[str, Any]) -> AdapterSettings:
    """The settings that a description holds.

    Raises:
        ValueError: a field that is missing or holds what it cannot.
    """
    description = {"base_weights": None, **_PLAIN, **description}
    _check_fields(description, _FIELDS)
    for field, since in _SINCE.items():
        if description[field] != _PLAIN[field] and description.get("format_version", FORMAT_VERSION) < since:
            raise ValueError(f"{field} is {description[field]!r:.80}, which its format version has not")
    convention = description.get("preference_convention", "unrecorded")
    if convention not in get_args(RecordedConvention):
        raise ValueError(
            f"preference_convention is {convention!r:.80}, which is none of {', '.join(get_args(RecordedConvention))}"
        )
    try:
        config = SVDLoRAConfig(**{field: description[field] for field in SVDLoRAConfig.__dataclass_fields__})
    except (TypeError, ValueError) as error:
        raise ValueError(f"{str(error).rstrip('.'):.400}") from error
    sizes = {name: (n_out, n_in) for name, (n_out, n_in) in description["adapted_modules"].items()}
    check_ranks(config, sizes.values())
    return AdapterSettings(
        config,
        sizes,
        description["base_check"],
        description.get("base_weights"),
        convention,
        description.get("tensors_sha256"),
    )


def difference_of_base(
    sizes: Mapping[str, tuple[int, int]], samples: Mapping[str, list[float]], base_model: nn.Module, version: int
) -> str | None:
    """What tells a base model from the one that was adapted; ``None`` for the same.

    Args:
        sizes: of each adapted layer.
        samples: of ``base_check``.
        base_model: what is compared.
        version: of the format that the samples were written in.
    """
    modules = dict(base_model.named_modules(remove_duplicate=False))
    for name, size in sizes.items():
        module = modules.get(name)
        # Of a model whose adapters are in place it is compared what they are around.
        layer = module.base_layer if isinstance(module, AdapterLayer) else module
        own_size = layer_sizes(layer) if layer is not None and is_adaptable(layer) else "missing"
        if own_size != size:
            return f"it adapts {name:.200} of shape {size}, which is {own_size} here"
    return difference_of_weights(samples, base_model, version)


def difference_of_kind(recorded: Mapping[str, Any], own: Mapping[str, Any], base_model: nn.Module) -> str | None:
    """What tells the adapter that was recorded from one that may take its place; ``None`` where nothing does.

    Args:
        recorded: at least the fields :data:`KIND` and the version of the format, from a file.
        own: the same of the adapter that is to be written.
        base_model: its base.
    """
    try:
        _check_fields(recorded, KIND)
    except ValueError as error:
        return f"it cannot be read: {error}"
    if recorded["objectives"] != list(own["objectives"]):
        return f"its objectives are {', '.join(recorded['objectives']):.200}"
    if recorded["adapted_modules"] != own["adapted_modules"]:
        return "it adapts other layers, or layers of other sizes"
    version = recorded.get("format_version")
    if type(version) is not int or version not in _READABLE:
        return f"it is of format version {version!r:.80}"
    return difference_of_weights(recorded["base_check"], base_model, version)


def check_tensors(
    tensors: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]], config_file: str = CONFIG_FILE
) -> None:
    """Refuse tensors that are not those of an adapter, or of another conditioning, as ``config_file`` describes it.

    Raises:
        ValueError: tensors that are missing, not described, of another shape, or of no floating-point type.
    """
    for name in sorted(shapes.keys() | tensors.keys()):
        if name not in tensors:
            raise ValueError(f"has no tensor {name!r}")
        if name not in shapes:
            raise ValueError(f"has a tensor {name!r:.200} that {config_file} does not describe")
        if tuple(tensors[name].shape) != shapes[name]:
            raise ValueError(f"{name!r} has shape {tuple(tensors[name].shape)}, not {shapes[name]}")
        if tensors[name].dtype not in _FLOATS:
            raise ValueError(f"{name!r} is of type {tensors[name].dtype}, none of {', '.join(map(str, _FLOATS))}")


def check_finite(tensors: Mapping[str, Tensor], place: str) -> None:
    """Refuse tensors that hold infinite numbers or none; the place says in a message where they are.

    Raises:
        ValueError: the first such tensor, by its name.
    """
    for name in sorted(tensors):
        tensor = tensors[name]
        # PyTorch does not ask it of floating-point numbers of eight bits, as a base may be stored in.
        tensor = tensor.float() if tensor.is_floating_point() and tensor.element_size() == 1 else tensor
        if not tensor.isfinite().all():
            raise ValueError(
                f"{place}: {name!r} has values that are not finite: the training diverged. Train again, or from an "
                "earlier checkpoint, at a lower learning rate."
            )


def _check_fields(description: Mapping[str, Any], names: Iterable[str]) -> None:
    for name in names:
        if name not in description:
            raise ValueError(f"lacks {name!r}")
        is_right, what = _FIELDS[name]
        if not is_right(description[name]):
            raise ValueError(f"{name} is {description[name]!r:.80}, not {what}")


def _is_whole(value: Any) -> bool:
    return type(value) is int


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= sys.float_info.max


def _is_factor(value: Any) -> bool:
    return _is_number(value) and 0 < torch.tensor(float(value), dtype=torch.float32).item() < float("inf")


def _is_list_of(is_right: Callable[[Any], bool], value: Any) -> bool:
    return isinstance(value, list) and all(map(is_right, value))


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_sizes(value: Any) -> bool:
    return isinstance(value, dict) and all(
        _is_list_of(_is_whole, sizes) and len(sizes) == 2 and min(sizes) > 0 for sizes in value.values()
    )


def is_base_check(value: Any) -> bool:
    """Whether a value of JSON can be what ``base_check`` gave: a list of finite numbers for each weight by its name."""
    return isinstance(value, dict) and all(_is_list_of(_is_number, numbers) for numbers in value.values())


# By the fields: whether a value is what the field holds, and what that is.
_FIELDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "objectives": (lambda value: _is_list_of(_is_text, value), "a list of texts"),
    "rank": (_is_whole, "a whole number"),
    "preference_rank": (_is_whole, "a whole number"),
    "scaling": (_is_factor, "a positive number that float32 holds"),
    "initialization": (_is_text, "a text"),
    "target_modules": (
        lambda value: value is None or _is_text(value) or _is_list_of(_is_text, value),
        "a list of texts",
    ),
    "layers": (lambda value: value is None or _is_list_of(_is_whole, value), "a list of whole numbers"),
    "seed": (_is_whole, "a whole number"),
    "gate": (_is_text, "a text"),
    "core": (_is_text, "a text"),
    "adapted_modules": (lambda value: _is_sizes(value) and bool(value), "two sizes for each layer by its name"),
    "base_check": (
        is_base_check,
        "a list of numbers for each weight by its name",
    ),
    "base_weights": (
        lambda value: value is None or (isinstance(value, dict) and all(map(_is_whole, value.values()))),
        "the number of layers by how they are stored",
    ),
}

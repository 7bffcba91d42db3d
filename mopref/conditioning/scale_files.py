"""``scales.json`` beside a set of plain LoRAs: their names in order, and how much of each is taken at a preference.

    1            of the LoRA that all preferences share, where there is one
    λ_i          of that of objective i
    δ_j(λ)       of that of direction j, with a gate of all layers: δ(λ) = D · tanh(A (m·λ − 1) + b)

The file holds D, A and b, so that whoever serves the LoRAs by request needs neither the adapter nor its base.
"""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mopref._checked_files import parsed_description, regular_file
from mopref._repr import short_repr
from mopref._sharded import whole_tensor
from mopref.argument_kinds import checks_arguments
from mopref.conditioning.adapter_description import check_finite, digest_of
from mopref.conditioning.adapter_folder import checked_folder, description_text, refuse_content
from mopref.conditioning.lora_names import SCALES_FILE, SHARED, check_set_names, set_names
from mopref.conditioning.preference_gate import PreferenceGate, gate_change, gate_shapes
from mopref.objective_names import checked_names
from mopref.preferences import validate_preferences

__all__ = ["check_scales_replaceable", "lora_scales", "scales_content", "single_preference"]

_KIND, _FORMAT_VERSION = "MOPREF_LORA_SCALES", 1
_FIELDS = {"kind", "format_version", "objectives", "loras", "gate", "versions", "sha256"}
_GATE = "shared-mlp"
_LARGEST = torch.finfo(torch.float32).max


def scales_content(objectives: Sequence[str], names: Sequence[str], gate: PreferenceGate | None) -> bytes:
    """The content of the file.

    Args:
        objectives: their names, in the order of a preference.
        names: of the set's LoRAs, as ``set_names`` gives them.
        gate: that of all layers, whose numbers come back exactly; ``None`` of a linear one.

    Raises:
        ValueError: values that are not finite.
    """
    parts = {name: whole_tensor(part).detach().cpu() for name, part in gate.parts.items()} if gate is not None else {}
    check_finite(parts, "the model cannot be exported")
    description = {
        "kind": _KIND,
        "format_version": _FORMAT_VERSION,
        "objectives": list(objectives),
        "loras": list(names),
        "gate": {name: part.double().tolist() for name, part in parts.items()} or None,
        "versions": {"mopref": version("mopref")},
    }
    return description_text({**description, "sha256": digest_of(description)}, SCALES_FILE)


def check_scales_replaceable(folder: Path, objectives: Sequence[str], names: Sequence[str]) -> None:
    """Refuse to write a set of LoRAs where the scales of others would be lost, or LoRAs of an older set stay.

    Args:
        folder: where they go.
        objectives: their names.
        names: of the set's LoRAs.

    Raises:
        FileExistsError: the folder's file of scales is of other objectives, of LoRAs that this set has not, of GGUF
            files, or cannot be read.
    """
    refuse_content(folder, lambda: _other_scales(folder, objectives, names))


def _other_scales(folder: Path, objectives: Sequence[str], names: Sequence[str]) -> str | None:
    try:
        recorded = _read(folder)
    except FileNotFoundError:
        return None
    except ValueError as error:
        return f"scales that cannot be read ({str(error).rstrip('.')})"
    if recorded.objectives != tuple(objectives):
        told = f"its objectives are {', '.join(recorded.objectives):.200}"
        return f"the LoRAs of another training, which would be lost ({told})"
    file = next((path.name for path in sorted(folder.glob("*.gguf"))), None)
    if file is not None:
        return f"the scales of GGUF files ({file}), which would be scaled by others then"
    older = [name for name in recorded.names if name not in names]
    return f"LoRAs that this set has not, which would stay beside it ({', '.join(older):.200})" if older else None


@checks_arguments
def lora_scales(folder: str | Path, preference: Any) -> dict[str, float]:
    """How much of each LoRA of a set is taken at λ, by name and in their order; what is taken may be negative.

    The model at λ is the base plus Σ scale · LoRA: 1 of ``shared``, λ_i of objective i, and with a gate of all layers
    δ_j(λ) of ``direction-j``, computed in float64.

    Args:
        folder: that of the set, with its ``scales.json``; or the path of that file.
        preference: λ, ``(m,)``, or a dict of weights by name.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a file that is damaged or another's, or of a newer format; no preference, or more than one.
    """
    path = checked_folder(folder)
    recorded = _read(path) if path.is_dir() else _read(path.parent, path.name)
    weights = single_preference(preference, recorded.objectives).cpu()
    scales = [1.0] * (recorded.names[0] == SHARED) + weights.tolist()
    if recorded.gate is not None:
        scales += gate_change(*recorded.gate, weights[None])[0].tolist()
    return dict(zip(recorded.names, scales, strict=True))


def single_preference(preference: Any, objectives: int | Sequence[str]) -> Tensor:
    """λ of one request, ``(m,)`` in float64.

    Raises:
        ValueError: no preference, or more than one.
    """
    rows = validate_preferences(preference, objectives)
    if len(rows) != 1:
        raise ValueError(f"{len(rows)} preferences were given where one request is made: give a single one.")
    return rows[0]


class _Recorded(NamedTuple):
    """What a file of scales says: the objectives, the names of the LoRAs, and D, A and b of a gate in float64."""

    objectives: tuple[str, ...]
    names: tuple[str, ...]
    gate: tuple[Tensor, Tensor, Tensor] | None


def _read(folder: Path, name: str = SCALES_FILE) -> _Recorded:
    """What the file of a folder says.

    Raises:
        FileNotFoundError: there is none.
        ValueError: no plain file of its folder, or one that says something else than :func:`scales_content` writes.
    """
    path = regular_file(folder, name)
    if path is None:
        raise FileNotFoundError(
            f"{folder} holds no {name}, which would say how much of each LoRA is taken: give the folder of a set, as "
            "export_lora_set, export_gguf_loras and mopref export write it, or export it again."
        )
    try:
        description = parsed_description(path)
        kind = description.get("kind") if isinstance(description, dict) else None
        if kind != _KIND:
            raise ValueError(f"{path} is of kind {short_repr(kind)}, not {_KIND!r}")
    except ValueError as error:
        raise ValueError(f"{error}: it is damaged, or no file of scales of ours; export the set again.") from error
    number = description.get("format_version")
    if type(number) is not int or number != _FORMAT_VERSION:
        raise ValueError(
            f"{path} has format version {short_repr(number)}, and this mopref reads {_FORMAT_VERSION}: use the release "
            f"of mopref that wrote it ({description.get('versions')!r:.200})."
        )
    try:
        return _checked(description)
    except ValueError as error:
        raise ValueError(f"{path}: {str(error).rstrip('.')}: it is damaged, export the set again.") from error


def _checked(description: Mapping[str, Any]) -> _Recorded:
    """What a description says, of which nothing is believed."""
    if description.keys() != _FIELDS:
        raise ValueError(f"its fields are {', '.join(sorted(description)):.300}, not {', '.join(sorted(_FIELDS))}")
    if description["sha256"] != digest_of(description):
        raise ValueError("it is not as mopref wrote it (its sha256 differs)")
    objectives = checked_names(description["objectives"], "objectives")
    names, gate = description["loras"], description["gate"]
    has_shared = isinstance(names, list) and names[:1] == [SHARED]
    directions = len(names) - has_shared - len(objectives) if isinstance(names, list) else 0
    if not isinstance(names, list) or tuple(names) != set_names(objectives, has_shared, directions):
        raise ValueError(f"loras are {short_repr(names)}, which no set of {', '.join(objectives):.200} has")
    check_set_names(objectives, directions > 0)
    if (gate is None) != (directions == 0):
        raise ValueError(f"gate is {short_repr(gate)}, and there are {directions} LoRAs of directions")
    parts = None if gate is None else _checked_gate(gate, gate_shapes(_GATE, len(objectives), directions))
    return _Recorded(objectives, tuple(names), parts)


def _checked_gate(gate: Any, shapes: Mapping[str, tuple[int, ...]]) -> tuple[Tensor, Tensor, Tensor]:
    """D, A and b."""
    if not isinstance(gate, dict) or gate.keys() != shapes.keys():
        raise ValueError(f"gate is {short_repr(gate)}, and not {', '.join(shapes)}")
    for part, shape in shapes.items():
        if not _is_array(gate[part], shape):
            raise ValueError(f"{part} is {short_repr(gate[part])}, not finite numbers of shape {shape}")
    mixture, weight, bias = (torch.tensor(gate[part], dtype=torch.float64) for part in shapes)
    return mixture, weight, bias


def _is_array(value: Any, shape: tuple[int, ...]) -> bool:
    """Whether a value of JSON is lists of finite numbers in that shape."""
    if not shape:
        return type(value) in (int, float) and abs(value) <= _LARGEST
    return isinstance(value, list) and len(value) == shape[0] and all(_is_array(row, shape[1:]) for row in value)

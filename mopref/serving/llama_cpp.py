"""llama.cpp: λ by request on a stock llama-server, from one GGUF LoRA that all share and one for each objective.

The set is loaded once, ``--lora shared.gguf,helpful.gguf,… --lora-init-without-apply``, and each request says how much
of each LoRA it wants: all of the shared one, λ_i of the others, and what ``scales.json`` says of those of directions.
"""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

from torch import Tensor

from mopref._write_ahead import write_ahead
from mopref.argument_kinds import checks_arguments
from mopref.conditioning import PreferenceModel
from mopref.conditioning.adapter_description import check_finite
from mopref.conditioning.adapter_files import stored
from mopref.conditioning.adapter_folder import checked_folder, is_there, refuse_content
from mopref.conditioning.lora_export import PlainLora, check_set, lora_set, scales_of_set
from mopref.conditioning.lora_names import SCALES_FILE
from mopref.conditioning.scale_files import lora_scales, single_preference

__all__ = ["LoraScale", "check_gguf_export", "export_gguf_loras", "request_scales"]


class _Family(NamedTuple):
    """How llama.cpp has a family of models.

    Attributes:
        architecture: its name there.
        permutes: whether the rows of q and k are in another order than transformers', with the halves of each head
            interleaved, since rotary positions turn neighbours there.
    """

    architecture: str
    permutes: bool


# By transformers' model_type, those looked up in ggml-org/llama.cpp: conversion/llama.py, smollm.py and qwen.py.
_FAMILIES = {
    "llama": _Family("llama", permutes=True),
    "mistral": _Family("llama", permutes=True),
    "smollm3": _Family("smollm3", permutes=True),
    "qwen2": _Family("qwen2", permutes=False),
    "qwen3": _Family("qwen3", permutes=False),
}
_HEADS = {"q_proj": "num_attention_heads", "k_proj": "num_key_value_heads"}


class LoraScale(TypedDict):
    """How much of one LoRA a request wants.

    Attributes:
        id: its place among those that the server was started with.
        scale: what its change of the weights is multiplied with.
    """

    id: int
    scale: float


@checks_arguments
def request_scales(
    preference: Any,
    objectives: int | Sequence[str] | None = None,
    has_shared: bool | None = None,
    scales: str | Path | None = None,
) -> list[LoraScale]:
    """The field ``"lora"`` of a request's body at λ: what the export's ``scales.json`` says of each file.

    Without that file, of a set with a linear gate: 1 for what all preferences share, and λ_i for objective i.
    All are listed, since the server takes one that is not for 0.

    Args:
        preference: λ, ``(m,)``, or a dict of weights by name.
        objectives: their names in the order of the files, or their number, where no folder is given.
        has_shared: whether the first file is ``shared.gguf``, which an adapter of rank 0 has not; by default it is.
        scales: the folder of the export, or its ``scales.json``: the one way where the gate is not linear.

    Raises:
        FileNotFoundError: ``scales`` without such a file.
        ValueError: no preference, or more than one; a file that is damaged or another's; neither ``objectives`` nor
            ``scales``, or both.

    Example:
        >>> request_scales({"harmless": 0.25, "helpful": 0.75}, ("helpful", "harmless"))
        [{'id': 0, 'scale': 1.0}, {'id': 1, 'scale': 0.75}, {'id': 2, 'scale': 0.25}]
    """
    if scales is not None:
        if objectives is not None or has_shared is not None:
            name = "has_shared" if objectives is None else "objectives"
            raise ValueError(f"scales and {name} are given, and the file of scales tells them: leave {name} out.")
        weights = list(lora_scales(scales, preference).values())
    elif objectives is not None:
        weights = [1.0] * (has_shared is not False) + single_preference(preference, objectives).tolist()
    else:
        raise ValueError("objectives is None, and so is scales: give scales, the folder of the export, or the names.")
    return [{"id": place, "scale": scale} for place, scale in enumerate(weights)]


@checks_arguments
def export_gguf_loras(model: PreferenceModel, folder: str | Path) -> list[Path]:
    """Write the LoRAs of a set for llama.cpp: ``shared.gguf`` and one for each objective, named after it.

    The model at λ is the base plus ``shared`` plus Σ_i λ_i · (objective i), and with a gate of all layers plus
    Σ_j δ_j(λ) · (direction j) of ``direction-1.gguf``, …: ``scales.json`` beside them holds what :func:`request_scales`
    reads. In float32, in the layout of that engine's own converter: A ``(rank, n_in)`` and B ``(n_out, rank)`` of each
    layer, where the family has them so with q's and k's rows of B in the engine's order.

    Returns:
        The LoRAs, in the order of ``--lora`` and of :func:`request_scales`.

    Raises:
        ImportError: the package gguf is missing.
        FileExistsError: the folder holds such a file, or scales.
        ValueError: as :func:`check_gguf_export`, or values that are not finite.
        OSError: nothing can be written, such as on a full disk; nothing is left then.

    Source: ggml-org/llama.cpp, convert_lora_to_gguf.py.
    """
    names = check_gguf_export(model)
    loras = lora_set(model.adapters, model.adapter_config)
    tensors = {lora.name: _tensors(lora, names, model) for lora in loras}
    for name, own in tensors.items():
        check_finite(own, f"the LoRA {name} cannot be exported")
    scales = scales_of_set(model.adapters, model.adapter_config)
    path, files = checked_folder(folder), [f"{lora.name}.gguf" for lora in loras]
    refuse_content(path, lambda: next((name for name in (*files, SCALES_FILE) if is_there(path, name)), None))
    architecture = _family(model).architecture
    with write_ahead(path) as writing:
        for lora, file in zip(loras, files, strict=True):
            _write(writing / file, lora, tensors[lora.name], architecture)
        (writing / SCALES_FILE).write_bytes(scales)
    return [path / name for name in files]


def check_gguf_export(model: PreferenceModel) -> dict[str, str]:
    """Refuse now what :func:`export_gguf_loras` would refuse of a model.

    Returns:
        The engine's name of each adapted layer's weight.

    Raises:
        ImportError: the package gguf is missing.
        ValueError: a family of models or a layer that is not known there, a gate of each layer, or objectives that can
            name no files.
    """
    if find_spec("gguf") is None:
        raise ImportError("the package gguf is missing, which GGUF files are written by: pip install 'mopref[gguf]'.")
    from gguf import MODEL_ARCH, MODEL_ARCH_NAMES, get_tensor_name_map

    check_set(model.adapter_config)
    parted = next((name for name in model.objectives if "," in name), None)
    if parted is not None:
        raise ValueError(
            f"the objective {parted!r} has a comma, at which llama-server parts the names of files: train with a name "
            "without commas."
        )
    family, config = _family(model), model.config
    architecture = next(kind for kind in MODEL_ARCH if MODEL_ARCH_NAMES[kind] == family.architecture)
    known = get_tensor_name_map(architecture, config.num_hidden_layers)
    names = {}
    for layer in model.adapters:
        name = known.get_name(f"{layer}.weight", try_suffixes=(".weight",))
        if name is None or (name == "output.weight" and config.tie_word_embeddings):
            why = "shares its weight with the embeddings there" if name else "is not known there"
            raise ValueError(
                f"{layer} cannot be adapted in llama.cpp, since it {why}: serve merge(λ), or train without it, by "
                "target_modules."
            )
        names[layer] = name
    return names


def _family(model: PreferenceModel) -> _Family:
    model_type = getattr(getattr(model.base_model, "config", None), "model_type", None)
    if model_type not in _FAMILIES:
        raise ValueError(
            f"the base is a {model_type or type(model.base_model).__name__}, and how llama.cpp has the layers of such "
            f"a model is known here of {', '.join(_FAMILIES)} only: serve merge(λ), or export_lora_set and llama.cpp's "
            "own convert_lora_to_gguf.py."
        )
    return _FAMILIES[model_type]


def _tensors(lora: PlainLora, names: dict[str, str], model: PreferenceModel) -> dict[str, Tensor]:
    """The factors of a LoRA by the engine's names."""
    family, tensors = _family(model), {}
    for layer, (a, b) in lora.factors.items():
        heads = _HEADS.get(layer.rpartition(".")[2]) if family.permutes else None
        if heads is not None:
            b = _interleaved(b, getattr(model.config, heads))
        tensors[f"{names[layer]}.lora_a"] = stored(a).float()
        tensors[f"{names[layer]}.lora_b"] = stored(b).float()
    return tensors


def _interleaved(b: Tensor, heads: int) -> Tensor:
    """B ``(n_out, rank)`` with row i and row i + half of each head beside each other."""
    size, rank = b.shape
    return b.reshape(heads, 2, size // heads // 2, rank).transpose(1, 2).reshape(size, rank)


def _write(path: Path, lora: PlainLora, tensors: dict[str, Tensor], architecture: str) -> None:
    from gguf import GGML_QUANT_VERSION, GGUFType, GGUFWriter, Keys

    writer = GGUFWriter(path, architecture)
    writer.add_type(GGUFType.ADAPTER)
    writer.add_name(lora.name)
    writer.add_string(Keys.Adapter.TYPE, "lora")
    # The engine scales by alpha / rank; ours is in B already.
    writer.add_float32(Keys.Adapter.LORA_ALPHA, float(lora.rank))
    writer.add_quantization_version(GGML_QUANT_VERSION)
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor.numpy())
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()

"""What a conditioning holds, as it is saved: its own tensors, and those of the base that are trained with it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from mopref.option_checks import RecordedConvention

__all__ = ["SavedContent", "SavedForm", "Shapes", "base_tensors", "take_on"]

# The shapes of a conditioning's own tensors by name, of its objectives, settings and places.
Shapes: TypeAlias = Callable[[tuple[str, ...], dict[str, Any], dict[str, Any]], Mapping[str, tuple[int, ...]]]


class SavedForm(NamedTuple):
    """What a conditioning holds, as it is saved.

    Attributes:
        kind: the name of its class.
        objectives: their names; none where it knows only their number or nothing of them.
        settings: those of its constructor, as JSON has them, without what ``tensors`` hold.
        places: what in the base its tensors belong to, by name: another base is told by it.
        tensors: its own tensors by name, no copies.
        base: the network that it is around.
        whole_base: whether the base is trained with it, and saved whole; otherwise it is compared when loaded, and
            of its parameters those are saved that require a gradient all the same.
    """

    kind: str
    objectives: tuple[str, ...]
    settings: dict[str, Any]
    places: dict[str, Any]
    tensors: Mapping[str, Tensor]
    base: nn.Module | None = None
    whole_base: bool = False


class SavedContent(NamedTuple):
    """What a folder holds.

    Attributes:
        objectives, settings, places: as :class:`SavedForm` has them.
        convention: what a preference says: "importance", "ray" or "unrecorded".
        tensors: the conditioning's own, by name.
        base_tensors: those of the base that were trained with it, by their names in the plain base.
        samples: the numbers of the base's weights, of ``base_check``; ``None`` where the base is saved whole.
    """

    objectives: tuple[str, ...]
    settings: dict[str, Any]
    places: dict[str, Any]
    convention: RecordedConvention
    tensors: dict[str, Tensor]
    base_tensors: dict[str, Tensor]
    samples: dict[str, list[float]] | None


def base_tensors(base: nn.Module, own: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """The parameters and the saved buffers of a base, by their names in the plain one, each once.

    Args:
        base: plain, or with layers around some of its linear layers.
        own: what in it is no part of the base.
    """
    # A parameter may be saved in another shape, as a view.
    skipped = {id(tensor if tensor._base is None else tensor._base) for tensor in (own or {}).values()}
    tensors: dict[str, Tensor] = {}
    buffers = {
        f"{prefix}.{name}" if prefix else name: buffer
        for prefix, module in base.named_modules()
        for name, buffer in module._buffers.items()
        if buffer is not None and name not in module._non_persistent_buffers_set
    }
    for name, tensor in (*base.named_parameters(), *buffers.items()):
        if id(tensor) not in skipped:
            tensors[name.replace(".base_layer.", ".")] = tensor
    return tensors


def take_on(content: SavedContent, form: SavedForm, of_own_type: Sequence[str] = ()) -> None:
    """Put the values of a folder, which :func:`read_conditioning` checked, into a model.

    Args:
        content: what was read.
        form: of the model.
        of_own_type: the tensors that become of the type that they were saved in, whatever they are.
    """
    with torch.no_grad():
        for name, tensor in content.tensors.items():
            if name in of_own_type:
                form.tensors[name].data = tensor
            else:
                form.tensors[name].copy_(tensor)
        base = {} if form.base is None else base_tensors(form.base, form.tensors)
        for name, tensor in content.base_tensors.items():
            base[name].copy_(tensor)
            if isinstance(base[name], nn.Parameter) and not form.whole_base:
                base[name].requires_grad_(True)

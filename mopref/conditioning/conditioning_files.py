"""Folders of the conditionings beside ``PreferenceModel``: settings in JSON, tensors in safetensors, no pickle.

What a class holds is said by its ``SavedForm``; how it is written, read and checked is here, once for all.
"""

import hashlib
import json
from abc import abstractmethod
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

from safetensors.torch import save
from torch import Tensor, nn

from mopref._checked_files import regular_file
from mopref._warning import warn
from mopref._write_ahead import write_together
from mopref.conditioning.adapter_description import CONFIG_FILE, check_finite, check_tensors
from mopref.conditioning.adapter_files import stored
from mopref.conditioning.adapter_folder import (
    CONDITIONING_CONFIG,
    CONDITIONING_TENSORS,
    TENSOR_FILE,
    checked_folder,
    description_text,
    is_there,
    refuse_content,
    refused_content,
)
from mopref.conditioning.base_check import base_check, difference_of_weights, shares_no_weight
from mopref.conditioning.base_origin import base_name
from mopref.conditioning.conditioning_description import FORMAT_VERSION, SAVE_AGAIN, check_settings, read_description
from mopref.conditioning.saved_form import SavedContent, SavedForm, Shapes, base_tensors
from mopref.conditioning.tensor_files import described_tensors, read_tensors
from mopref.option_checks import RecordedConvention, checked_recorded_convention

__all__ = ["SavedConditioning", "read_conditioning"]

_MANY_PLACES = 1000
# Base tensors have names of their own in the file.
_BASE = "base."


class SavedConditioning:
    """A conditioning that is saved into a folder of its own; each has a ``load`` beside this.

    Attributes:
        preference_convention: what a preference says to it as it is trained: "importance" (λ_i is the importance of
            objective i), or "ray". ``ParetoTrainer`` sets it, and a saved folder records it.
    """

    preference_convention: RecordedConvention = "importance"

    @abstractmethod
    def _form(self) -> SavedForm:
        """What is saved."""

    def save_pretrained(self, folder: str | Path) -> None:
        """Write ``conditioning.json`` and ``conditioning.safetensors``, which ``load`` reads.

        A base that is trained with the conditioning is written too; a frozen one is not, and another in its place is
        refused. An older save of the same kind, settings and base is replaced, as after more training; other files of
        the folder stay.

        Raises:
            FileExistsError: the folder holds a model, an adapter, a checkpoint or another conditioning, which would be
                lost.
            ValueError: values that are not finite, or a base whose weights are quantised and would be saved whole.
        """
        _save(checked_folder(folder), self._form(), self.preference_convention)

    def check_folder(self, folder: str | Path) -> None:
        """Refuse a folder as :meth:`save_pretrained` would, before a training rather than after it.

        Raises:
            FileExistsError: the folder holds something else, which would be lost.
        """
        path, form = checked_folder(folder), self._form()
        refuse_content(path, lambda: _other_content(path, form))


def _save(folder: Path, form: SavedForm, convention: RecordedConvention) -> None:
    base = _saved_base(form)
    tensors = {name: stored(tensor) for name, tensor in form.tensors.items()}
    tensors |= {f"{_BASE}{name}": stored(tensor) for name, tensor in base.items()}
    check_finite(tensors, "the model cannot be saved")
    description = _identity(form) | {
        "preference_convention": checked_recorded_convention(convention, "preference_convention"),
        "base_model": None if form.base is None else base_name(form.base),
        "base_tensors": {name: list(tensor.shape) for name, tensor in base.items()},
        "versions": {package: version(package) for package in ("mopref", "torch")},
    }
    refuse_content(folder, lambda: _other_content(folder, form))
    content = save(tensors, metadata={"format": "pt"})
    description["sha256"] = _digest(description, hashlib.sha256(content))
    text = description_text(description, CONDITIONING_CONFIG)
    write_together({folder: {CONDITIONING_TENSORS: content, CONDITIONING_CONFIG: text}})


def _saved_base(form: SavedForm) -> dict[str, Tensor]:
    """What of the base is saved: all of it, or what is trained although it is meant to be frozen.

    Raises:
        ValueError: weights that are not stored as they are used.
    """
    if form.base is None:
        return {}
    tensors = base_tensors(form.base, form.tensors)
    chosen = {name: tensor for name, tensor in tensors.items() if form.whole_base or tensor.requires_grad}
    for name, tensor in chosen.items():
        if tensor.is_meta or type(tensor.data) is not Tensor:
            raise ValueError(
                f"{name} of the base model is a {type(tensor.data).__name__} on {tensor.device}, not stored as it is "
                "used, so that the base cannot be saved with its conditioning: freeze it (train_base=False)."
            )
    return chosen


def _identity(form: SavedForm) -> dict[str, Any]:
    """The fields by which two saves are of the same model, so that a newer one may take the place of an older."""
    samples = None
    if form.base is not None and not form.whole_base:
        saved = _saved_base(form)
        samples = {name: numbers for name, numbers in base_check(form.base).items() if name not in saved}
    return _as_json(
        {
            "kind": form.kind,
            "format_version": FORMAT_VERSION,
            "objectives": form.objectives,
            "settings": form.settings,
            "places": form.places,
            "base_check": samples,
        }
    )


def _as_json(value: Any) -> Any:
    return json.loads(json.dumps(value))


def _digest(description: Mapping[str, Any], tensors: Any) -> str:
    """Of all that both files hold, by which a change after writing is noticed."""
    tensors.update(json.dumps({**description, "sha256": None}, sort_keys=True).encode())
    return str(tensors.hexdigest())


def _other_content(folder: Path, form: SavedForm) -> str | None:
    content = refused_content(folder)
    if content is not None:
        return content
    if is_there(folder, CONFIG_FILE, TENSOR_FILE, "adapter_model.bin"):
        return "an adapter, beside which nobody would know which of the two counts"
    if not is_there(folder, CONDITIONING_CONFIG, CONDITIONING_TENSORS):
        return None
    try:
        recorded = read_description(folder)
    except (ValueError, OSError) as error:
        return f"a conditioning that cannot be read ({str(error).rstrip('.')})"
    own = _identity(form)
    for field in ("kind", "objectives", "settings", "places"):
        difference = _difference(recorded[field], own[field])
        if difference:
            return f"another conditioning, which would be lost ({field}: {difference})"
    weights = None
    if form.base is not None and recorded["base_check"] is not None:
        weights = difference_of_weights(recorded["base_check"], form.base, 2)
    return None if weights is None else f"another conditioning, which would be lost ({weights})"


def _difference(recorded: Any, own: Any) -> str | None:
    """The first entry in which the one that was recorded differs; the order of entries counts."""
    if isinstance(recorded, dict) and isinstance(own, dict):
        for name in [*recorded, *(name for name in own if name not in recorded)]:
            if recorded.get(name, "missing") != own.get(name, "missing"):
                there, here = recorded.get(name, "missing"), own.get(name, "missing")
                return f"{name:.200} is {there!r:.80} there and {here!r:.80} here"
        return None if [*recorded] == [*own] else "the same names in another order"
    return None if recorded == own else f"{recorded!r:.80} there and {own!r:.80} here"


def read_conditioning(
    folder: str | Path,
    kind: str,
    shapes: Shapes,
    base: nn.Module | None = None,
    places: Callable[[dict[str, Any]], dict[str, Any]] = lambda _: {},
    own: Mapping[str, Tensor] | None = None,
) -> SavedContent:
    """What a folder holds, checked as a whole and against a base, which is not touched.

    Args:
        folder: where it was written.
        kind: the name of the class that is to be loaded.
        shapes: of the conditioning's own tensors by name, from objectives, settings and places.
        base: the network that it is to be put around.
        places: what the base that is given has in the places that were recorded.
        own: tensors inside the base that are no part of it.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: another kind or base, or a file that is damaged.
    """
    folder = checked_folder(folder)
    description = read_description(folder)
    if description["kind"] != kind:
        raise ValueError(f"{folder} holds a {description['kind']:.80}, not a {kind}: load it with that class.")
    path = regular_file(folder, CONDITIONING_TENSORS)
    if path is None:
        raise FileNotFoundError(f"{folder} is no complete conditioning: it has no {CONDITIONING_TENSORS}.")
    try:
        described = described_tensors(path)
    except ValueError as error:
        raise ValueError(f"{error}: {SAVE_AGAIN}.") from error
    with path.open("rb") as file:
        intact = _digest(description, hashlib.file_digest(file, "sha256")) == description["sha256"]
    # Of damaged places nothing can be said of the base.
    difference = _difference(description["places"], _as_json(places(description["places"]))) if intact else None
    content = None if difference else _checked_content(folder, description, described, shapes, intact)
    if base is not None and content is not None:
        difference = _difference_of_base(content, base, own)
    if difference or content is None:
        raise ValueError(
            f"{folder} was trained on another base model ({description['base_model']!r:.200}): {difference}."
        )
    tensors = read_tensors(path)
    check_finite(tensors, str(path))
    content = content._replace(
        tensors={name: tensors[name] for name in content.tensors},
        base_tensors={name: tensors[f"{_BASE}{name}"] for name in content.base_tensors},
    )
    if content.convention == "ray":
        warn(
            f"{folder} was trained on rays: its λ is a direction of losses, and a LARGER λ_i asks for a larger loss i.",
        )
    return content


def _checked_content(
    folder: Path,
    description: dict[str, Any],
    tensors: dict[str, Tensor],
    shapes: Shapes,
    intact: bool,
) -> SavedContent:
    """The content by its description, as long as all of it is as it was written.

    Its tensors are those that the file's header describes, of which nothing was read yet.
    """
    tensor_path, path = folder / CONDITIONING_TENSORS, folder / CONDITIONING_CONFIG
    objectives, settings, places = tuple(description["objectives"]), description["settings"], description["places"]
    # Whatever is in a folder that is intact was compared with the base already.
    if not intact and len(places) > _MANY_PLACES:
        _refuse_damage(folder, "its files are no longer what was written (sha256)")
    try:
        check_settings(description["kind"], settings)
        own_shapes = shapes(objectives, settings, places)
        base_shapes = {name: tuple(shape) for name, shape in description["base_tensors"].items()}
        convention = checked_recorded_convention(description["preference_convention"])
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        _refuse_damage(path, f"its settings cannot be read ({type(error).__name__}: {error!s:.200})", error)
    base = {name.removeprefix(_BASE): tensor for name, tensor in tensors.items() if name.startswith(_BASE)}
    own = {name: tensor for name, tensor in tensors.items() if not name.startswith(_BASE)}
    try:
        check_tensors(own, own_shapes, CONDITIONING_CONFIG)
        found = {name: tuple(tensor.shape) for name, tensor in base.items()}
        for name in sorted(base_shapes.keys() | found.keys()):
            if found.get(name) != base_shapes.get(name):
                raise ValueError(f"{name!r:.200} of the base is {found.get(name)}, not {base_shapes.get(name)}")
    except ValueError as error:
        _refuse_damage(tensor_path, str(error), error)
    if not intact:
        _refuse_damage(folder, "its files are no longer what was written (sha256)")
    return SavedContent(objectives, settings, places, convention, own, base, description["base_check"])


def _refuse_damage(path: Path, fault: str, cause: Exception | None = None) -> NoReturn:
    raise ValueError(f"{path}: {fault.rstrip('.')}: {SAVE_AGAIN}.") from cause


def _difference_of_base(content: SavedContent, base: nn.Module, own: Mapping[str, Tensor] | None) -> str | None:
    here = base_tensors(base, own)
    wanted = content.base_tensors.keys()
    for name in sorted(wanted | here.keys() if content.samples is None else wanted):
        saved, given = content.base_tensors.get(name), here.get(name)
        if saved is None or given is None:
            return f"{name:.200} is missing {'there' if saved is None else 'here'}"
        if saved.shape != given.shape:
            return f"{name} has shape {tuple(saved.shape)} there and {tuple(given.shape)} here"
        if saved.is_floating_point() != given.is_floating_point():
            return f"{name} is {saved.dtype} there and {given.dtype} here"
    if content.samples is None:
        return None
    if shares_no_weight(content.samples, base) and not wanted:
        return "there is no weight that both have"
    # Those that were trained all the same differ by rights, and are taken from the folder.
    given_samples = {name: numbers for name, numbers in content.samples.items() if name not in wanted}
    return difference_of_weights(given_samples, base, 2)

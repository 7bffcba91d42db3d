"""Whether the parts of a training fit together: asked when the trainer is made, before any work."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker, get_available_trackers
from accelerate.utils import LoggerType
from torch import nn

from mopref._warning import warn
from mopref.conditioning.conditioned_model import check_objectives
from mopref.gradients.weighting import GradientWeighting
from mopref.objective import Objective
from mopref.objective_names import check_same_names
from mopref.sampler import PreferenceSampler
from mopref.scalarizer import Scalarizer
from mopref.training.callbacks import TrainerCallback
from mopref.training.checkpoints import check_places
from mopref.training.config import TrainerConfig

__all__ = [
    "check_frozen_base",
    "check_kinds",
    "check_names",
    "check_outputs",
    "check_parts",
    "settle_convention",
]

# Weights of networks are smaller than this, and AdamW moves each by about the rate.
_LARGEST_RATE = 1.0


def check_kinds(model: Any, config: Any, callbacks: Any) -> None:
    """Refuse arguments of another kind than they are for.

    Raises:
        TypeError: a model that is no module, a config that is none, or callbacks that are no sequence of instances.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"the model is a {type(model).__name__}: give a torch module, such as a PreferenceModel.")
    if not isinstance(config, TrainerConfig):
        raise TypeError(f"config is a {type(config).__name__}: give a TrainerConfig(…).")
    if not isinstance(callbacks, Sequence):
        raise TypeError(f"callbacks is a {type(callbacks).__name__}: give a list, also of a single one.")
    for callback in callbacks:
        if isinstance(callback, type) or not isinstance(callback, TrainerCallback):
            name = callback.__name__ if isinstance(callback, type) else type(callback).__name__
            raise TypeError(f"callbacks hold {name}: give instances of classes that derive from TrainerCallback.")


def check_parts(
    model: nn.Module,
    objective: Objective,
    scalarizer: Scalarizer | GradientWeighting,
    sampler: PreferenceSampler,
    config: TrainerConfig,
) -> None:
    """Refuse parts that do not go together.

    Raises:
        ValueError: what :func:`check_names`, :func:`check_frozen_base` and :func:`check_outputs` refuse, or points of
            another number of objectives.

    Warns:
        UserWarning: a learning rate that no network learns at.
    """
    check_names(model, objective, sampler)
    scalarizer.check_objectives(objective.num_objectives)
    check_frozen_base(model)
    check_outputs(config)
    _tell_steps(config)


def _tell_steps(config: TrainerConfig) -> None:
    """Tell a learning rate at which nothing is learned, though the losses of a bounded model stay finite."""
    if config.learning_rate > _LARGEST_RATE:
        warn(
            f"learning_rate is {config.learning_rate:g}: AdamW moves every weight by about so much at each step, which "
            "scrambles a network. Rates that train are 1e-5 to 1e-2."
        )


def check_names(model: nn.Module, objective: Objective, sampler: PreferenceSampler) -> None:
    """Refuse a model or a sampler with other objectives than the objective's, or with the same in another order.

    Raises:
        ValueError: names or numbers of objectives that differ.
    """
    names, whose = objective.names, type(objective).__name__
    if sampler.num_objectives != len(names):
        raise ValueError(
            f"the sampler draws preferences over {sampler.num_objectives} objectives, but there are {len(names)}: "
            f"{', '.join(names)}."
        )
    if sampler.names is not None:
        check_same_names(names, whose, sampler.names, "the sampler")
    check_objectives(model, names, whose)


def check_frozen_base(model: nn.Module) -> None:
    """Refuse a base model that would be trained beside its adapters, which alone are saved.

    Companions, and what lies around a ``PreferenceModel``, may be trained; so may the base of another conditioning.

    Raises:
        ValueError: the first parameter of such a base that requires a gradient.
    """
    for part in model.modules():
        for name in getattr(part, "trained_base_parameters", ()):
            raise ValueError(
                f"{name} of the base model requires a gradient: it would be trained beside the adapters, which alone "
                "are saved, and the reference would move with it. Switch it off (requires_grad_(False)), or train the "
                "base first and put adapters on the result."
            )


def settle_convention(model: nn.Module, convention: str) -> None:
    """Note in the model what a preference says to it: "importance" or "ray"; nothing in one that keeps no such note.

    Raises:
        ValueError: adapters that were trained already, under the other convention.
    """
    for part in model.modules():
        own = getattr(part, "preference_convention", convention)
        if own == convention:
            continue
        if any(layer.changes_something for layer in getattr(part, "adapters", {}).values()):
            raise ValueError(
                f"the model's adapters were trained under the preference convention {own!r}, but this scalarizer's "
                f"is {convention!r}, under which λ means something else: choose a scalarizer of the same convention, "
                "begin with new adapters, or, if you know better, set model.preference_convention to "
                f"{convention!r} first."
            )
        part.preference_convention = convention  # type: ignore[assignment]


def check_outputs(config: TrainerConfig) -> None:
    """Refuse trackers that are not there, and a folder that cannot be written into.

    Raises:
        ValueError: a tracker that is unknown, not installed or needs ``output_dir``; or an ``output_dir`` that is no
            folder, cannot be written into, or holds something else where a checkpoint will go.
    """
    for tracker in config.trackers:
        _check_tracker(tracker, config.output_dir)
    if config.output_dir is not None and (config.trackers or config.checkpoint_every is not None):
        _check_folder(Path(config.output_dir))
    # A run may go on from a checkpoint, whatever a user has put beside it; its other folders are looked at then.
    check_places(config, lets_checkpoints_be=True)


def _check_tracker(tracker: Any, output_dir: Any) -> None:
    if isinstance(tracker, GeneralTracker):
        return
    name = str(getattr(tracker, "value", tracker))
    known = [str(kind.value) for kind in LoggerType]
    if not isinstance(tracker, str) or name not in {*known, *map(str, LOGGER_TYPE_TO_CLASS)}:
        raise ValueError(
            f"unknown tracker {tracker!r}: choose one of {', '.join(known)}, or give an object of a class that derives "
            "from accelerate's GeneralTracker."
        )
    installed = [str(kind) for kind in get_available_trackers()]
    if name == "all" and not installed:
        raise ValueError("trackers are 'all', but no tracker is installed: install one, or leave it out.")
    if name in known and name != "all" and name not in installed:
        raise ValueError(
            f"the tracker {name!r} is not installed, so the run would have no log: install its package, or leave it "
            "out."
        )
    kinds = [kind for kind in LOGGER_TYPE_TO_CLASS if str(kind) in (installed if name == "all" else [name])]
    if output_dir is None and any(LOGGER_TYPE_TO_CLASS[kind].requires_logging_directory for kind in kinds):
        raise ValueError(f"the tracker {name!r} writes files, and output_dir is None: say where they go.")


def _check_folder(folder: Path) -> None:
    # The part of the path that is there already.
    existing = next(part for part in (folder, *folder.absolute().parents) if part.exists())
    if not existing.is_dir():
        raise ValueError(f"output_dir is {folder}, but {existing} is no folder: choose another.")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise ValueError(f"output_dir is {folder}, but nothing can be written into {existing}: choose another.")

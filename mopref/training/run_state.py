"""What a resumed run must have in common with the one that wrote its checkpoint, and its model's trained state."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import recursively_apply
from torch import Tensor, nn
from torch.optim import Optimizer

from mopref._paths import checked_path
from mopref._warning import warn
from mopref.objective import Metric, Update
from mopref.training.callbacks import TrainerCallback
from mopref.training.checkpoint import check_replaceable
from mopref.training.checkpoints import check_places
from mopref.training.config import TrainerConfig
from mopref.training.manifest import REMEDY, damage
from mopref.training.optimizers import OPTIMIZERS, is_whole_state
from mopref.training.run_identity import check_identity

__all__ = [
    "check_checkpoint",
    "check_entries",
    "check_run",
    "check_saveable",
    "check_settings",
    "check_state",
    "fixed_settings",
    "load_callback_states",
    "load_trained_state",
    "tell_other_rate",
    "trained_state",
    "undone_on_error",
]

# What a checkpoint holds. The states of parts are their own, mostly dicts.
_ENTRIES: dict[str, Any] = {
    "step": int,
    "model": dict,
    "optimizer": dict,
    "scaler": dict | None,
    "scalarizer": object,
    "sampler": object,
    "objective": object,
    "pending": list,
    "batches": dict | None,
    "history": list,
    "unlogged": list,
    "callbacks": list,
    "random": dict,
}

# The share by which a learning rate may be another one before it is told.
_SAME_RATE = 0.01


def fixed_settings(config: TrainerConfig) -> dict[str, Any]:
    """The settings that must not change when a run is resumed; ``steps`` may grow."""
    settings = dict(vars(config))
    for name in (
        "steps",
        "output_dir",
        "checkpoint_every",
        "keep_checkpoints",
        "log_every",
        "trackers",
        "cpu",
        "progress",
    ):
        del settings[name]
    # Both say the same.
    settings["mixed_precision"] = None if settings["mixed_precision"] == "no" else settings["mixed_precision"]
    return settings


def check_saveable(config: TrainerConfig, folder: str | Path) -> None:
    """Refuse to write a checkpoint over something else, or one that could not be resumed.

    Raises:
        FileExistsError: the folder holds something other than a checkpoint, which would be lost.
        ValueError: an optimiser whose state a checkpoint does not keep, or what no path can be.
        TypeError: no path.
    """
    check_replaceable(checked_path(folder, "folder"))
    if OPTIMIZERS[config.optimizer].is_paged:
        raise ValueError(
            f"optimizer is {config.optimizer!r}: a run resumed from a checkpoint would hold all its averages on the "
            "GPU; choose 'adamw-8bit'."
        )


def check_run(
    manifest: Mapping[str, Any],
    settings: Mapping[str, Any],
    identity: Mapping[str, str],
    config: TrainerConfig,
    folder: str | Path,
) -> None:
    """Refuse a checkpoint of another run, by its manifest alone.

    Args:
        manifest: of the checkpoint.
        settings: of the resumed run, with :func:`fixed_settings`.
        identity: of the resumed run, as ``run_identity`` makes it.
        config: of the resumed run.
        folder: the checkpoint, for the message.

    Raises:
        FileExistsError: something else where a later checkpoint will go.
        ValueError: the first thing that differs.
    """
    if OPTIMIZERS[config.optimizer].is_paged:
        raise ValueError(
            f"{folder} cannot be resumed by the optimizer {config.optimizer!r}, which would hold all its averages on "
            "the GPU then: start a new run, with 'adamw-8bit' to resume it."
        )
    check_settings(settings, manifest["settings"], folder)
    check_identity(identity, manifest["identity"], folder)
    _check_steps(config, manifest["step"], folder)
    check_places(config, manifest["step"])


def check_checkpoint(
    state: Mapping[str, Any],
    manifest: Mapping[str, Any],
    config: TrainerConfig,
    model: nn.Module,
    optimizer: Optimizer,
    folder: str | Path,
) -> None:
    """Refuse a damaged checkpoint; a warning tells another learning rate or number of threads.

    Args:
        state: what the checkpoint holds.
        manifest: of the checkpoint.
        config: of the resumed run.
        model: what is trained.
        optimizer: of its parameters.
        folder: the checkpoint, for the message.

    Raises:
        ValueError: the first thing that is missing, or differs.
    """
    check_entries(state, folder)
    check_state(state, config, model, optimizer, folder)
    if state["step"] != manifest["step"]:
        raise damage(folder, f"its state is of step {state['step']}, its manifest of step {manifest['step']}")
    _check_records(state, manifest["settings"]["objectives"], folder)
    tell_other_rate(config, state["step"], state["optimizer"]["param_groups"][0]["lr"], folder)
    _tell_threads(manifest, next(model.parameters()).device, folder)


def check_entries(state: Mapping[str, Any], folder: str | Path) -> None:
    """Refuse a checkpoint that lacks something, or holds something else in its place.

    Raises:
        ValueError: the first such entry.
    """
    for name, kind in _ENTRIES.items():
        if name not in state or not isinstance(state[name], kind):
            what = f"is a {type(state[name]).__name__}" if name in state else "is missing"
            raise damage(folder, f"its {name!r} {what}")


def check_settings(own: Mapping[str, Any], checkpoint: Mapping[str, Any], folder: str | Path) -> None:
    """Refuse a checkpoint of a run with other settings.

    Raises:
        ValueError: the first setting that differs, with both values.
    """
    # A setting that its version did not have yet: the default does what was done then.
    checkpoint = {**fixed_settings(TrainerConfig()), **checkpoint}
    is_one_forward = checkpoint["gradient_accumulation_steps"] == 1
    drawn_for = own.get("preferences_drawn_for") if is_one_forward else "each forward"
    checkpoint = {"preferences_drawn_for": drawn_for, **checkpoint}
    for name, value in own.items():
        if checkpoint.get(name) != value:
            raise ValueError(
                f"{folder} was trained with {name} = {checkpoint.get(name)}, not {value}: resume with the same "
                "setting, or start a new run."
            )


def check_state(
    state: Mapping[str, Any], config: TrainerConfig, model: nn.Module, optimizer: Optimizer, folder: str | Path
) -> None:
    """Refuse a checkpoint that the run cannot go on from.

    Args:
        state: with all entries.
        config: of the resumed run.
        model: what is trained.
        optimizer: of its parameters.
        folder: the checkpoint, for the message.

    Raises:
        ValueError: more steps than the run is to have, parameters of another model, an optimiser's state of other
            parameters, or something else than updates that waits for the steps to come.
    """
    _check_steps(config, state["step"], folder)
    _check_trained_state(model, state["model"], folder)
    is_waiting = len(state["pending"]) == config.gradient_accumulation_steps and all(
        isinstance(updates, list) and all(isinstance(update, Update) for update in updates)
        for updates in state["pending"]
    )
    for name, is_whole in (
        ("step", state["step"] >= 0),
        ("pending", is_waiting),
        ("optimizer", is_whole_state(optimizer, config.optimizer, state["optimizer"])),
        ("history", all(isinstance(entry, dict) for entry in state["history"])),
    ):
        if not is_whole:
            raise damage(folder, f"its {name!r} is not one of this run")


def _check_records(state: Mapping[str, Any], names: Sequence[str], folder: str | Path) -> None:
    """Refuse what is written down of steps, and updates that wait, where they would end the run later.

    Raises:
        ValueError: an entry without its step or losses, another number of them, or an update without its preferences,
            metrics and rows.
    """
    losses = ("loss", *(f"loss/{name}" for name in names))
    for entry in state["history"]:
        step = entry.get("step")
        if (
            type(step) is not int
            or not 0 < step <= state["step"]
            or not all(isinstance(entry.get(key), float) for key in losses)
        ):
            raise damage(folder, "its 'history' is not one of this run")
    steps = state["unlogged"][0] if state["unlogged"] else ()
    # The loss, the losses, the learning rate and the norm of the gradients.
    if any(getattr(numbers, "shape", None) != (len(losses) + 2,) for numbers in steps):
        raise damage(folder, "its 'unlogged' is not one of this run")
    for update in (update for updates in state["pending"] for update in updates):
        preferences = update.preferences
        is_drawn = isinstance(preferences, Tensor) and preferences.ndim == 2 and preferences.shape[1] == len(names)
        metrics = update.metrics.values() if isinstance(update.metrics, dict) else (None,)
        numbers = [part for metric in metrics for part in (metric if isinstance(metric, Metric) else (metric,))]
        is_counted = all(isinstance(number, float | int | Tensor) for number in numbers)
        is_placed = isinstance(update.rows, tuple) and all(type(row) is int for row in update.rows)
        if not (is_drawn and is_counted and is_placed):
            raise damage(folder, "its 'pending' is not one of this run")


def _check_steps(config: TrainerConfig, step: int, folder: str | Path) -> None:
    if step > config.steps:
        raise ValueError(
            f"{folder} has {step} steps behind it, but config.steps is {config.steps}: give {step} steps or more, or "
            "resume from an earlier checkpoint."
        )


def tell_other_rate(config: TrainerConfig, step: int, rate: float, folder: str | Path) -> None:
    """Tell that a resumed run's learning rate is not the one that its checkpoint's run would have gone on with.

    A schedule runs over all steps, so that with more of them the rate of the same step is another one.

    Args:
        config: of the resumed run.
        step: how many are done.
        rate: the learning rate of the last one.
        folder: the checkpoint, for the message.

    Warns:
        UserWarning: the rates differ, with both.
    """
    if step == 0:
        return
    own = config.learning_rate * config.lr_factor(step - 1)
    if abs(own - rate) > _SAME_RATE * max(own, rate):
        warn(
            f"{folder} had the learning rate {rate:.3g} in its last step, where {config.lr_schedule!r} over steps = "
            f"{config.steps} has {own:.3g}: the run began with another number of steps. From here on its rate is that "
            f"of a run of {config.steps} steps, but what it became until here is not.",
        )


def _tell_threads(manifest: Mapping[str, Any], device: torch.device, folder: str | Path) -> None:
    """Tell that a run goes on with another number of threads, under which sums round otherwise."""
    own = torch.get_num_threads()
    if device.type == "cpu" and manifest["threads"] != own:
        warn(
            f"{folder} was written with {manifest['threads']} threads, and here are {own}: the run goes on, but may "
            "differ in the last digits from an uninterrupted one (torch.set_num_threads).",
        )


def load_callback_states(callbacks: Sequence[TrainerCallback], states: Sequence[Any]) -> None:
    """Give each callback what one of its class kept, in their order; one that is new begins with nothing.

    Raises:
        ValueError: whatever is no list of names with states.
    """
    waiting: dict[str, list[Any]] = {}
    for name, state in states:
        waiting.setdefault(name, []).append(state)
    for callback in callbacks:
        kept = waiting.get(type(callback).__name__)
        if kept and (state := kept.pop(0)):
            callback.load_state_dict(state)


def trained_state(model: nn.Module) -> dict[str, Tensor]:
    """The trainable parameters and the buffers by name; frozen parameters are the base model's own."""
    frozen = {name for name, parameter in model.named_parameters(remove_duplicate=False) if not parameter.requires_grad}
    return {name: value for name, value in model.state_dict(keep_vars=True).items() if name not in frozen}


def _check_trained_state(model: nn.Module, state: Mapping[str, Any], folder: str | Path) -> None:
    own = trained_state(model)
    for what, attribute in (("shape", lambda value: tuple(value.shape)), ("type", lambda value: value.dtype)):
        ours = {name: attribute(value) for name, value in own.items()}
        theirs = {name: attribute(value) for name, value in state.items() if isinstance(value, Tensor)}
        differing = sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))
        if differing:
            raise ValueError(
                f"{folder} belongs to another model: {differing[0]!r} has {what} {theirs.get(differing[0])} there "
                f"and {ours.get(differing[0])} here ({len(differing)} such entries)."
            )
    for name, parameter in model.named_parameters():
        # No run writes one: it stops before a step with such numbers.
        if parameter.requires_grad and not state[name].isfinite().all():
            raise damage(folder, f"{name!r} of its model has values that are not finite")


def load_trained_state(model: nn.Module, state: Mapping[str, Tensor], folder: str | Path) -> None:
    """Copy a state given by :func:`trained_state` into the model.

    Raises:
        ValueError: names, shapes or types that differ; nothing is copied then.
    """
    _check_trained_state(model, state, folder)
    with torch.no_grad():
        for name, value in trained_state(model).items():
            value.copy_(state[name])


@contextmanager
def undone_on_error(load: Callable[[Any, str | Path], None], state: Any, folder: str | Path) -> Iterator[None]:
    """Within this block a checkpoint is loaded as a whole: after an error the state is what it was before.

    Args:
        load: takes a state and the folder it is from.
        state: the one before.
        folder: the checkpoint, for the message.

    Raises:
        ValueError: whatever a part's ``load_state_dict`` said.
    """
    before = recursively_apply(lambda value: value.detach().to("cpu", copy=True), state)
    try:
        yield
    except BaseException as error:
        load(before, folder)
        if not isinstance(error, Exception):
            raise
        raise ValueError(
            f"{folder} does not go with this run, and nothing of it was loaded: {type(error).__name__} ({error})."
            f"{REMEDY}"
        ) from error

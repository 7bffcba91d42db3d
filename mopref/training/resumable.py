"""The half of the trainer that survives: writing a checkpoint, and going on from one."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import recursively_apply, send_to_device
from torch import nn
from torch.optim import Optimizer

from mopref._agreement import ElsewhereError, ended_together, gathered_objects, is_first_process
from mopref._atomic_writes import replace_folder, settle_folder
from mopref._sharded import whole_tensor
from mopref._warning import warn
from mopref.gradients.weighting import GradientWeighting
from mopref.objective import Metric, Objective, Update
from mopref.sampler import PreferenceSampler
from mopref.scalarizer import Scalarizer
from mopref.training.batching import GroupBatchSampler
from mopref.training.callbacks import TrainerCallback
from mopref.training.checkpoint import load_state, save_state
from mopref.training.checkpoints import Checkpoints
from mopref.training.config import TrainerConfig
from mopref.training.interval_log import IntervalLog
from mopref.training.manifest import fault_of, none_is_whole, read_manifest
from mopref.training.older_shapes import with_todays_shapes
from mopref.training.process_shares import begin_anew, share_of, tell_other_processes, whole_state
from mopref.training.random_state import random_state, set_random_state
from mopref.training.run_identity import check_identity
from mopref.training.run_state import (
    check_checkpoint,
    check_run,
    check_saveable,
    check_settings,
    fixed_settings,
    load_callback_states,
    load_trained_state,
    trained_state,
    undone_on_error,
)

__all__ = ["Resumable"]


class Resumable:
    """What changes while a trainer works, as a checkpoint holds it."""

    config: TrainerConfig
    accelerator: Accelerator
    optimizer: Optimizer
    objective: Objective
    scalarizer: Scalarizer | GradientWeighting
    sampler: PreferenceSampler
    train_data: Sequence[Any] | None
    callbacks: tuple[TrainerCallback, ...]
    step: int
    history: list[dict[str, float]]
    _identity: dict[str, str]
    _batches: GroupBatchSampler | None
    _log: IntervalLog
    _pending_updates: list[list[Update]]
    _checkpoints: Checkpoints

    @property
    def unwrapped_model(self) -> nn.Module:
        """The model itself, without what accelerate wraps around it."""
        raise NotImplementedError

    def save_checkpoint(self, folder: str | Path) -> None:
        """Write everything that a resume needs, without pickle.

        When this returns, the checkpoint is on the disk. An interrupted write leaves what was there before. Of the
        model, the trainable parameters and the buffers; frozen parameters are the base model's own. Of several
        processes, each of which has to call it, the first one writes.

        Raises:
            FileExistsError: the folder holds something other than a checkpoint, which would be lost.
            ValueError: an optimiser whose state a checkpoint does not keep.
            OSError: it cannot be written, a full disk say; with step and folder, and the newest one that is whole.
        """
        about = {
            "step": self.step,
            "attempt": self._checkpoints.attempt,
            "settings": self._settings(),
            "identity": self._identity,
            "processes": self.accelerator.num_processes,
        }
        with self._whole_checkpoint_told(f"step {self.step} could not be saved as {folder}"):
            with ended_together():
                check_saveable(self.config, folder)
                own = self._state()
            state = whole_state(own)
            with ended_together():
                if is_first_process():
                    with replace_folder(folder) as unfinished:
                        save_state(state, unfinished, self._record_types, about)

    @contextmanager
    def _whole_checkpoint_told(self, failure: str) -> Iterator[None]:
        """Within this block an error of the system, a full disk say, is told with its step and what is safe."""
        try:
            yield
        except OSError as error:
            if error.errno is None and type(error) is not OSError:
                raise  # A sentence of its own, such as what a folder holds already.
            try:
                newest = self._checkpoints.newest()
            except OSError:  # Of a disk that reads nothing any more.
                newest = None
            whole = "no checkpoint is there" if newest is None else f"{newest} is whole, and resumes the run"
            sentence = f"{failure} ({error.strerror or error}): {whole}"
            raise (OSError(sentence) if error.errno is None else OSError(error.errno, sentence)) from error

    def _save_due(self) -> Path:
        """Write the checkpoint of this step into output_dir, and remove those that are too many then."""
        folder = self._checkpoints.folder_of(self.step)
        self.save_checkpoint(folder)
        failure = f"step {self.step} is saved, but older checkpoints could not be removed"
        with self._whole_checkpoint_told(failure), ended_together():
            self._checkpoints.wrote(self.step, self._protected_steps())
        return folder

    def _protected_steps(self) -> set[int]:
        """Steps whose checkpoints stay, the best evaluation's say."""
        return {step for callback in self.callbacks for step in callback.kept_steps()}

    @property
    def _record_types(self) -> tuple[type, ...]:
        """The named tuples that a checkpoint holds."""
        return (Update, Metric, *self.objective.record_types)

    def _settings(self) -> dict[str, Any]:
        """What must be the same for a resumed run to be the same run."""
        rows = None if self.train_data is None else len(self.train_data)
        own = {"objectives": list(self.objective.names), "rows": rows, "preferences_drawn_for": "a step"}
        return {**fixed_settings(self.config), **own}

    def _state(self) -> dict[str, Any]:
        """What changes while the trainer works."""
        return {
            "step": self.step,
            "model": trained_state(self.unwrapped_model),
            "optimizer": self.optimizer.state_dict(),
            "scaler": None if self.accelerator.scaler is None else self.accelerator.scaler.state_dict(),
            **{name: getattr(self, name).state_dict() for name in ("scalarizer", "sampler", "objective")},
            "pending": [
                [update._replace(metrics=dict(update.metrics)) for update in updates]
                for updates in self._pending_updates
            ],
            "batches": None if self._batches is None else self._batches.state_dict(),
            "history": self.history,
            "unlogged": self._log.state_dict(),
            "callbacks": [[type(callback).__name__, callback.state_dict()] for callback in self.callbacks],
            "random": random_state(),
        }

    def _resume(self, source: Any) -> bool:
        """Go on from a checkpoint, or with "latest" from the newest in output_dir that is whole.

        Returns:
            Whether there was one: a run that "latest" is asked of may be at its beginning.

        Raises:
            FileNotFoundError, ValueError: no checkpoint, a damaged one, or one of another run; nothing is loaded then.
            OSError: one that cannot be read.
            TypeError: no path.
        """
        if not isinstance(source, str | PathLike):
            raise TypeError(
                f"resume_from is {source!r}: give the folder of a checkpoint, such as 'checkpoint-100', or 'latest'."
            )
        if source != "latest":
            folder = Path(source)
            with ended_together():
                if is_first_process():
                    settle_folder(folder)
            with ended_together():
                manifest = self._own_manifest(folder)
            self._load_checkpoint(folder, manifest)
            with ended_together():
                self._checkpoints.went_on(folder, self.step, went_back=True)
            return True
        with ended_together():
            candidates = self._checkpoints.candidates() if is_first_process() else []
        # A damaged one is told once.
        candidates = gathered_objects(candidates)[0]
        for folder in candidates:
            with ended_together():
                manifest = self._own_manifest(folder)
            try:
                self._load_checkpoint(folder, manifest)
            except (ValueError, OSError, ElsewhereError) as error:
                if folder == candidates[-1]:
                    raise none_is_whole(error, folder.parent) from error
                warn(f"passed over a checkpoint: {fault_of(error)}")
            else:
                with ended_together():
                    # Where a damaged one was passed over, it must not count as later than those to come.
                    self._checkpoints.went_on(folder, self.step, went_back=folder != candidates[0])
                    # A kill may have come between a save and this.
                    self._checkpoints.prune({self.step, *self._protected_steps()})
                if folder != candidates[0]:
                    warn(f"went on from {folder}, the newest checkpoint that is whole (step {self.step}).")
                return True
        return False

    def _own_manifest(self, folder: Path) -> dict[str, Any]:
        """The manifest of a checkpoint of this run; of another one nothing else is read."""
        manifest = read_manifest(folder)
        check_run(manifest, self._settings(), self._identity, self.config, folder)
        return manifest

    def _is_own(self, manifest: Mapping[str, Any]) -> bool:
        """Whether a manifest is one of this run, as a resume would have it."""
        try:
            check_settings(self._settings(), manifest["settings"], "")
            check_identity(self._identity, manifest["identity"], "")
        except ValueError:
            return False
        return True

    def _load_checkpoint(self, folder: Path, manifest: dict[str, Any]) -> None:
        processes = self.accelerator.num_processes
        with ended_together():
            state = share_of(load_state(folder, self._record_types), self.accelerator.process_index, processes, folder)
            state = with_todays_shapes(state, self.unwrapped_model, self.optimizer)
            check_checkpoint(state, manifest, self.config, self.unwrapped_model, self.optimizer, folder)
        with (
            undone_on_error(self._load_state, recursively_apply(whole_tensor, self._state()), folder),
            ended_together(),
        ):
            self._load_state(state, folder)
        if tell_other_processes(manifest, processes, folder):
            begin_anew(self.config.seed, self.step, self.accelerator.process_index)
        self._checkpoints.attempt = manifest["attempt"]

    def _load_state(self, state: dict[str, Any], folder: str | Path) -> None:
        load_trained_state(self.unwrapped_model, state["model"], folder)
        self.optimizer.load_state_dict(state["optimizer"])
        if self.accelerator.scaler is not None and state["scaler"] is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        for name in ("scalarizer", "sampler", "objective"):
            getattr(self, name).load_state_dict(state[name])
        self._pending_updates = send_to_device(state["pending"], self.accelerator.device)
        if self._batches is not None and state["batches"] is not None:
            self._batches.load_state_dict(state["batches"])
        self.step, self.history = state["step"], state["history"]
        self._log.load_state_dict(state["unlogged"], self.accelerator.device)
        load_callback_states(self.callbacks, state["callbacks"])
        set_random_state(state["random"])

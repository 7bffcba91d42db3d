"""ParetoTrainer: one loop, on accelerate, for toy problems and language models alike."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate.utils import send_to_device, set_seed
from torch import Tensor, nn

from mopref._agreement import ended_together
from mopref._precision import at_least_float32
from mopref._progress import progress_bar
from mopref._tables import rows_at
from mopref.evaluation_mode import evaluation_mode, kept_modes
from mopref.front import Front
from mopref.gradients.weighting import GradientWeighting, scalarizer_or_weighting
from mopref.mixed_precision import precision_name, without_autocast
from mopref.objective import Losses, Objective, Update
from mopref.registry import OBJECTIVES, SAMPLERS
from mopref.sampler import PreferenceSampler
from mopref.scalarizer import Scalarizer
from mopref.training.batching import GroupBatchSampler, labelled_rows
from mopref.training.callbacks import TrainerCallback
from mopref.training.checkpoint import plain_state
from mopref.training.checkpoints import Checkpoints
from mopref.training.config import TrainerConfig
from mopref.training.interval_log import IntervalLog
from mopref.training.joint_step import JointStep, needs_joint_step
from mopref.training.measured_front import measured_front
from mopref.training.model_state import forward_in_force, unprepared
from mopref.training.optimizers import make_optimizer
from mopref.training.parts import check_kinds, check_parts, settle_convention
from mopref.training.process_state import (
    ProcessState,
    add_gradients,
    agreed_stop,
    own_autocast,
    plain_optimizer,
    start_trackers,
)
from mopref.training.provenance import made_with
from mopref.training.resumable import Resumable
from mopref.training.run_identity import run_identity
from mopref.training.run_warnings import RunWarnings
from mopref.training.sharding import check_sharding, prepared, shard_as_asked
from mopref.training.shares import Draws, make_batches, step_layout
from mopref.training.step_faults import Forward, taken_back_on_error, told_where
from mopref.training.step_guard import StepGuard
from mopref.training.stop_signals import StopSignals

__all__ = ["ParetoTrainer"]


class ParetoTrainer(Resumable):
    """Train one preference-conditioned model for all preferences at once.

    Each step draws G preferences, computes the objective's m mean losses for each, scalarizes each group's losses
    under its own preference and descends on the mean: min_θ E_λ g(f(θ, λ); λ) (Panacea, arXiv 2402.02030).

    Objective, scalarizer and sampler are instances, classes (made with their defaults) or names registered in
    ``mopref.registry``.

    Args:
        model: a module that the objective can call with preferences: ``ParetoSetModel``, ``PreferenceModel``, ….
        objective: what is minimised.
        scalarizer: how the m losses become one; or a ``GradientWeighting``, which weighs the losses by their gradients
            at every step instead.
        sampler: draws preferences; uniform on the simplex by default. Reseeded with the config's seed.
        train_data: an indexable collection of rows; ``None`` where the objective needs no data.
        config: the settings.
        callbacks: hooks into the loop.

    Attributes:
        history: one dict for each logged interval: ``step``, ``loss`` (scalarized), ``loss/<objective>`` (means over
            the preferences drawn), ``learning_rate``, ``gradient_norm``, and the objective's own metrics.
        step: optimiser steps done.

    Raises:
        ValueError: a model, a sampler or rows for other objectives or another order of them, data that cannot make the
            batches asked for or do not go with the model, a model without trainable parameters, with a base that would
            be trained too or under another convention of λ, or a tracker or folder that cannot be written to.
        TypeError: data whose rows cannot be counted or had by their number, an argument of another kind, a part that
            needs options, or one whose state cannot be written into a checkpoint.
    """

    def __init__(
        self,
        model: nn.Module,
        objective: Objective | type[Objective] | str,
        scalarizer: Scalarizer | GradientWeighting | type[Scalarizer | GradientWeighting] | str,
        sampler: PreferenceSampler | type[PreferenceSampler] | str | None = None,
        train_data: Sequence[Any] | None = None,
        config: TrainerConfig | None = None,
        callbacks: Sequence[TrainerCallback] = (),
    ) -> None:
        self.config = config = TrainerConfig() if config is None else config
        check_kinds(model, config, callbacks)
        self.objective = objective = OBJECTIVES.make(objective)
        self.scalarizer = scalarizer_or_weighting(scalarizer)
        self.sampler = SAMPLERS.make("uniform" if sampler is None else sampler, num_objectives=objective.num_objectives)
        self.callbacks, self.train_data = tuple(callbacks), train_data
        check_parts(model, objective, self.scalarizer, self.sampler, config)
        labelled = labelled_rows(model, objective, train_data, config.mixed_precision)
        self._process = ProcessState()
        self.accelerator = self._process.make_accelerator(config)
        processes = (self.accelerator.num_processes, self.accelerator.process_index)
        self._layout = layout = step_layout(config, objective, labelled is not None, *processes)
        # The same on every process: each draws what all of them work on, and takes its share.
        self.sampler.seed([config.seed, 0])
        self._batches: GroupBatchSampler | None = None
        if labelled is not None:
            self._batches = make_batches(layout, labelled, seed=[config.seed, 0, 1])
        self._draws = Draws(layout, self.sampler, self._batches)
        objective.prepare_model(model)
        shard_as_asked(model, self.accelerator)
        check_sharding(model, objective, config.mixed_precision)
        if not (parameters := [parameter for parameter in model.parameters() if parameter.requires_grad]):
            raise ValueError(f"{type(model).__name__} has no parameter that requires a gradient: nothing to train.")
        self._convention = getattr(self.scalarizer, "convention", "importance")
        settle_convention(model, self._convention)
        parts = {name: getattr(self, name) for name in ("scalarizer", "objective", "sampler")}
        # Now, since the attributes of a user's part may change while it is trained with.
        self._identity = run_identity(parts, model, self._convention, train_data)
        if config.checkpoint_every is not None:
            plain_state({name: part.state_dict() for name, part in parts.items()}, self._record_types)
        rates = (config.learning_rate, config.weight_decay)
        optimizer = make_optimizer(config.optimizer, parameters, self.accelerator.device, *rates)
        with self._process.in_force(), unprepared(model):
            self.model, self.optimizer = prepared(self.accelerator, model, optimizer)
            # What accelerate put into the model itself; it is there while the trainer works.
            self._forward = vars(self.unwrapped_model).get("forward")
        self.step, self.should_stop = 0, False
        self.history: list[dict[str, float]] = []
        self._log = IntervalLog()
        # For each forward of a step, the updates from its last draw that wait for the steps to come.
        self._pending_updates: list[list[Update]] = [[] for _ in range(config.gradient_accumulation_steps)]
        self._guard = guard = StepGuard(model, objective, self.scalarizer, self.accelerator)
        self._joint: JointStep | None = None
        if needs_joint_step(layout, self.scalarizer) and isinstance(self.scalarizer, Scalarizer):
            own = (objective, self.scalarizer, self.sampler, guard, self.accelerator, labelled)
            self._joint = JointStep(layout, *own)
        self._warnings = RunWarnings(model, objective, config.steps, partial(own_autocast, self.accelerator))
        self._checkpoints = Checkpoints(config, self._is_own)

    @property
    def unwrapped_model(self) -> nn.Module:
        """The model itself, without what accelerate wraps around it."""
        model: nn.Module = self.accelerator.unwrap_model(self.model)
        return model

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        """Within this block accelerate and the model work in this trainer's precision; every mode is kept."""
        forward = forward_in_force(self.unwrapped_model, self._forward)
        # A precision around it would count in the backward passes.
        alone = without_autocast(self.accelerator.device)
        with alone, self._process.in_force(), kept_modes(self.model), forward:
            yield

    def train(self, resume_from: str | Path | None = None) -> list[dict[str, float]]:
        """Run the loop up to ``config.steps`` and return the history.

        Afterwards, also after an error or an interruption, every part of the model is in the mode that it came in
        (training or evaluation), and nothing of a step that was broken off stays: the next call begins with that step.

        Args:
            resume_from: a checkpoint folder to continue from; on the CPU, with the same number of threads, the result
                equals the uninterrupted run's bit for bit. "latest" stands for the newest whole one in ``output_dir``,
                and for the beginning where there is none yet: a job that is started again and again.

        With ``checkpoint_every`` SIGTERM and Ctrl-C end the training after the step that is at work, which is saved;
        a second one acts at once.

        Raises:
            FloatingPointError: a loss, a gradient or its norm, an auxiliary loss or a reward that is not finite, with
                step, preference and rows; nothing is updated with it.
            FileNotFoundError, ValueError: ``resume_from`` is no checkpoint, a damaged one, or one of other parts,
                config, data or of more steps: nothing of it is loaded; checkpoints of an earlier run in ``output_dir``
                where a new one begins; or no adapter has a gradient.
            BlockingIOError: another run is writing its checkpoints into ``output_dir``.
            OSError: a checkpoint that cannot be written, with its step, or that cannot be read, with its file.
            TypeError: ``resume_from`` is no path.
        """
        with self._at_work(), self._checkpoints.only_writer(resume_from):
            if not (resume_from is not None and self._resume(resume_from)) and self.step == 0:
                with ended_together():
                    self._checkpoints.begin()
                set_seed(self.config.seed, device_specific=True)
            start_trackers(self.accelerator, self.config)
            self._call("on_train_begin")
            self.model.train()
            self._run_loop()
            self._call("on_train_end")
            if self.config.trackers:
                self.accelerator.end_training()
                self.accelerator.trackers = []
        return self.history

    def _run_loop(self) -> None:
        config = self.config
        self.should_stop = False
        shows_progress = config.progress and self.accelerator.is_local_main_process
        with (
            progress_bar(
                None, "training", enabled=shows_progress, total=config.steps, initial=self.step, leave=True
            ) as bar,
            StopSignals(enabled=config.checkpoint_every is not None) as signals,
        ):
            while self.step < config.steps and not self.should_stop:
                self._log.steps.append(self._training_step())
                self.step += 1
                if self.step % config.log_every == 0 or self.step == config.steps:
                    self._log_entry()
                if shows_progress:
                    bar.set_postfix_str(self._shown(), refresh=False)
                bar.update()
                self._call("on_step_end")
                self.should_stop, signal = agreed_stop(self.accelerator, self.should_stop, signals.received)
                is_last = self.step == config.steps or self.should_stop or signal is not None
                self._checkpoint(is_last)
                # One that came while the last step was saved waits no longer either.
                if is_last:
                    signal = signal or signals.received
                if signal is not None:
                    signals.obey(signal, f"stopped after step {self.step}, which is saved in {config.output_dir}")

    def _checkpoint(self, is_last: bool) -> None:
        """Save this step where it is due, and the last one in any case."""
        checkpoints = self._checkpoints
        if checkpoints.is_due(self.step, is_last):
            self._call("on_checkpoint", self._save_due())

    def _shown(self) -> str:
        parts = [self._log.progress(self.history, self.objective.names), *(part.shown() for part in self.callbacks)]
        return ", ".join(filter(None, parts))

    def _training_step(self) -> Tensor:
        """One optimiser step; returns ``[scalarized loss, m losses, learning rate, gradient norm]``."""
        metrics, pending = self._log.metrics, [list(updates) for updates in self._pending_updates]
        # Whatever was left in them, by a user's own backward pass for example.
        self._clear_gradients()
        try:
            return self._descend_once()
        except BaseException:
            self._log.metrics, self._pending_updates = metrics, pending
            self._draws.forget()
            raise
        finally:
            self._clear_gradients()

    def _clear_gradients(self) -> None:
        for group in self.optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    def _descend_once(self) -> Tensor:
        config = self.config
        with taken_back_on_error((self.sampler, self.scalarizer), self._batches):
            forwards = self._descend_apart() if self._joint is None else self._descend_jointly(self._joint)
            norm = self._guard.clip_gradients(forwards, config.max_grad_norm, self.step)
        rate = config.learning_rate * config.lr_factor(self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        plain_optimizer(self.accelerator, self.optimizer).step()
        numbers = self._guard.numbers(forwards, rate, norm)
        self._warnings.look_for_collapse(forwards[-1].update, self.step + 1, self.history)
        return numbers

    def _descend_apart(self) -> list[Forward]:
        """Add to the gradients where every forward's losses are complete, and need no other's to be scalarized."""
        forwards: list[Forward] = []
        for forward in range(self.config.gradient_accumulation_steps):
            with self._exchanged_with(forward):
                forwards.append(self._descend(self._next_update(forward)))
        return forwards

    def _exchanged_with(self, forward: int) -> AbstractContextManager[Any]:
        """Gradients are exchanged between processes once a step, with its last forward."""
        is_last = forward == self.config.gradient_accumulation_steps - 1
        # Those beside a base that is shared out are exchanged by the guard.
        return nullcontext() if is_last or self._guard.is_sharded else self.accelerator.no_sync(self.model)

    def _descend_jointly(self, joint: JointStep) -> list[Forward]:
        """Add to the gradients where the losses of several forwards or processes are scalarized together."""
        updates = [self._next_update(forward) for forward in range(self.config.gradient_accumulation_steps)]

        def losses_of(forward: int, is_first: bool) -> Losses:
            with self._exchanged_with(forward):
                losses = self._losses(updates[forward])
            if is_first:
                self._log.add(losses.metrics)
            return losses

        def backward(forward: int, total: Tensor) -> None:
            with self._exchanged_with(forward):
                add_gradients(self.accelerator, total)

        return joint.descend(updates, losses_of, backward, self.step)

    def _losses(self, update: Update) -> Losses:
        with own_autocast(self.accelerator), told_where(self.step, update.preferences, update.rows):
            return Losses(*self.objective.training_losses(self.model, update.batch, update.preferences))

    def _next_update(self, forward: int) -> Update:
        """The next update of this forward; where none waits, those of a new draw of rows and preferences."""
        pending = self._pending_updates[forward]
        if not pending:
            drawn, rows = self._draws.next(forward)
            preferences, batch = drawn.to(self.accelerator.device), self._batch_of(rows)
            with own_autocast(self.accelerator), told_where(self.step, preferences, rows):
                updates = self.objective.updates(self.model, batch, preferences)
            pending.extend(update._replace(rows=rows) for update in updates)
            if not pending:
                raise ValueError(f"{type(self.objective).__name__}.updates returned no update: return at least one.")
        update = pending.pop(0)
        self._log.add(update.metrics)
        return update

    def _descend(self, update: Update) -> Forward:
        """Add one forward's share to the gradients; what it came to."""
        losses = self._losses(update)
        self._log.add(losses.metrics)
        values, preferences = self._guard.gathered(losses, update, self.step)
        # Points are tracked before they are measured from: z ≤ f holds.
        self.scalarizer.observe(values)
        scalarized = self._guard.scalarized(at_least_float32(losses.values), update, self.step)
        mean = scalarized.mean()
        total = self._guard.total(mean, losses.auxiliary)
        forwards = self.config.gradient_accumulation_steps
        add_gradients(self.accelerator, total if forwards == 1 else total / forwards)
        scalarizer = self.scalarizer if isinstance(self.scalarizer, Scalarizer) else None
        self.sampler.observe(preferences, values, scalarizer)
        return Forward.of(update, losses.values, scalarized, losses.auxiliary, mean)

    def _batch_of(self, rows: tuple[int, ...]) -> Any:
        """The batch that these rows make; none where there is no data."""
        if self.train_data is None or not rows:
            return None
        return send_to_device(self.objective.collate(rows_at(self.train_data, rows)), self.accelerator.device)

    def _log_entry(self) -> None:
        entry = self._log.entry(self.accelerator, self.objective.names)
        if self.accelerator.trackers:
            self.accelerator.log(entry, step=self.step)
        entry = {"step": self.step, **entry}
        self.history.append(entry)
        self._warnings.look_at(self.history)
        self._call("on_log", entry)

    def _call(self, hook: str, *arguments: Any) -> None:
        for callback in self.callbacks:
            with self._whole_checkpoint_told(f"{type(callback).__name__}.{hook} failed at step {self.step}"):
                getattr(callback, hook)(self, *arguments)

    def front(
        self,
        preferences: Any,
        data: Sequence[Any] | None = None,
        spread: Literal["preferences", "front"] = "preferences",
    ) -> Front:
        """The losses the model reaches at each preference, in evaluation mode and without gradients.

        Measured in the precision that the model is trained in.

        Args:
            preferences: ``(N, m)``, by name (a dict of every objective's weight, or a list of them), or a number of
                points.
            data: rows to evaluate on; the training data by default, and none where the objective needs none.
            spread: where a number of points is spread evenly: over the preferences (a lattice), or over the front the
                model has, for which at least 1,000 preferences are evaluated first. Where that takes too long, give
                ``even_preferences`` fewer candidates yourself.

        Returns:
            A front of minimised losses, with seed, steps, precision, versions, numbers of threads and processes, a
            digest of the training rows, and the scalarizer's options and convention of λ.

        Raises:
            ValueError: an unknown ``spread``, preferences that do not lie on the simplex, or data that do not go with
                the model.
            TypeError: data whose rows cannot be counted, or had by their number.
        """
        model, rows = self.unwrapped_model, data if data is not None else self.train_data
        precision = precision_name(model, self.config.mixed_precision)

        def losses_at(preferences: Tensor) -> Tensor:
            with self._at_work(), evaluation_mode(model), own_autocast(self.accelerator):
                # In the type that a sampler draws them in.
                preferences = preferences.to(self.accelerator.device, torch.get_default_dtype())
                losses = self.objective.mean_losses(model, rows, preferences, self.config.batch_size)
                return at_least_float32(losses.detach())

        metadata: dict[str, Any] = {"seed": self.config.seed, "steps": self.step, "precision": precision}
        metadata |= {"scalarizer": repr(self.scalarizer), **made_with(self.accelerator.num_processes)}
        metadata["training_rows"] = self._identity["content of the rows"]
        options: dict[str, Any] = {"spread": spread, "metadata": metadata, "convention": self._convention}
        return measured_front(losses_at, preferences, self.objective.names, **options)

"""ParetoTrainer: one loop, on accelerate, for toy problems and language models alike."""

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device, set_seed
from torch import Tensor, nn

from mopref._atomic_writes import replace_folder
from mopref._precision import at_least_float32
from mopref._progress import progress_bar
from mopref.evaluation_mode import evaluation_mode
from mopref.front import Front, even_preferences
from mopref.gradients.gramian import gramians
from mopref.gradients.weighting import GradientWeighting, scalarizer_or_weighting
from mopref.objective import Metric, Objective, Update
from mopref.preferences import simplex_lattice, validate_preferences
from mopref.registry import OBJECTIVES, SAMPLERS
from mopref.sampler import PreferenceSampler
from mopref.scalarizer import Scalarizer
from mopref.training.batching import GroupBatchSampler
from mopref.training.callbacks import TrainerCallback
from mopref.training.checkpoint import is_state, load_state, save_state
from mopref.training.config import TrainerConfig
from mopref.training.random_state import random_state, set_random_state
from mopref.training.run_state import check_settings, load_trained_state, trained_state

__all__ = ["ParetoTrainer"]


class ParetoTrainer:
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
        ValueError: a sampler for another number of objectives, data that cannot make the batches asked for, or a
            model without trainable parameters.
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
        self.config = config = config or TrainerConfig()
        self.objective = objective = OBJECTIVES.make(objective)
        self.scalarizer = scalarizer_or_weighting(scalarizer)
        self.sampler = SAMPLERS.make("uniform" if sampler is None else sampler, num_objectives=objective.num_objectives)
        self.callbacks = tuple(callbacks)
        if self.sampler.num_objectives != objective.num_objectives:
            raise ValueError(
                f"the sampler draws preferences over {self.sampler.num_objectives} objectives, but there are "
                f"{objective.num_objectives}: {', '.join(objective.names)}."
            )
        objective.prepare_model(model)
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        if not parameters:
            raise ValueError(f"{type(model).__name__} has no parameter that requires a gradient: nothing to train.")
        self.accelerator = Accelerator(
            mixed_precision=config.mixed_precision,
            cpu=config.cpu,
            log_with=list(config.trackers) or None,
            project_dir=config.output_dir,
        )
        if config.checkpoint_every is not None and self.accelerator.num_processes > 1:
            raise NotImplementedError(
                f"checkpoint_every is {config.checkpoint_every}, but checkpoints of a run on several processes are not "
                "supported yet: leave it out, or run one process."
            )
        # Each process draws its own preferences and rows.
        process = self.accelerator.process_index
        self.sampler.seed([config.seed, process])
        self.train_data = train_data
        self._batches: GroupBatchSampler | None = None
        if train_data is not None:
            labelled = objective.labelled(train_data)
            if labelled is None:
                labelled = torch.ones(len(train_data), objective.num_objectives, dtype=torch.bool)
            self._batches = GroupBatchSampler(
                labelled, config.batch_size, config.preferences_per_step, seed=[config.seed, process, 1]
            )
        optimizer = torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)
        self.model, self.optimizer = self.accelerator.prepare(model, optimizer)
        self.step = 0
        self.should_stop = False
        self.history: list[dict[str, float]] = []
        self._unlogged_steps: list[Tensor] = []
        # Of each metric since the last entry: Σ weight · value and Σ weight.
        self._unlogged_metrics: dict[str, list[float]] = {}
        # For each forward of a step, the updates from its last draw that wait for the steps to come.
        self._pending_updates: list[list[Update]] = [[] for _ in range(config.gradient_accumulation_steps)]

    @property
    def unwrapped_model(self) -> nn.Module:
        """The model itself, without what accelerate wraps around it."""
        model: nn.Module = self.accelerator.unwrap_model(self.model)
        return model

    def train(self, resume_from: str | Path | None = None) -> list[dict[str, float]]:
        """Run the loop up to ``config.steps`` and return the history.

        Args:
            resume_from: a checkpoint folder to continue from; on the CPU the result equals the uninterrupted run's bit
                for bit.

        Raises:
            FloatingPointError: a loss that is not finite; nothing is updated with it.
            FileNotFoundError, ValueError: ``resume_from`` is no checkpoint, or one of another model or config.
        """
        config = self.config
        if resume_from is not None:
            self._load_checkpoint(resume_from)
        elif self.step == 0:
            set_seed(config.seed, device_specific=True)
        if config.trackers:
            self.accelerator.init_trackers("mopref", config={k: str(v) for k, v in asdict(config).items()})
        self._call("on_train_begin")
        self.model.train()
        self.should_stop = False
        shows_progress = config.progress and self.accelerator.is_local_main_process
        with progress_bar(
            None, "training", enabled=shows_progress, total=config.steps, initial=self.step, leave=True
        ) as bar:
            while self.step < config.steps and not self.should_stop:
                self._unlogged_steps.append(self._training_step())
                self.step += 1
                if self.step % config.log_every == 0 or self.step == config.steps:
                    self._log()
                if shows_progress:
                    bar.set_postfix_str(self._progress_text(), refresh=False)
                bar.update()
                self._call("on_step_end")
                if config.checkpoint_every is not None and self.step % config.checkpoint_every == 0:
                    assert config.output_dir is not None
                    folder = Path(config.output_dir) / f"checkpoint-{self.step}"
                    self.save_checkpoint(folder)
                    self._call("on_checkpoint", folder)
        self._call("on_train_end")
        if config.trackers:
            self.accelerator.end_training()
        return self.history

    def _training_step(self) -> Tensor:
        """One optimiser step; returns ``[scalarized loss, m losses, learning rate, gradient norm]``."""
        config, accelerator = self.config, self.accelerator
        rate = config.learning_rate * config.lr_factor(self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        totals = torch.zeros(1 + self.objective.num_objectives, device=accelerator.device)
        for forward in range(config.gradient_accumulation_steps):
            update = self._next_update(forward)
            last = forward == config.gradient_accumulation_steps - 1
            # Gradients are exchanged between processes once a step, not once a forward.
            with nullcontext() if last else accelerator.no_sync(self.model):
                totals += self._descend(update).to(totals)
        # With an infinite limit nothing is clipped, and the norm is known all the same.
        limit = math.inf if config.max_grad_norm is None else config.max_grad_norm
        norm = accelerator.clip_grad_norm_(self.model.parameters(), limit).detach().view(1)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return torch.cat([totals / config.gradient_accumulation_steps, torch.tensor([rate]).to(norm), norm])

    def _next_update(self, forward: int) -> Update:
        """The next update of this forward; where none waits, those of a new draw of rows and preferences."""
        pending = self._pending_updates[forward]
        if not pending:
            preferences = self.sampler.sample(self.config.preferences_per_step).to(self.accelerator.device)
            with self.accelerator.autocast():
                pending.extend(self.objective.updates(self.model, self._next_batch(), preferences))
            if not pending:
                raise ValueError(f"{type(self.objective).__name__}.updates returned no update: return at least one.")
        update = pending.pop(0)
        for name, metric in update.metrics.items():
            value, weight = metric if isinstance(metric, Metric) else Metric(float(metric))
            sums = self._unlogged_metrics.setdefault(name, [0.0, 0.0])
            sums[0], sums[1] = sums[0] + weight * value, sums[1] + weight
        return update

    def _descend(self, update: Update) -> Tensor:
        """Add one forward's share to the gradients; ``[scalarized loss, m losses]``, means over the preferences."""
        accelerator, preferences = self.accelerator, update.preferences
        with accelerator.autocast():
            losses, auxiliary = self.objective.training_losses(self.model, update.batch, preferences)
        self._check_losses(losses, preferences)
        # Points are tracked from the losses of all processes, and before they are measured from: z ≤ f holds.
        self.scalarizer.observe(accelerator.gather(losses.detach()))
        loss = self._scalarize(at_least_float32(losses), preferences).mean()
        total = loss if auxiliary is None else loss + auxiliary
        accelerator.backward(total / self.config.gradient_accumulation_steps)
        scalarizer = self.scalarizer if isinstance(self.scalarizer, Scalarizer) else None
        self.sampler.observe(preferences, losses.detach(), scalarizer)
        return torch.cat([loss.detach().view(1), losses.detach().mean(dim=0)])

    def _scalarize(self, losses: Tensor, preferences: Tensor) -> Tensor:
        if isinstance(self.scalarizer, GradientWeighting):
            weights = self.scalarizer(losses.detach(), gramians(losses, self.model.parameters()), preferences)
            return (weights * losses).sum(dim=-1)
        return self.scalarizer(losses, preferences)

    def _next_batch(self) -> Any:
        if self._batches is None or self.train_data is None:
            return None
        rows = [self.train_data[index] for index in next(self._batches)]
        return send_to_device(self.objective.collate(rows), self.accelerator.device)

    def _check_losses(self, losses: Tensor, preferences: Tensor) -> None:
        expected = (preferences.shape[0], self.objective.num_objectives)
        if losses.shape != expected:
            raise ValueError(
                f"{type(self.objective).__name__}.losses returned shape {tuple(losses.shape)}, not {expected}: one row "
                "for each preference, one column for each objective."
            )
        bad = ~losses.detach().isfinite()
        if bad.any():
            group, objective = (int(i) for i in bad.nonzero()[0])
            name, value = self.objective.names[objective], losses[group, objective].item()
            raise FloatingPointError(
                f"the loss {name!r} is {value} at step {self.step} for preference "
                f"{[round(weight, 4) for weight in preferences[group].tolist()]}: lower the learning rate, clip "
                "gradients (max_grad_norm), or look for bad rows in the data."
            )

    def _log(self) -> None:
        mean = self.accelerator.reduce(torch.stack(self._unlogged_steps).mean(dim=0), reduction="mean").tolist()
        keys = ["loss", *(f"loss/{name}" for name in self.objective.names), "learning_rate", "gradient_norm"]
        metrics = {name: total / weight for name, (total, weight) in self._unlogged_metrics.items() if weight}
        entry = dict(zip(keys, mean, strict=True)) | metrics
        self.accelerator.log(entry, step=self.step)
        entry = {"step": self.step, **entry}
        self.history.append(entry)
        self._unlogged_steps.clear()
        self._unlogged_metrics.clear()
        self._call("on_log", entry)

    def _progress_text(self) -> str:
        """The losses of the last entry; before there is one, those of the last step."""
        if self.history:
            losses = [self.history[-1][f"loss/{name}"] for name in self.objective.names]
        else:
            losses = self._unlogged_steps[-1][1:].tolist()
        return ", ".join(f"{name}={loss:.4f}" for name, loss in zip(self.objective.names, losses, strict=False))

    def _call(self, hook: str, *arguments: Any) -> None:
        for callback in self.callbacks:
            getattr(callback, hook)(self, *arguments)

    def front(
        self,
        preferences: int | Tensor | Sequence[Sequence[float]],
        data: Sequence[Any] | None = None,
        spread: Literal["preferences", "front"] = "preferences",
    ) -> Front:
        """The losses the model reaches at each preference, in evaluation mode and without gradients.

        Args:
            preferences: ``(N, m)``, or a number of points.
            data: rows to evaluate on; the training data by default, and none where the objective needs none.
            spread: where a number of points is spread evenly: over the preferences (a lattice), or over the front the
                model has, for which at least 1,000 preferences are evaluated first. Where that takes too long, give
                ``even_preferences`` fewer candidates yourself.

        Returns:
            A front of minimised losses that carries the seed, the steps, the precision and the scalarizer's options.

        Raises:
            ValueError: an unknown ``spread``, or preferences that do not lie on the simplex.
        """
        if spread not in ("preferences", "front"):
            raise ValueError(f"spread is {spread!r}: choose 'preferences' or 'front'.")
        if spread == "front" and not isinstance(preferences, int):
            raise ValueError("spread is 'front', but the preferences are given: give a number of points to be spread.")
        model, rows = self.unwrapped_model, data if data is not None else self.train_data

        def losses_at(preferences: Tensor) -> Tensor:
            with evaluation_mode(model):
                # In the type that a sampler draws them in.
                preferences = preferences.to(self.accelerator.device, torch.get_default_dtype())
                return self.objective.mean_losses(model, rows, preferences, self.config.batch_size).detach()

        m = self.objective.num_objectives
        if isinstance(preferences, int):
            lattice = spread == "preferences"
            preferences = simplex_lattice(m, preferences) if lattice else even_preferences(losses_at, m, preferences)
        matrix = validate_preferences(preferences, self.objective.names)
        return Front(
            preferences=matrix.detach().cpu().numpy(),
            values=losses_at(matrix).cpu().numpy(),
            names=self.objective.names,
            metadata={
                "seed": self.config.seed,
                "steps": self.step,
                "scalarizer": repr(self.scalarizer),
                "precision": self.config.mixed_precision or str(next(model.parameters()).dtype).removeprefix("torch."),
            },
        )

    def save_checkpoint(self, folder: str | Path) -> None:
        """Write everything that a resume needs, without pickle; an interrupted write leaves no folder.

        Of the model, the trainable parameters and the buffers; frozen parameters are the base model's own.

        Raises:
            FileExistsError: the folder holds something other than a checkpoint, which would be lost.
        """
        if Path(folder).is_dir() and any(Path(folder).iterdir()) and not is_state(folder):
            raise FileExistsError(f"{folder} holds something other than a checkpoint: choose a new or empty folder.")
        if self.accelerator.num_processes > 1:
            # Generators differ between processes, and each would need its own file.
            raise NotImplementedError("checkpoints of a run on several processes are not supported yet.")
        state = {
            "step": self.step,
            "settings": self._settings(),
            "model": trained_state(self.unwrapped_model),
            "optimizer": self.optimizer.state_dict(),
            "scaler": None if self.accelerator.scaler is None else self.accelerator.scaler.state_dict(),
            "scalarizer": self.scalarizer.state_dict(),
            "sampler": self.sampler.state_dict(),
            "objective": self.objective.state_dict(),
            "pending": [
                [update._replace(metrics=dict(update.metrics)) for update in updates]
                for updates in self._pending_updates
            ],
            "batches": None if self._batches is None else self._batches.state_dict(),
            "history": self.history,
            "unlogged": [self._unlogged_steps, self._unlogged_metrics],
            "random": random_state(),
        }
        with replace_folder(folder) as temporary:
            save_state(state, temporary, self._record_types)

    @property
    def _record_types(self) -> tuple[type, ...]:
        """The named tuples that a checkpoint holds."""
        return (Update, Metric, *self.objective.record_types)

    def _settings(self) -> dict[str, Any]:
        """What must be the same for a resumed run to be the same run; ``steps`` may grow."""
        settings = asdict(self.config)
        for name in ("steps", "output_dir", "checkpoint_every", "log_every", "trackers", "cpu", "progress"):
            del settings[name]
        rows = None if self.train_data is None else len(self.train_data)
        return {**settings, "objectives": list(self.objective.names), "rows": rows}

    def _load_checkpoint(self, folder: str | Path) -> None:
        state = load_state(folder, self._record_types)
        check_settings(self._settings(), state["settings"], folder)
        load_trained_state(self.unwrapped_model, state["model"], folder)
        self.optimizer.load_state_dict(state["optimizer"])
        if self.accelerator.scaler is not None and state["scaler"] is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.scalarizer.load_state_dict(state["scalarizer"])
        self.sampler.load_state_dict(state["sampler"])
        self.objective.load_state_dict(state["objective"])
        self._pending_updates = send_to_device(state["pending"], self.accelerator.device)
        if self._batches is not None and state["batches"] is not None:
            self._batches.load_state_dict(state["batches"])
        self.step, self.history = state["step"], state["history"]
        steps, self._unlogged_metrics = state["unlogged"]
        self._unlogged_steps = [values.to(self.accelerator.device) for values in steps]
        set_random_state(state["random"])

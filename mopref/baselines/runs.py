"""Trainings of a comparison: all with the same rows, losses and settings, and each done once however many need it."""

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mopref.argument_kinds import checked_fields, checks_arguments
from mopref.baselines.interfaces import Cost
from mopref.conditioning import PreferenceModel, SVDLoRAConfig
from mopref.objective import Objective
from mopref.preferences import validate_preferences
from mopref.sampler import PreferenceSampler
from mopref.training import ParetoTrainer, TrainerConfig

__all__ = [
    "FixedSampler",
    "InMemory",
    "Keep",
    "MethodSetup",
    "Trained",
    "Trainings",
    "adapter_parameters",
    "preference_label",
    "trained_parameters",
]


class FixedSampler(PreferenceSampler):
    """Draws one preference, always.

    Args:
        num_objectives: m, or the names of the m objectives.
        preference: λ ``(m,)``, or by name where ``num_objectives`` has names.
        seed: of no account.

    Raises:
        ValueError: a preference that does not lie on the simplex.

    Example:
        >>> FixedSampler(2, [0.25, 0.75]).sample(2)
        tensor([[0.2500, 0.7500],
                [0.2500, 0.7500]])
    """

    def __init__(self, num_objectives: int | Sequence[str], preference: Any, seed: int = 0) -> None:
        super().__init__(num_objectives, seed)
        rows = validate_preferences(preference, self.names or self.num_objectives)
        if len(rows) != 1:
            raise ValueError(f"{len(rows)} preferences were given where one is drawn always: give a single one.")
        self.preference: list[float] = rows[0].tolist()

    def draw(self, n: int, generator: np.random.Generator) -> NDArray[np.float64]:
        """The preference, ``(n, m)``."""
        return np.tile(np.array(self.preference), (n, 1))


@dataclass(frozen=True)
class MethodSetup:
    """What all methods of a comparison share.

    Args:
        make_model: makes the base model anew, with adapters of these settings.
        adapter: the adapters' settings; a plain LoRA has their total rank k + p·m.
        objective: what is minimised.
        make_scalarizer: makes the scalarizer of one training, whose points are its own.
        make_sampler: makes what draws preferences where a model is trained for all of them.
        rows: to train on; ``None`` where the objective needs none.
        config: the trainer's settings.
        single_learning_rate: the rate of trainings at one preference, as of DPS and soups; ``None`` for the config's.
            All their rows pull one way, so that their best rate is another than that of a model for all preferences.
    """

    make_model: Callable[[SVDLoRAConfig], PreferenceModel]
    adapter: SVDLoRAConfig
    objective: Objective
    make_scalarizer: Callable[[], Any]
    make_sampler: Callable[[], PreferenceSampler]
    rows: Sequence[Any] | None
    config: TrainerConfig
    single_learning_rate: float | None = None

    def __post_init__(self) -> None:
        """Refuse fields of another kind, and an objective with other names than the adapters'."""
        checked_fields(self)
        if self.single_learning_rate is not None:
            replace(self.config, learning_rate=self.single_learning_rate)
        if self.objective.names != self.adapter.objectives:
            raise ValueError(
                f"the objective's names are {self.objective.names}, and the adapters' {self.adapter.objectives}: give "
                "the same, in the same order."
            )

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the objectives."""
        return self.adapter.objectives


class Trained(NamedTuple):
    """What a training leaves.

    Attributes:
        tensors: every adapter's values by their names in the preference model, on the CPU.
        cost: what it took.
    """

    tensors: dict[str, Tensor]
    cost: Cost

    def put_into(self, model: PreferenceModel) -> PreferenceModel:
        """The model with these values in its adapters.

        Raises:
            ValueError: adapters of other layers or sizes.
        """
        parts = adapter_parameters(model)
        sizes = {name: value.shape for name, value in parts.items()}
        if sizes != {name: value.shape for name, value in self.tensors.items()}:
            raise ValueError("what was trained has other layers or ranks than this model's adapters: train it anew.")
        with torch.no_grad():
            for name, value in parts.items():
                value.copy_(self.tensors[name])
        return model


class Keep(Protocol):
    """Where trainings are kept, so that each is done once."""

    def find(self, name: str) -> Trained | None:
        """What was kept under a name; ``None`` where nothing was."""

    def put(self, name: str, trained: Trained) -> None:
        """Keep a training under a name."""


class InMemory:
    """Keeps trainings in memory."""

    def __init__(self) -> None:
        self._kept: dict[str, Trained] = {}

    def find(self, name: str) -> Trained | None:
        """What was kept under a name; ``None`` where nothing was."""
        return self._kept.get(name)

    def put(self, name: str, trained: Trained) -> None:
        """Keep a training under a name."""
        self._kept[name] = trained


class Trainings:
    """The trainings of a setup.

    Args:
        setup: what they share.
        keep: where they are kept; in memory by default.
    """

    @checks_arguments(but=("keep",))
    def __init__(self, setup: MethodSetup, keep: Keep | None = None) -> None:
        self.setup, self._keep = setup, InMemory() if keep is None else keep

    def trained(
        self,
        name: str,
        *,
        make_model: Callable[[], nn.Module],
        at: Sequence[float] | None = None,
        objective: Callable[[], Objective] | None = None,
        scalarizer: Any = None,
        sampler: PreferenceSampler | None = None,
        rows: Callable[[], Sequence[Any]] | None = None,
        **settings: Any,
    ) -> Trained:
        """A training, done now where it was not before.

        Args:
            name: of the training; all that differs from the setup is in it.
            make_model: makes the model that is trained: a ``PreferenceModel``, or a ``ComposedPolicy`` of one.
            at: the one λ that is trained for; ``None`` for those of the setup's sampler.
            objective: makes what is minimised, where it is another than the setup's.
            scalarizer: another than the setup's.
            sampler: another than the setup's.
            rows: makes the rows, where they are others.
            **settings: of the trainer's config, in place of the setup's.
        """
        known = self._keep.find(name)
        if known is not None:
            return known
        setup = self.setup
        trainee = make_model()
        if at is not None:
            sampler, settings = FixedSampler(setup.names, at), {"preferences_per_step": 1, **settings}
            if setup.single_learning_rate is not None:
                settings.setdefault("learning_rate", setup.single_learning_rate)
        trainer = ParetoTrainer(
            model=trainee,
            objective=setup.objective if objective is None else objective(),
            scalarizer=setup.make_scalarizer() if scalarizer is None else scalarizer,
            sampler=setup.make_sampler() if sampler is None else sampler,
            train_data=setup.rows if rows is None else rows(),
            config=replace(setup.config, **settings),
        )
        inner: Any = getattr(trainee, "module", trainee)
        started = time.monotonic()
        calls: list[None] = []
        handle = inner.base_model.register_forward_pre_hook(lambda *_: calls.append(None))
        try:
            with _one_preference_is_meant() if at is not None else nullcontext():
                trainer.train()
        finally:
            handle.remove()
        cost = Cost(trainer.step, len(calls), trained_parameters(inner), seconds=time.monotonic() - started)
        trained = Trained({n: p.detach().cpu().clone() for n, p in adapter_parameters(inner).items()}, cost)
        self._keep.put(name, trained)
        return trained


@contextmanager
def _one_preference_is_meant() -> Iterator[None]:
    """Within this block it is no news that every preference gives the same model."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "after .* steps every preference gives the same model")
        yield


def adapter_parameters(model: PreferenceModel) -> dict[str, nn.Parameter]:
    """The adapters' parameters by their names in the model, and whatever else is trained in it."""
    own = {id(part) for layer in model.adapters.values() for part in layer.parameters(recurse=False)}
    return {name: part for name, part in model.named_parameters() if part.requires_grad or id(part) in own}


def trained_parameters(model: PreferenceModel) -> int:
    """How many numbers are trained; directions of a gate that is held at 0 do not count."""
    trained = sum(part.numel() for part in adapter_parameters(model).values() if part.requires_grad)
    return trained - sum(_held_at_zero(layer) for layer in model.adapters.values())


def _held_at_zero(layer: Any) -> int:
    """Numbers of U and V whose gate stays 0."""
    if layer.config.core == "full" or layer.scale.requires_grad or bool(layer.scale.detach().any()):
        return 0
    return int((layer.U.shape[1] - layer.sigma.numel()) * (layer.n_out + layer.n_in))


def preference_label(names: Sequence[str], preference: Sequence[float]) -> str:
    """A preference in the name of a training.

    Example:
        >>> preference_label(("helpful", "harmless"), [0.25, 0.75])
        'helpful=0.25,harmless=0.75'
    """
    return ",".join(f"{name}={weight:.6g}" for name, weight in zip(names, preference, strict=True))

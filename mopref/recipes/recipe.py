"""A run, said once: the settings that training, evaluation, the command line and a run's folder share.

Each class is a section of a recipe, and its ``Args:`` are the help texts of the command line. Values are checked when
the parts are made of them, see ``mopref.recipes.parts``.
"""

import math
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from mopref._repr import short_repr
from mopref.argument_kinds import checked_fields

__all__ = [
    "AdapterSettings",
    "DataSettings",
    "EvaluationSettings",
    "ModelSettings",
    "MonitoringSettings",
    "PartSettings",
    "Recipe",
    "TrainingSettings",
]


def _check_counts(settings: Any, names: tuple[str, ...], least: int) -> None:
    for name in names:
        value = getattr(settings, name)
        if value is not None and value < least:
            raise ValueError(f"{name} is {value}: it is a number of things, so it must be ≥ {least}.")


@dataclass(frozen=True)
class PartSettings:
    """A part by its name, with its options; in a file the name alone will do.

    Args:
        name: the name it is registered under.
        options: options of the part, as its class takes them.
    """

    name: str
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        checked_fields(self)


@dataclass(frozen=True)
class ModelSettings:
    """The language model that is adapted.

    Args:
        name: hub id or folder of a causal language model; "demo" fetches SmolLM2-135M-Instruct.
        tokenizer: hub id or folder of the tokenizer, by default the model's own.
        revision: the hub's branch, tag or commit of the model, and of the tokenizer where it is the model's own.
        dtype: type of the weights; "auto" is bfloat16 on a GPU and float32 on a CPU.
        quantization: load the weights in 4 or 8 bits, by bitsandbytes.
        device: "auto" for a GPU where there is one, "cpu", "cuda", "cuda:1", and so on.
    """

    name: str = "demo"
    tokenizer: str | None = None
    revision: str | None = None
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    quantization: Literal["4bit", "8bit"] | None = None
    device: str = "auto"

    def __post_init__(self) -> None:
        checked_fields(self)


@dataclass(frozen=True)
class AdapterSettings:
    """The SVD-LoRA adapters, in which the preference is written.

    Args:
        rank: directions that all preferences share, ≥ 0.
        preference_rank: directions that each λ_i scales, ≥ 1.
        scaling: factor of the adapters' outputs.
        initialization: "zero-output" starts as the base model, and so does "zero-input"; "paper" as the paper does, and
            "pblora" as that method's own code, for a full core.
        target_modules: names of the linear layers to adapt; null or "all-linear" for all but the output head.
        layers: indices of the blocks to adapt, negative ones counted from the last; null for all.
        gate: how the adapters follow λ: "linear", or curved by one network for all layers ("shared-mlp") or one for
            each ("layer-mlp"), which a lora-set and gguf cannot hold; of the former they have LoRAs of directions, too.
        core: "diagonal", or "full" for matrices that follow λ in place of singular values, as PBLoRA has them; with a
            linear gate only.
    """

    rank: int = 8
    preference_rank: int = 4
    scaling: float = 1.0
    initialization: Literal["zero-output", "zero-input", "paper", "pblora"] = "zero-output"
    target_modules: tuple[str, ...] | Literal["all-linear"] | None = None
    layers: tuple[int, ...] | None = None
    gate: Literal["linear", "shared-mlp", "layer-mlp"] = "linear"
    core: Literal["diagonal", "full"] = "diagonal"

    def __post_init__(self) -> None:
        checked_fields(self)


@dataclass(frozen=True)
class DataSettings:
    """The data, what is held out of it, and how long its texts may be.

    Args:
        loader: what reads the data; "records" reads files whose columns are prompt, response_0, response_1 and one
            label (0, 1 or -1) for each objective.
        source: file, folder or hub id, or a mapping where the loader takes one; null for the loader's own.
        options: options of the loader, such as limit or split.
        test_source: source of the records to evaluate on, read by the same loader.
        test_options: options of the loader for the records to evaluate on, over those above, such as split.
        test_fraction: share of the prompts that is held out to evaluate on, where no test records are named; 0.2 by
            default.
        max_prompt_length: most tokens of a prompt.
        max_response_length: most tokens of a response; longer ones are cut.
        on_long_prompt: what happens to a row with a longer prompt.
    """

    loader: str = "records"
    source: str | dict[str, Any] | None = None
    options: dict[str, Any] = field(default_factory=dict)
    test_source: str | dict[str, Any] | None = None
    test_options: dict[str, Any] = field(default_factory=dict)
    test_fraction: float | None = None
    max_prompt_length: int = 512
    max_response_length: int = 512
    on_long_prompt: Literal["error", "truncate", "drop"] = "error"

    def __post_init__(self) -> None:
        checked_fields(self)
        if self.has_test_data and self.test_fraction is not None:
            raise ValueError(
                f"test_fraction is {self.test_fraction}: test_source or test_options name the records to evaluate on, "
                "so that none need be held out; leave one of them out."
            )

    @property
    def has_test_data(self) -> bool:
        """Whether the records to evaluate on are read by themselves."""
        return self.test_source is not None or bool(self.test_options)


@dataclass(frozen=True)
class TrainingSettings:
    """How long and how the adapters are trained.

    Args:
        steps: optimiser steps; 1000 where neither steps nor epochs are given.
        epochs: passes over the data, in place of steps.
        batch_size: rows in one forward; a step has batch_size · gradient_accumulation_steps of them on each
            process.
        preferences_per_step: preferences drawn for one step, which share its rows evenly.
        gradient_accumulation_steps: forwards in one step; where they divide preferences_per_step, each has an equal
            number of the preferences, else each has all of them.
        learning_rate: its peak.
        weight_decay: AdamW's.
        lr_schedule: how the learning rate falls to 0 at the last step.
        warmup_ratio: fraction of the steps over which the learning rate rises from 0.
        optimizer: "adamw-fused" is PyTorch's faster one; "adamw-8bit" keeps its averages in a quarter of the memory, by
            bitsandbytes, and "paged-adamw-8bit" may also move them off the GPU, and writes no checkpoints.
        max_grad_norm: gradients are scaled down to this norm; null for no clipping.
        mixed_precision: null, "bf16" or "fp16".
        cache_references: keep the reference's log-probabilities in the cache folder, and take them from there where the
            base model, the precision and the rows are the same.
        checkpoint_every: steps between checkpoints, from which a run can be resumed; the last step and an interrupted
            one are saved too; null for none.
        keep_checkpoints: keep so many of the newest checkpoints, and that of the best evaluation; null for all.
        log_every: steps between entries of the log.
        trackers: accelerate's trackers by name, such as tensorboard.
        progress: show progress.
    """

    steps: int | None = None
    epochs: float | None = None
    batch_size: int = 8
    preferences_per_step: int = 4
    gradient_accumulation_steps: int = 1
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    lr_schedule: Literal["constant", "linear", "cosine"] = "cosine"
    warmup_ratio: float = 0.05
    optimizer: Literal["adamw", "adamw-fused", "adamw-8bit", "paged-adamw-8bit"] = "adamw"
    max_grad_norm: float | None = 1.0
    mixed_precision: Literal["bf16", "fp16"] | None = None
    cache_references: bool = True
    checkpoint_every: int | None = None
    keep_checkpoints: int | None = None
    log_every: int = 10
    trackers: tuple[str, ...] = ()
    progress: bool = True

    def __post_init__(self) -> None:
        checked_fields(self)
        if self.steps is not None and self.epochs is not None:
            raise ValueError(
                f"steps is {self.steps}, and epochs is {self.epochs:g}: each says how long to train, so leave one of "
                "them out, or set it to null."
            )
        if self.epochs is not None and not 0 < self.epochs < float("inf"):
            raise ValueError(f"epochs is {self.epochs:g}: it is a number of passes over the data, so it must be > 0.")


@dataclass(frozen=True)
class MonitoringSettings:
    """What is measured on held-out data while the training runs, for each objective alone and for all alike.

    Args:
        evaluation_every: steps between two evaluations, beside one before the first step; null for none.
        rows: so many held-out rows at most, evenly taken from all; null for all.
        sampled_prompts: so many held-out prompts are answered by sampling, for the KL from the base model and lengths.
        answers: show answers to the first two of evaluation.prompts in the log and the trackers.
        patience: end the training after so many evaluations without a larger hypervolume; null for never.
        keep_best: keep the adapter of the evaluation with the largest hypervolume, and not that of the last step.
    """

    evaluation_every: int | None = None
    rows: int | None = None
    sampled_prompts: int = 0
    answers: bool = False
    patience: int | None = None
    keep_best: bool = False

    def __post_init__(self) -> None:
        checked_fields(self)
        _check_counts(self, ("evaluation_every", "rows", "patience"), 1)
        _check_counts(self, ("sampled_prompts",), 0)
        for name in ("answers", "patience", "keep_best"):
            if getattr(self, name) and self.evaluation_every is None:
                raise ValueError(
                    f"{name} is {getattr(self, name)}: nothing is evaluated while the training runs, so give "
                    "evaluation_every, too, or leave it out."
                )


@dataclass(frozen=True)
class EvaluationSettings:
    """What the front is measured at, after the training.

    Args:
        points: preferences on an even lattice, the corners among them; by default 5 for two objectives, and for more
            of them the corners and the middle of every two.
        preferences: preferences by name, such as "[{helpful: 0.7, harmless: 0.3}]", in place of points.
        batch_size: rows in one forward.
        reference_point: one value for each objective, worse than all that count; needed for the hypervolume.
        prompts: prompts whose answers are written at every preference.
        max_new_tokens: most tokens of such an answer.
        interval_level: level of the interval of every held-out figure, by a bootstrap over prompts; null for none.
        sampled_prompts: so many held-out prompts are answered by sampling at every preference, for the KL from the base
            model, lengths and win rates; 0 for none.
        judges: for some objectives or all, a reward by which sampled answers are compared with those of the base model:
            win rates.
    """

    points: int | None = None
    preferences: list[dict[str, float]] | None = None
    batch_size: int = 16
    reference_point: tuple[float, ...] | None = None
    prompts: tuple[str, ...] = ()
    max_new_tokens: int = 64
    interval_level: float | None = 0.9
    sampled_prompts: int = 32
    judges: dict[str, PartSettings] = field(default_factory=dict)

    def __post_init__(self) -> None:
        checked_fields(self)
        if self.points is not None and self.preferences is not None:
            raise ValueError(
                f"points is {self.points}, and preferences are given, too: each says where to evaluate, so leave one "
                "of them out, or set it to null."
            )
        for place, prompt in enumerate(self.prompts):
            if not isinstance(prompt, str) or not prompt.strip():
                raise ValueError(
                    f"prompts has {short_repr(prompt)} at place {place}: nothing is asked, so leave it out."
                )
        _check_counts(self, ("points", "batch_size", "max_new_tokens"), 1)
        _check_counts(self, ("sampled_prompts",), 0)
        if self.interval_level is not None and not 0 < self.interval_level < 1:
            raise ValueError(f"interval_level is {self.interval_level:g}: it is a share, so it must be in (0, 1).")
        if self.judges and not self.sampled_prompts:
            raise ValueError(
                f"sampled_prompts is 0, and {', '.join(self.judges)} have judges: they judge sampled answers, so give "
                "a number of prompts, or leave judges out."
            )


@dataclass(frozen=True)
class Recipe:
    """Everything a run is made of.

    Args:
        objectives: the names of the objectives; for pairs and unpaired answers they name the label columns of the data.
        data: the data.
        model: the language model.
        adapter: the adapters.
        objective: what is minimised: "dpo", "simpo" or "orpo" on pairs, "kto" on unpaired answers, "sft" on responses,
            "rlhf" or "online-dpo" on prompts.
        rewards: for the objectives "rlhf" and "online-dpo", a reward for each objective but rlhf's pull.
        scalarizer: how the losses of all objectives become one.
        sampler: which preferences are drawn in training.
        training: the training.
        monitoring: what is measured while it runs.
        evaluation: the evaluation.
        seed: seeds the split, the adapters and the training.
        output: folder of the run, new or empty.
    """

    objectives: tuple[str, ...]
    data: DataSettings = DataSettings()
    model: ModelSettings = ModelSettings()
    adapter: AdapterSettings = AdapterSettings()
    objective: PartSettings = PartSettings("dpo")
    rewards: dict[str, PartSettings] = field(default_factory=dict)
    scalarizer: PartSettings = PartSettings("tchebycheff")
    sampler: PartSettings = PartSettings("uniform")
    training: TrainingSettings = TrainingSettings()
    monitoring: MonitoringSettings = MonitoringSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    seed: int = 0
    output: str = "runs/latest"

    def __post_init__(self) -> None:
        checked_fields(self)

    @property
    def pull(self) -> str | None:
        """The objective that is rlhf's pull to the reference, and no reward; ``None`` where there is none."""
        name: str | None = self.objective.options.get("pull")
        return name

    @property
    def without_pull(self) -> tuple[str, ...]:
        """The objectives that have rewards, or labels in the data: all but the pull."""
        return tuple(name for name in self.objectives if name != self.pull)

    def completed(self) -> "Recipe":
        """The same run with every default written out, also those that depend on another setting."""
        data, training, evaluation = self.data, self.training, self.evaluation
        if not data.has_test_data and data.test_fraction is None:
            data = replace(data, test_fraction=0.2)
        if training.steps is None and training.epochs is None:
            training = replace(training, steps=1000)
        if evaluation.points is None and evaluation.preferences is None:
            count = len(self.objectives)
            evaluation = replace(evaluation, points=5 if count == 2 else max(1, math.comb(count + 1, 2)))
        return replace(self, data=data, training=training, evaluation=evaluation)

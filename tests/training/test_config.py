"""TrainerConfig: what is out of range is named when it is made, and the schedules by their formulas."""

import math

import numpy as np
import pytest
import torch

from mopref import TrainerConfig


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps is 0: it must be at least 1"),
        ({"steps": -1}, "steps is -1: it must be at least 1"),
        ({"batch_size": 0}, "batch_size is 0: it must be at least 1"),
        ({"preferences_per_step": 0}, "preferences_per_step is 0: it must be at least 1"),
        ({"gradient_accumulation_steps": 0}, "gradient_accumulation_steps is 0: it must be at least 1"),
        ({"learning_rate": 0.0}, r"learning_rate is 0\.0: it must be positive and finite"),
        ({"learning_rate": -1e-3}, r"learning_rate is -0\.001"),
        ({"learning_rate": math.nan}, "learning_rate is nan"),
        ({"learning_rate": math.inf}, "learning_rate is inf"),
        ({"learning_rate": 1e38}, r"learning_rate is 1e\+38: no step is so large"),
        ({"weight_decay": 1e300}, r"weight_decay is 1e\+300: no step is so large"),
        ({"weight_decay": -0.1}, r"weight_decay is -0\.1: it must be ≥ 0"),
        (
            {"lr_schedule": "no-such-schedule"},
            "unknown lr_schedule 'no-such-schedule': choose one of constant, linear, cosine",
        ),
        ({"warmup_ratio": 1.5}, r"warmup_ratio is 1\.5: it is a fraction of the steps, in \[0, 1\)"),
        ({"warmup_ratio": -0.1}, r"warmup_ratio is -0\.1"),
        ({"max_grad_norm": 0.0}, r"max_grad_norm is 0\.0: it must be positive, or None for no clipping"),
        ({"max_grad_norm": -1.0}, r"max_grad_norm is -1\.0"),
        ({"mixed_precision": "fp7"}, "unknown mixed_precision 'fp7': choose None, 'fp16' or 'bf16'"),
        ({"log_every": 0}, "log_every is 0: it must be at least 1"),
        ({"checkpoint_every": 0, "output_dir": "somewhere"}, "checkpoint_every is 0: it must be at least 1, or None"),
        ({"weight_decay": math.inf}, "weight_decay is inf: it must be ≥ 0 and finite"),
        ({"seed": -1}, "seed is -1: it must be at least 0 and less than 2³²"),
        ({"seed": 2**32}, "seed is 4294967296"),
        ({"seed": np.int64(-1)}, "seed is -1"),
        ({"checkpoint_every": 5}, "checkpoint_every needs output_dir: say where the checkpoints go"),
    ],
    ids=str,
)
def test_invalid_settings_raise(options, message):
    with pytest.raises(ValueError, match=message):
        TrainerConfig(**options)


@pytest.mark.parametrize(
    ("schedule", "formula"),
    [
        ("constant", lambda progress: 1.0),
        ("linear", lambda progress: 1 - progress),
        ("cosine", lambda progress: 0.5 * (1 + math.cos(math.pi * progress))),
    ],
)
def test_schedules(schedule, formula):
    """Ten steps up to the peak, ninety along the formula."""
    config = TrainerConfig(steps=100, warmup_ratio=0.1, lr_schedule=schedule)
    for step in range(100):
        expected = (step + 1) / 11 if step < 10 else formula((step - 10) / 90)
        assert config.lr_factor(step) == pytest.approx(expected)


def test_no_warm_up_starts_at_the_peak():
    assert TrainerConfig(steps=10, warmup_ratio=0.0).lr_factor(0) == 1.0


def test_settings_do_not_change():
    with pytest.raises(AttributeError, match="steps"):
        TrainerConfig().steps = 7


COUNTS = ("steps", "batch_size", "preferences_per_step", "gradient_accumulation_steps", "log_every", "seed")
NUMBERS = ("learning_rate", "weight_decay", "warmup_ratio", "max_grad_norm")


@pytest.mark.parametrize("make", [np.int64, np.int32, np.array, torch.tensor], ids=lambda make: make.__name__)
@pytest.mark.parametrize("name", [*COUNTS, "checkpoint_every"])
def test_whole_numbers_of_any_library_are_kept_as_pythons_own(name, make):
    value = getattr(TrainerConfig(output_dir="runs", **{name: make(4)}), name)
    assert type(value) is int
    assert value == 4


@pytest.mark.parametrize("make", [np.float32, np.float64, np.float16, torch.tensor], ids=lambda make: make.__name__)
@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_of_any_library_are_kept_as_pythons_own(name, make):
    value = getattr(TrainerConfig(**{name: make(0.5)}), name)
    assert type(value) is float
    assert value == 0.5


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, value) for name in COUNTS for value in ("3", 3.0, True, None, math.nan, [3], np.float64(3))),
        *((name, value) for name in NUMBERS for value in ("0.5", True, [0.5], 1j)),
        *((name, None) for name in NUMBERS[:-1]),
        *(("checkpoint_every", value) for value in ("5", 5.0, True)),
        *((name, value) for name in ("cpu", "progress") for value in (1, "no", None)),
        *(("lr_schedule", value) for value in (3, None)),
        *(("mixed_precision", value) for value in (16, True, torch.bfloat16)),
        *(("output_dir", value) for value in (3, True, b"runs", ["runs"])),
        *(("trackers", value) for value in ("tensorboard", None, {"tensorboard": 1}, 3)),
    ],
    ids=repr,
)
def test_another_type_is_refused_by_name(name, value):
    with pytest.raises(TypeError, match=f"^{name} is "):
        TrainerConfig(**{name: value})


def test_trackers_may_be_a_list():
    assert TrainerConfig(trackers=["tensorboard"]).trackers == ("tensorboard",)

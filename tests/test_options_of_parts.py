"""Every option of every part by name refuses what it cannot be, in its own words and with the option's name."""

import math
import traceback
from functools import partial
from importlib.util import find_spec
from inspect import Parameter, signature
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

import mopref
import mopref.objectives
import mopref.scalarizers
from mopref.conditioning.pareto_set import ParetoSetModel
from mopref.conditioning.svd_lora import SVDLoRAConfig
from mopref.gradients import GRADIENT_WEIGHTINGS
from mopref.llm.data.length_limits import LengthLimits
from mopref.llm.policy.generation import Sampling
from mopref.llm.policy_gradient import ALGORITHMS, PretrainingTerm
from mopref.llm.rewards.reward import token_reward
from mopref.objectives import DPO, RLHF, SFT
from mopref.registry import SAMPLERS, SCALARIZERS
from mopref.scalarizers import Linear, Normalized

# What the options that have no default are given while another one is wrong.
REQUIRED = {
    "num_objectives": 2,
    "num_points": 4,
    "reference_point": [1.0, 1.0],
    "scalarizer": Linear(),
    "method": "UPGrad",
    "objectives": ("a", "b"),
    "names": ("a", "b"),
    "num_variables": 3,
    "data": [{"prompt_ids": [1], "response_ids": [2]}],
}
PARTS = {
    **{
        name: part
        for registry in (SCALARIZERS, SAMPLERS, GRADIENT_WEIGHTINGS, ALGORITHMS)
        for name, part in registry.items()
        if part.__module__.startswith("mopref.") and (name != "torchjd" or find_spec("torchjd"))
    },
    "normalized": Normalized,
    **{part.__name__: part for part in (SVDLoRAConfig, Sampling, LengthLimits, DPO, SFT)},
    **{part.__name__: part for part in (PretrainingTerm, ParetoSetModel)},
    "RLHF": partial(
        RLHF,
        {"length": token_reward(lambda prompts, responses: [0.0] * len(responses))},
        sampling=Sampling(stop_token_ids=()),
    ),
}
OPTIONS = [
    (name, option, parameter.default)
    for name, part in PARTS.items()
    for option, parameter in signature(part).parameters.items()
    if parameter.kind is not Parameter.VAR_KEYWORD and option != "bounds"
]
CHOICES = {"importance", "ray", "length", "regret", "das-dennis", "riesz-energy", "sobol", "halton", "all-linear"}
CHOICES |= {
    "running",
    "group",
    "rloo",
    "grpo",
    "ppo",
    "zero-output",
    "paper",
    "sigmoid",
    "ipo",
    "hinge",
    "robust",
    "error",
    "truncate",
    "drop",
    "UPGrad",
}
WRONG = st.one_of(
    st.text().filter(lambda text: text not in CHOICES),
    st.binary(),
    st.just(math.nan),
    st.none(),
    st.complex_numbers(),
    st.builds(object),
    st.just({"a": 1.0, "c": 2.0}),
    st.just(torch.zeros(3, 2)),
)
# None stands for something in these, though it is not their default.
OPTIONAL = {"value_clip_range", "normalization", "sampling"}
# Any text is a name for these.
NAMES = {"pull"}
ROOTS = [Path(package.__file__).parent for package in (mopref, mopref.scalarizers, mopref.objectives)]


def refusal(name, **options):
    """The error that a part ends in with these options."""
    part = PARTS[name]
    required = {o: REQUIRED[o] for o, p in signature(part).parameters.items() if o in REQUIRED and p.default is p.empty}
    with pytest.raises((TypeError, ValueError), match=r"\.$") as error:
        part(**(required | options))
    return error


def test_there_are_as_many_options_as_ever():
    assert len(OPTIONS) > 90
    assert {"theta", "ideal", "alpha", "window", "clip_range", "rank", "top_p"} <= {option for _, option, _ in OPTIONS}


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(OPTIONS), WRONG)
def test_a_wrong_value_is_refused_by_the_name_of_its_option(part_and_option, value):
    name, option, default = part_and_option
    if (value is None and (default is None or option in OPTIONAL)) or (isinstance(value, str) and option in NAMES):
        return
    error = refusal(name, **{option: value})
    assert option in str(error.value)
    last = Path(traceback.extract_tb(error.value.__traceback__)[-1].filename)
    assert any(last.is_relative_to(root) for root in ROOTS), last


@pytest.mark.parametrize(("name", "option", "default"), OPTIONS, ids=lambda value: str(value)[:20])
def test_every_option_refuses_a_text_none_and_nan(name, option, default):
    for value in (None if option in NAMES else "no such", None, math.nan, torch.zeros(3, 2)):
        if not (value is None and (default is None or option in OPTIONAL)):
            assert option in str(refusal(name, **{option: value}).value)


FLOATS = [(name, option) for name, option, default in OPTIONS if isinstance(default, float) and option != "alpha"]
COUNTS = [(name, option) for name, option, default in OPTIONS if type(default) is int]
# Where they are infinite nothing is clipped.
UNBOUNDED = {"clip_range", "value_clip_range"}


@pytest.mark.parametrize(("name", "option"), FLOATS)
def test_numbers_are_no_bools_and_finite(name, option):
    for value in (True, np.bool_(True)) if option in UNBOUNDED else (True, np.bool_(True), math.inf):
        assert option in str(refusal(name, **{option: value}).value)


@pytest.mark.parametrize(("name", "option"), COUNTS)
def test_counts_have_no_point(name, option):
    for value in (2.0, 2.5, True, math.inf, "2"):
        assert isinstance(refusal(name, **{option: value}).value, TypeError)


@pytest.mark.parametrize(("name", "option"), FLOATS + COUNTS)
def test_numbers_of_numpy_and_single_tensors_become_pythons_own(name, option):
    part = PARTS[name]
    required = {o: REQUIRED[o] for o, p in signature(part).parameters.items() if o in REQUIRED and p.default is p.empty}
    default = signature(part).parameters[option].default
    expected = repr(part(**required, **{option: default}))
    kind = torch.float64 if isinstance(default, float) else torch.int64
    for value in (np.array(default), np.array([default])[0], torch.tensor(default, dtype=kind)):
        made = part(**required, **{option: value})
        assert repr(made) == expected
        if option != "seed":  # Of a sampler that is a method.
            assert type(getattr(made, option, default)) is type(default)

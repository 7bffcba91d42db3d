"""A part's repr is the call that makes it again."""

from inspect import signature

import numpy as np
import pytest
import torch

import mopref.gradients
import mopref.objectives
import mopref.samplers
import mopref.scalarizers
from mopref._repr import OptionsRepr, quoted_list, short_repr
from mopref.gradients import EPO, GRADIENT_WEIGHTINGS, TorchJD
from mopref.objectives import DTLZ4, RE21, ZDT2, Quadratic, ScaledZDT1
from mopref.problem import Problem
from mopref.registry import OBJECTIVES, SAMPLERS, SCALARIZERS
from mopref.samplers import AdaptiveSampler, VertexBiasedSampler
from mopref.scalarizers import Linear, ModifiedTchebycheff, Normalized, SmoothTchebycheff, Tchebycheff
from mopref.tracked_points import TrackedIdeal, TrackedNadir
from mopref.training.batching import GroupBatchSampler
from mopref.training.callbacks import HypervolumeCallback

# Options that a part cannot be made without.
REQUIRED = {
    "achievement": {"reference_point": [0.5, 0.25]},
    "augmented-achievement": {"reference_point": [0.5, 0.25]},
    "hypervolume": {"reference_point": [1.5, 2.0]},
    "normalized": {"scalarizer": Linear()},
    "lattice": {"num_points": 5},
    "torchjd": {"method": "MGDA"},
}
PARTS = [
    (registry, name)
    for registry in (SCALARIZERS, SAMPLERS, OBJECTIVES, GRADIENT_WEIGHTINGS)
    for name, part in registry.items()
    # Objectives on data need a tokenizer, data or rewards: they have tests of their own.
    if part.__module__.startswith("mopref.") and (registry is not OBJECTIVES or issubclass(part, Problem))
]
CLASSES = {
    name: part
    for package in (mopref.gradients, mopref.objectives, mopref.samplers, mopref.scalarizers)
    for name, part in vars(package).items()
    if isinstance(part, type)
}


def make(registry, name):
    if name == "torchjd":
        pytest.importorskip("torchjd")
    common = {"num_objectives": 2} if registry is SAMPLERS else {}
    return registry.make(name, **common, **REQUIRED.get(name, {}))


@pytest.mark.parametrize(("registry", "name"), PARTS, ids=lambda value: value if isinstance(value, str) else value.kind)
def test_every_registered_part_tells_its_options(registry, name):
    """All of them but a sampler's seed, which belongs to a run."""
    part = make(registry, name)
    text = repr(part)
    assert text.startswith(f"{type(part).__name__}(")
    for option, parameter in signature(type(part)).parameters.items():
        if option != "seed" and parameter.kind is not parameter.VAR_KEYWORD:
            assert f"{option}=" in text, option


@pytest.mark.parametrize(("registry", "name"), PARTS, ids=lambda value: value if isinstance(value, str) else value.kind)
def test_every_repr_makes_an_equal_part(registry, name):
    part = make(registry, name)
    again = eval(repr(part), CLASSES)
    assert type(again) is type(part)
    assert repr(again) == repr(part)


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (Tchebycheff(ideal=[0, 0]), "Tchebycheff(ideal=[0.0, 0.0])"),
        (
            ModifiedTchebycheff(),
            "ModifiedTchebycheff(ideal=None, epsilon=0.001, margin=0.01, convention='importance')",
        ),
        (
            Normalized(SmoothTchebycheff(ideal=torch.zeros(2), mu=0.5), ideal=np.zeros(2), nadir=[1, 2]),
            "Normalized(scalarizer=SmoothTchebycheff(ideal=[0.0, 0.0], mu=0.5), ideal=[0.0, 0.0], nadir=[1.0, 2.0])",
        ),
        (VertexBiasedSampler(2, 0.5, seed=3), "VertexBiasedSampler(num_objectives=2, vertex_probability=0.5)"),
        (
            AdaptiveSampler(3, by="regret", num_cells=8),
            "AdaptiveSampler(num_objectives=3, by='regret', uniform_probability=0.5, num_cells=8, forgetting=0.1, "
            "refresh_every=10)",
        ),
        (EPO(ideal=[0, 1]), "EPO(ideal=[0.0, 1.0], balanced=0.0001, epsilon=0.001)"),
        (ZDT2(10), "ZDT2(num_variables=10)"),
        (ScaledZDT1(5, (2, 3)), "ScaledZDT1(num_variables=5, scales=[2.0, 3.0])"),
        (DTLZ4(2, 4, alpha=3), "DTLZ4(num_objectives=2, num_variables=4, alpha=3)"),
        (RE21(), "RE21()"),
        (
            Quadratic([[0, 0], [1, 0]], names=("a", "b")),
            "Quadratic(centers=[[0.0, 0.0], [1.0, 0.0]], matrices=None, names=('a', 'b'))",
        ),
    ],
    ids=lambda value: "" if isinstance(value, str) else type(value).__name__,
)
def test_options_by_hand(part, expected):
    assert repr(part) == expected
    assert repr(eval(expected, CLASSES)) == expected


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (TrackedIdeal(margin=0.5), "TrackedIdeal(ideal=None, margin=0.5)"),
        (TrackedIdeal([0, -1]), "TrackedIdeal(ideal=[0.0, -1.0], margin=0.0)"),
        (TrackedNadir(), "TrackedNadir(nadir=None, margin=0.0, window=256)"),
        (TrackedNadir([1, 2], 0.25, 8), "TrackedNadir(nadir=[1.0, 2.0], margin=0.25, window=8)"),
        (
            GroupBatchSampler(torch.tensor([[True, False], [True, True], [False, True]]), 4, groups=2, seed=3),
            "GroupBatchSampler(labelled=[[True, False], [True, True], [False, True]], batch_size=4, groups=2)",
        ),
        (
            HypervolumeCallback(5, [1, 2], every=10),
            "HypervolumeCallback(preferences=5, reference_point=[1.0, 2.0], every=10, data=None)",
        ),
    ],
    ids=lambda value: "" if isinstance(value, str) else type(value).__name__,
)
def test_what_follows_a_training_tells_its_options(part, expected):
    assert repr(part) == expected


def test_what_was_observed_is_no_option():
    ideal, nadir = TrackedIdeal(), TrackedNadir()
    texts = repr(ideal), repr(nadir)
    for point in (ideal, nadir):
        point.observe(torch.tensor([[1.0, 2.0]]))
    assert (repr(ideal), repr(nadir)) == texts


def test_matrices_are_options_too():
    matrices = [[[1.0, 0.0], [0.0, 3.0]], [[2.0, 0.5], [0.5, 1.0]]]
    assert f"matrices={matrices}" in repr(Quadratic([[0, 0], [1, 0]], matrices))


def test_the_options_of_a_torchjd_method():
    aggregation = pytest.importorskip("torchjd.aggregation")
    assert repr(TorchJD("MGDA", max_iters=3)) == "TorchJD(method='MGDA', max_iters=3)"
    assert repr(TorchJD(aggregation.MGDA())).startswith("TorchJD(method=MGDA(")


class Part(OptionsRepr):
    def __init__(self, **options):
        vars(self).update(options)
        self._private = 1


class Plain:
    pass


def square(x):
    return x * x


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.5, "0.5"),
        ("text", "'text'"),
        (None, "None"),
        ((1, True), "(1, True)"),
        (torch.tensor(2.0, requires_grad=True), "2.0"),
        (np.arange(3), "[0, 1, 2]"),
        (torch.arange(20), "[0, 1, 2, 3, 4, 5, 6, 7, ...]"),
        ([[0] * 9] * 2, "[[0, 0, 0, 0, 0, 0, 0, 0, ...], [0, 0, 0, 0, 0, 0, 0, 0, ...]]"),
        (Part(a=1), "Part(a=1)"),
        ([Part(a=1)], "[Part(a=1)]"),
        # No addresses in memory: the same in each run.
        (square, "square"),
        (Plain(), "Plain(...)"),
    ],
)
def test_values_are_shown_short(value, expected):
    assert repr(Part(value=value)) == f"Part(value={expected})"


def test_a_long_text_is_cut():
    text = repr(Part(value="x" * 10_000))
    assert len(text) < 120
    assert "..." in text


def test_a_part_of_ones_own_shows_its_public_attributes():
    """Also where it never calls the constructor of its base class."""

    class Mine(mopref.Scalarizer):
        def __init__(self, power=2.0):
            self.power = power

        def scalarize(self, losses, preferences):
            return (preferences * losses**self.power).sum(dim=-1)

    class Cubes(Problem):
        def __init__(self, sign=1.0):
            super().__init__(num_variables=1, num_objectives=2)
            self.sign = sign

        def evaluate(self, x):
            return self.sign * torch.cat([x**3, (x - 1) ** 3], dim=-1)

    assert repr(Mine()) == "Mine(power=2.0)"
    assert repr(Cubes()) == "Cubes(sign=1.0)"


def test_a_number_that_python_does_not_write_is_told_by_its_size():
    assert short_repr({"x": 10**5_000}) == "{'x': <an integer of 16610 bits>}"
    assert short_repr(-(10**20)) == "-100000000000000000000"


def test_very_many_names_are_counted():
    assert quoted_list([]) == ""
    assert quoted_list(["a\x1b", 1]) == r"'a\x1b', 1"
    assert quoted_list(map(str, range(1_025))).endswith(", '19' and 1,005 more")
    assert len(quoted_list(["x" * 10_000])) < 100

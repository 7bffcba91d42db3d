"""What makes a run the run it is: the same for the same parts however they are made, another for other ones."""

import itertools
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from torch import nn

from mopref import Objective, PreferenceModel, SVDLoRAConfig, UniformSampler, VertexBiasedSampler
from mopref.gradients import EPO
from mopref.llm.policy import Sampling
from mopref.llm.policy_gradient import PPO, PretrainingTerm
from mopref.llm.rewards import token_reward
from mopref.objectives import DPO, RLHF, ZDT1, Quadratic
from mopref.scalarizer import Scalarizer
from mopref.scalarizers import (
    PBI,
    AugmentedTchebycheff,
    InvertedPBI,
    Linear,
    Normalized,
    SmoothTchebycheff,
    Tchebycheff,
)
from mopref.training.run_identity import check_identity, run_identity

MODEL = nn.Linear(2, 2)
ROWS = [{"prompt_ids": [i], "labels": [i % 2, 1], "text": f"row {i}", "weight": 0.1 * i} for i in range(300)]


def identity(model: nn.Module | None = None, rows: Any = None, convention: str = "importance", **parts: Any) -> dict:
    return run_identity(parts, MODEL if model is None else model, convention, rows)


def differing(first: Mapping[str, str], second: Mapping[str, str]) -> list[str]:
    return [name for name in first.keys() | second.keys() if first.get(name) != second.get(name)]


class Power(Scalarizer):
    """A user's scalarizer, whose option has a private attribute."""

    def __init__(self, exponent: float = 2.0) -> None:
        self._exponent = exponent

    def scalarize(self, losses, preferences):
        return (preferences * losses**self._exponent).sum(-1)


class SteepPower(Power):
    """One that hands an option on under another name."""

    def __init__(self, steepness: float) -> None:
        super().__init__(exponent=2 * steepness)


class Plain:
    """Something without plain content."""


class Careless(Objective):
    """A user's objective with attributes of every kind, some of which differ from process to process."""

    names = ("a", "b")

    def __init__(self, function=abs, model=None, tokenizer=None, weights=(1.0, 2.0), tags=frozenset("xyz")) -> None:
        self.function, self.model, self.tokenizer, self.weights, self.tags = function, model, tokenizer, weights, tags
        self.calls, self.cache = 0, {}
        self.started, self.token = time.time_ns(), os.urandom(8)
        self.lock, self.generator = threading.Lock(), np.random.default_rng()

    def losses(self, model, batch, preferences):
        self.calls += 1
        self.cache[self.calls] = self.started
        return preferences


def small_reward(prompt_ids, response_ids):
    return [0.0] * len(response_ids)


def other_reward(prompt_ids, response_ids):
    return [1.0] * len(response_ids)


LONGER = Sampling(max_new_tokens=4, stop_token_ids=(1,))
ZEROS = torch.zeros(5000)
ZEROS_AND_ONE = torch.tensor([0.0] * 4999 + [1.0])


def rlhf(rewards=(small_reward, small_reward), data=None, **options: Any) -> RLHF:
    sampling = options.pop("sampling", Sampling(max_new_tokens=3, stop_token_ids=(1,)))
    rows = [{"prompt_ids": [5], "response_ids": [6, 7]}] if data is None else data
    functions = {name: token_reward(reward) for name, reward in zip("ab", rewards, strict=True)}
    return RLHF(functions, sampling=sampling, pretraining=PretrainingTerm(rows), **{"algorithm": "ppo", **options})


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (Tchebycheff(), Tchebycheff(ideal=None, margin=0.01)),
        (Tchebycheff(ideal=[0, 1]), Tchebycheff(ideal=torch.tensor([0.0, 1.0]))),
        (Tchebycheff(ideal=np.array([0.5, 1.0])), Tchebycheff(ideal=[0.5, 1])),
        (PBI(theta=5), PBI(theta=5.0)),
        (Power(2), Power(np.float64(2))),
        (UniformSampler(2, seed=3), UniformSampler(("a", "b"))),
        (DPO(("a", "b"), beta=1), DPO(["a", "b"], beta=1.0)),
        (rlhf(), rlhf(algorithm=PPO())),
        (Careless(), Careless()),
        (Careless(model=nn.Linear(2, 2)), Careless(model=nn.Linear(2, 2))),
        (Careless(tokenizer=Plain()), Careless(tokenizer=Plain())),
        (Careless(weights=[1, 2]), Careless(weights=np.array([1.0, 2.0]))),
        (Careless(weights=Path("/here/base")), Careless(weights="/there/base")),
        (Careless(weights=[np.bool_(True), np.str_("x")]), Careless(weights=[True, "x"])),
        (Careless(weights=[np.float32(0.5), np.int64(3)]), Careless(weights=[0.5, 3])),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_same_part_made_in_another_way_is_the_same(first, second):
    assert identity(part=first) == identity(part=second)


@pytest.mark.parametrize(
    ("first", "second", "name"),
    [
        (Tchebycheff(), Linear(), "part"),
        (Tchebycheff(), Tchebycheff(margin=0.5), "part.margin"),
        (Tchebycheff(ideal=[0.0, 1.0]), Tchebycheff(ideal=[0.0, 1.5]), "part.ideal"),
        (Tchebycheff(ideal=range(40)), Tchebycheff(ideal=[*range(20), 20.5, *range(21, 40)]), "part.ideal"),
        (InvertedPBI(nadir=[1.0, 2.0]), InvertedPBI(nadir=[1.0, 3.0]), "part.nadir"),
        (PBI(), PBI(theta=5.5), "part.theta"),
        (PBI(), PBI(convention="ray"), "part.convention"),
        (AugmentedTchebycheff(), AugmentedTchebycheff(rho=0.3), "part.rho"),
        (Normalized(PBI()), Normalized(PBI(theta=1.5)), "part.scalarizer.theta"),
        (Normalized(PBI()), Normalized(Linear()), "part.scalarizer"),
        (Power(), Power(3), "part.exponent"),
        (SteepPower(1), SteepPower(2), "part.exponent"),
        (EPO(), EPO(balanced=0.25), "part.balanced"),
        (UniformSampler(2), VertexBiasedSampler(2), "part"),
        (VertexBiasedSampler(2), VertexBiasedSampler(2, vertex_probability=0.7), "part.vertex_probability"),
        (DPO(("a", "b")), DPO(("a", "b"), beta=0.5), "part.beta"),
        (DPO(("a", "b")), DPO(("a", "b"), loss="ipo"), "part.loss"),
        (Quadratic([[0.0], [1.0]]), Quadratic([[0.0], [2.0]]), "part.centers"),
        (rlhf(), rlhf(algorithm="rloo"), "part.algorithm"),
        (rlhf(), rlhf(algorithm=PPO(epochs=3)), "part.algorithm.epochs"),
        (rlhf(), rlhf(rewards=(small_reward, other_reward)), "part.rewards.b"),
        (rlhf(), rlhf(sampling=LONGER), "part.sampling.max_new_tokens"),
        (rlhf(), rlhf(data=[{"prompt_ids": [5], "response_ids": [6, 8]}]), "part.pretraining.data"),
        (rlhf(), rlhf(beta=0.3), "part.beta"),
        (Careless(), Careless(function=max), "part.function"),
        (Careless(), Careless(weights=(1.0, 2.5)), "part.weights"),
        (Careless(weights=ZEROS), Careless(weights=ZEROS_AND_ONE), "part.weights"),
        (Careless(), Careless(weights=None), "part.weights"),
        (Careless(weights=True), Careless(weights=1), "part.weights"),
        (Careless(tokenizer=Plain()), Careless(tokenizer=nn.Identity()), "part.tokenizer"),
        (Careless(tags={"x": 1}), Careless(tags={"x": 2}), "part.tags.x"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)  # fmt: skip
def test_another_option_is_told_by_its_name(first, second, name):
    names = differing(identity(part=first), identity(part=second))
    assert name in names
    assert all(other.startswith(name) for other in names)


def test_what_a_preference_says_comes_first():
    ray = identity(part=Linear(), convention="ray")
    assert differing(identity(part=Linear()), ray) == ["convention"]
    assert next(iter(ray)) == "convention"


def test_a_problem_is_told_by_its_variables_and_their_bounds():
    names = differing(identity(part=ZDT1(num_variables=4)), identity(part=ZDT1(num_variables=5)))
    assert set(names) == {"part.num_variables", "part.bounds"}


def test_what_training_changes_is_no_part_of_it():
    """Tracked points, and whatever a user's part counts, keeps or draws."""
    for part in (Tchebycheff(), SmoothTchebycheff(), InvertedPBI(), Normalized(Tchebycheff()), EPO()):
        before = identity(part=part)
        part.observe(torch.tensor([[1.0, 2.0], [3.0, 0.5]]))
        assert identity(part=part) == before
    objective = Careless()
    before = identity(part=objective)
    objective.losses(None, None, torch.ones(1, 2))
    assert identity(part=objective) == before


def test_a_class_that_says_its_options_itself_is_taken_at_its_word():
    class Told(Power):
        def options(self):
            return {"strength": self.strength}

    first, second = Told(2.0), Told(3.0)
    first.strength = second.strength = 1
    assert identity(part=first) == identity(part=second)
    second.strength = 2
    assert differing(identity(part=first), identity(part=second)) == ["part.strength"]


def test_a_frozen_record_of_settings_counts_under_any_name():
    @dataclass(frozen=True)
    class Settings:
        depth: int

    class Deep(Power):
        def __init__(self, levels: int) -> None:
            super().__init__()
            self.settings = Settings(levels)

    assert differing(identity(part=Deep(1)), identity(part=Deep(2))) == ["part.settings.depth"]


def test_a_place_to_work_on_is_no_option():
    class Placed(Power):
        def __init__(self, device: str) -> None:
            super().__init__()
            self.device = device

    assert identity(part=Placed("cpu")) == identity(part=Placed("cuda"))


def test_parts_that_hold_each_other_end():
    @dataclass(frozen=True)
    class Ring:
        next: list = field(default_factory=list)
        other: Any = None

    ring = Ring()
    ring.next.append(ring)
    object.__setattr__(ring, "other", ring)
    assert identity(part=ring) == identity(part=ring)


def test_values_are_short_and_rows_are_not_shown():
    secret = [{"prompt_ids": [987654], "response_ids": [6], "text": "a secret"}]
    told = identity(part=rlhf(data=secret), rows=secret, other=Careless(weights=torch.rand(99, 3)))
    assert max(map(len, told.values())) <= 100
    assert not any("987654" in value or "secret" in value for value in told.values())


_PRINTED = """
from test_run_identity import ROWS, Careless, adapted, identity, rlhf
part = Careless(tags={"a", "b", "c", ("d", 1)}, weights={"k": [1, {"l", "m", "n"}]})
print(identity(adapted(), rows=ROWS, part=part, other=rlhf()))
"""


def test_what_a_record_does_not_show_is_not_shown_in_any_form():
    @dataclass(frozen=True)
    class Record:
        texts: Any = field(repr=False)

    for texts in (["secret"], {"row": "secret"}, {"row": ["secret"]}, "secret"):
        told = identity(part=Record(texts))
        assert set(told) == {"convention", "part", "part.texts", "frozen weights", "content of the rows"}
        assert "secret" not in told["part.texts"]
        assert told != identity(part=Record("another"))


def test_values_that_are_told_apart_by_part_of_their_content():
    """The number of entries of a long list, the fields of a record that may change, and of other tensors the type."""

    @dataclass
    class Row:
        values: list

    def told(value: Any) -> Mapping[str, str]:
        return identity(part=Careless(weights=value))

    assert told([0] * 5000) != told([0] * 5001)
    assert told(Row([1])) == told(Row([1])) != told(Row([2]))
    assert told(torch.eye(3).to_sparse()) == told(torch.zeros(3, 3).to_sparse())


def test_every_process_has_the_same():
    outputs = set()
    for seed in ("1", "2"):
        path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": path}
        command = [sys.executable, "-c", _PRINTED]
        outputs.add(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)
    assert len(outputs) == 1
    assert "part.tags" in outputs.pop()


def changed(rows: list[dict], index: int, **values: Any) -> list[dict]:
    return [{**row, **values} if number == index else row for number, row in enumerate(rows)]


@pytest.mark.parametrize("index", [0, 299], ids=["first", "last"])
@pytest.mark.parametrize(
    "values",
    [{"labels": [1, 0]}, {"prompt_ids": [7, 7]}, {"text": "another"}, {"weight": 0.5}, {"more": None}],
    ids=lambda part: str(sorted(part)) if isinstance(part, set) else str(part),
)
def test_another_row_is_other_data(index, values):
    assert differing(identity(rows=ROWS), identity(rows=changed(ROWS, index, **values))) == ["content of the rows"]


def test_most_rows_of_small_data_and_some_of_large_data_count():
    small = ROWS[:128]
    assert all(identity(rows=small) != identity(rows=changed(small, index, text="x")) for index in range(128))

    class Counting(list):
        reads = 0

        def __getitem__(self, index):
            self.reads += 1
            return super().__getitem__(index)

    rows = Counting(range(100_000))
    assert identity(rows=rows) == identity(rows=range(100_000)) != identity(rows=range(1, 100_001))
    assert rows.reads == 256


@pytest.mark.parametrize(
    "same",
    [
        [{key: torch.tensor(value) if key == "labels" else value for key, value in row.items()} for row in ROWS],
        [{key: np.array(value) if key == "prompt_ids" else value for key, value in row.items()} for row in ROWS],
        [dict(reversed(row.items())) for row in ROWS],
        [{**row, "reference_log_probabilities": [0.5 + i], "reference_model": "x"} for i, row in enumerate(ROWS)],
        [{**row, "reference_precision": "bf16", "hidden_states_0": torch.rand(3, 2)} for row in ROWS],
        [{**row, "hidden_states_model": "x", "hidden_states": torch.rand(2)} for row in ROWS],
    ],
    ids=["tensors", "arrays", "columns in another order", "reference", "activations", "kept"],
)
def test_the_same_rows_stay_the_same(same):
    """In other containers, and beside what was computed from them with a model."""
    assert identity(rows=same) == identity(rows=ROWS)


@pytest.mark.parametrize("kind", [None, "numpy", "torch"])
def test_rows_in_a_table_are_those_of_a_list_in_whatever_format(kind):
    """Long ones too, and numbers that a format rounds."""
    rows = [{**row, "prompt_ids": list(range(1500)), "weight": row["weight"] / 3} for row in ROWS]
    table = Dataset.from_list(rows).with_format(kind)
    assert identity(rows=table) == identity(rows=rows)
    other = Dataset.from_list(changed(rows, 299, weight=0.5)).with_format(kind)
    assert differing(identity(rows=other), identity(rows=rows)) == ["content of the rows"]


def test_rows_without_plain_content_count_by_their_type():
    rows = [{"image": Plain(), "loss": float("nan"), "bits": b"x", "none": None} for _ in range(4)]
    again = [{"image": Plain(), "loss": float("nan"), "bits": b"x", "none": None} for _ in range(4)]
    assert identity(rows=rows) == identity(rows=again)
    assert identity(rows=rows) != identity(rows=changed(again, 2, bits=b"y"))
    assert identity(rows=[torch.eye(3).to_sparse()] * 2) == identity(rows=[torch.zeros(3, 3).to_sparse()] * 2)


def test_large_rows_are_told_apart_by_some_of_their_numbers():
    pictures = torch.rand(3, 3, 50, 50)
    assert identity(rows=pictures) == identity(rows=pictures.clone()) == identity(rows=list(pictures.numpy()))
    assert identity(rows=pictures) != identity(rows=pictures.flip(-1))
    assert identity(rows=pictures) != identity(rows=pictures.reshape(3, 3, 2500))


def noise_of(draw):
    """A data set of rows that differ at every reading."""

    class Noisy:
        def __len__(self):
            return 3

        def __getitem__(self, index):
            return {"x": draw(), "index": index}

    return Noisy()


counter = itertools.count()
RANDOM_ROWS = {
    "torch": lambda: torch.rand(2),
    "numpy": lambda: np.random.rand(),  # noqa: NPY002 - as augmentations draw
    "python": random.random,
    "own": lambda: next(counter),
    # The same twice, by chance, though it was drawn.
    "drawn the same": lambda: int(torch.rand(()) < 2),
}


@pytest.mark.parametrize("draw", RANDOM_ROWS.values(), ids=RANDOM_ROWS)
def test_rows_that_are_read_anew_are_not_compared_and_generators_stay(draw):
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    told = identity(rows=noise_of(draw))
    after = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]
    assert told["content of the rows"] == "another at every reading"
    check_identity(told, identity(rows=ROWS[:3]), "folder")
    check_identity(identity(rows=ROWS[:3]), told, "folder")


def test_rows_that_cannot_be_read_are_left_to_the_training():
    def fail():
        raise OSError("gone")

    told = identity(rows=noise_of(fail))
    check_identity(told, identity(rows=ROWS[:3]), "folder")


def base(scale: float = 1.0) -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            parameter.copy_(scale * torch.arange(parameter.numel()).reshape(parameter.shape) + number)
    return model


def adapted(scale: float = 1.0, **options: Any) -> PreferenceModel:
    return PreferenceModel(base(scale), SVDLoRAConfig(**{"objectives": ("a", "b"), "rank": 2, **options}))


def test_frozen_weights_tell_models_apart_and_trained_ones_do_not():
    assert differing(identity(adapted()), identity(adapted(1.1))) == ["frozen weights"]
    assert identity(adapted(seed=1)) == identity(adapted(seed=2))
    assert identity(base()) == identity(base(1.1))
    first, second = base(), base(1.1)
    assert identity(first)["frozen weights"] == "none"
    for model in (first, second):
        model[1].bias.requires_grad_(False)
    assert differing(identity(first), identity(second)) == ["frozen weights"]
    assert identity(nn.Sequential(nn.Linear(0, 2).requires_grad_(False)))["frozen weights"] != "none"


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"scaling": 50.0}, {"adapter.scaling"}),
        ({"objectives": ("x", "y")}, {"adapter.objectives"}),
        ({"rank": 1, "preference_rank": 3}, {"adapter.rank", "adapter.preference_rank"}),
        ({"seed": 4, "initialization": "paper"}, set()),
        ({"target_modules": ("0", "1")}, set()),
    ],
    ids=lambda part: str(sorted(part)) if isinstance(part, set) else str(part),
)
def test_adapters_are_told_by_their_settings(options, names):
    """But not by where they start, which the checkpoint replaces."""
    assert set(differing(identity(adapted()), identity(adapted(**options)))) == names
    inner = identity(nn.Sequential(adapted())), identity(nn.Sequential(adapted(**options)))
    assert set(differing(*inner)) == {name.replace("adapter", "adapter of 0") for name in names}


def test_the_first_difference_is_named_with_both_values():
    own = {"convention": "ray", "scalarizer": "PBI", "scalarizer.theta": "5"}
    check_identity(own, dict(own), "folder")
    message = "folder was trained with scalarizer = Linear, not PBI: resume with the same, or start a new run"
    with pytest.raises(ValueError, match=message):
        check_identity(own, {**own, "scalarizer": "Linear", "scalarizer.theta": "4"}, "folder")
    with pytest.raises(ValueError, match=r"with scalarizer\.theta = None, not 5: resume"):
        check_identity(own, {"convention": "ray", "scalarizer": "PBI"}, "folder")
    with pytest.raises(ValueError, match=r"with scalarizer\.margin = 1, not None: resume"):
        check_identity(own, {**own, "scalarizer.margin": "1"}, "folder")


@pytest.mark.parametrize(
    ("option", "other"), [({"gate": "linear"}, {"gate": "shared-mlp"}), ({"core": "diagonal"}, {"core": "full"})]
)
def test_a_linear_gate_and_a_diagonal_core_are_not_said_and_others_are(option, other, make_mlp):
    """Checkpoints from before there was a choice go on, and no gate or core takes another's place."""
    from mopref.training.run_identity import run_identity

    def identity(options):
        return run_identity({}, PreferenceModel(make_mlp(), SVDLoRAConfig(("a", "b"), **options)), "importance", None)

    plain, ((name, value),) = identity(option), other.items()
    assert not any(name in setting for setting in plain)
    assert identity(other) == {**plain, f"adapter.{name}": repr(value)}

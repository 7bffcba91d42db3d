"""examples/toy_front.py: runs, writes what it says, and refuses names it does not know."""

import pytest
import torch

from mopref import Front


@pytest.fixture(scope="module")
def toy_front(load_example):
    return load_example("toy_front")


@pytest.mark.parametrize(
    ("problem", "scalarizer", "points"), [("zdt2", "modified-tchebycheff", 9), ("dtlz2", "linear", 15)]
)
def test_the_script_trains_prints_and_writes(toy_front, tmp_path, capsys, problem, scalarizer, points):
    output = tmp_path / "new" / "folder"
    arguments = f"--problem {problem} --scalarizer {scalarizer} --steps 3 --points {points} --seed 4 --output".split()
    toy_front.main([*arguments, str(output)])
    printed = capsys.readouterr().out
    for expected in ("hypervolume", "reference point [1.1, 1.1", "learned", "true front", "ratio", "seed            4"):
        assert expected in printed
    assert (output / "toy_front.png").stat().st_size > 10_000
    front = Front.load(output / "front.json")
    assert len(front) == points
    assert front.metadata["problem"] == problem
    assert front.metadata["seed"] == 4


@pytest.mark.parametrize("option", ["--problem", "--scalarizer"])
def test_an_unknown_name_lists_the_known_ones(toy_front, capsys, option):
    with pytest.raises(SystemExit):
        toy_front.main([option, "no-such-name"])
    error = capsys.readouterr().err
    known = toy_front.PROBLEMS if option == "--problem" else toy_front.SCALARIZER_NAMES
    assert "no-such-name" in error
    assert all(name in error for name in known)


def test_every_problem_that_is_offered_has_a_known_front(toy_front):
    """And the problems that are not offered have none."""
    assert {"zdt1", "dtlz2", "vlmop3", "re33"} < set(toy_front.PROBLEMS)
    assert not {"dpo", "rlhf", "sft"} & set(toy_front.PROBLEMS)
    for name in toy_front.PROBLEMS:
        problem = toy_front.OBJECTIVES.make(name, **toy_front.SIZES.get(name, {}))
        assert bool((problem.ideal_point < problem.nadir_point).all()), name
        assert problem.pareto_front(5).shape[1] == problem.num_objectives


def test_every_scalarizer_that_is_offered_can_be_made(toy_front):
    losses, preferences = torch.tensor([[0.5, 0.5]]), torch.tensor([[0.5, 0.5]])
    assert set(toy_front.SCALARIZER_NAMES) == set(toy_front.SCALARIZERS) - {"normalized"}
    for name in toy_front.SCALARIZER_NAMES:
        scalarizer = toy_front.scalarizer_for_problem(name, toy_front.OBJECTIVES.make("zdt1"))
        assert scalarizer(losses, preferences).isfinite().all(), name


def test_every_size_is_one_of_its_problem(toy_front):
    for name, size in toy_front.SIZES.items():
        toy_front.OBJECTIVES.make(name, **size)

"""examples/toy_front.py: runs, writes what it says, and refuses names it does not know."""

import pytest

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
    known = toy_front.OBJECTIVES if option == "--problem" else toy_front.SCALARIZERS
    assert "no-such-name" in error
    assert all(name in error for name in known)


def test_every_size_is_one_of_its_problem(toy_front):
    for name, size in toy_front.SIZES.items():
        toy_front.OBJECTIVES.make(name, **size)

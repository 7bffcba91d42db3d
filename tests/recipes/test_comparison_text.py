"""What a comparison looks like as text."""

import json

import pytest
from _run_folders import front_of, write_run

from mopref import Front
from mopref.recipes import EvaluationSettings, TrainingSettings, compare, comparison_text

LATTICE = [[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]


def save(path, values, preferences=LATTICE, maximize=False, names=("helpful", "harmless"), **options):
    """A front in a file."""
    Front(preferences, values, names, maximize, **options).save(path)
    return path


@pytest.fixture
def pair(tmp_path):
    """Two fronts whose figures are known by hand, under (4, 4)."""
    metadata = {"reference_point": [4, 4], "hypervolume_interval": [8, 9], "interval_level": 0.9}
    one = save(tmp_path / "one.json", [[0, 3], [1, 1], [3, 3]], metadata=metadata)
    return [one, save(tmp_path / "two.json", [[0, 3], [2, 2], [3, 0]])]


def cells(text, beginning):
    """The cells of the one line that begins so."""
    (line,) = [line for line in text.splitlines() if line.strip().startswith(beginning)]
    return [cell for cell in line.strip().split("  ") if cell]


def stripped(parts):
    return [part.strip() for part in parts]


def test_a_line_a_run(pair):
    text = comparison_text(compare(pair))
    assert stripped(cells(text, "run ")) == [
        "run",
        "hypervolume ↑",
        "points",
        "non-dominated",
        "inner product ↑",
        "best helpful ↓",
        "best harmless ↓",
        "share of union",
        "covers other",
    ]
    assert stripped(cells(text, "one.json   ")) == [
        "one.json",
        "10.0000 [8.0000, 9.0000]",
        "3",
        "2",
        "-1.3333",
        "0.0000",
        "1.0000",
        "67%",
        "67%",
    ]
    assert stripped(cells(text, "two.json   "))[1:4] == ["8.0000", "3", "3"]
    assert "hypervolume     under the reference point (4, 4)\n" in text
    assert "[low, high]     interval (90 %), bootstrap over prompts\n" in text
    assert "[low, high]" not in comparison_text(compare(pair, (5, 5)))


def test_warnings_stand_first_each_on_its_line(pair, tmp_path):
    lines = comparison_text(compare(pair)).splitlines()
    assert lines[0].startswith("WARNING: on which records one.json and two.json were measured is not recorded")
    assert lines[1] == ""
    same = [write_run(tmp_path / name) for name in ("a", "b")]
    assert "WARNING" not in comparison_text(compare(same))


def test_values_side_by_side_with_the_difference_to_the_first(pair):
    text = comparison_text(compare(pair))
    helpful, harmless = (section for section in text.split("\n\n") if "at the preferences of all fronts" in section)
    assert helpful.startswith("helpful ↓ at the preferences of all fronts (in brackets: minus one.json)")
    assert stripped(cells(helpful, "0.5 ")) == ["0.5", "0.5", "1.0000", "2.0000 (+1.0000)"]
    assert stripped(cells(harmless, "0 ")) == ["0", "1", "3.0000", "0.0000 (-3.0000)"]


def test_maximised_objectives_have_another_arrow(tmp_path):
    paths = [save(tmp_path / f"{name}.json", [[1, 2]] * 3, maximize=(True, False)) for name in "ab"]
    text = comparison_text(compare(paths, (0, 3)))
    assert "best helpful ↑" in text
    assert "best harmless ↓" in text


def test_three_runs_have_no_coverage(pair, tmp_path):
    third = save(tmp_path / "third.json", [[0, 3], [2, 2], [3, 1]])
    text = comparison_text(compare([*pair, third]))
    assert "covers other" not in text
    helpful = next(section for section in text.split("\n\n") if section.startswith("helpful ↓"))
    assert stripped(cells(helpful, "0.5 "))[2:] == ["1.0000", "2.0000 (+1.0000)", "2.0000 (+1.0000)"]


def test_no_shared_preference_is_said(pair, tmp_path):
    other = save(tmp_path / "other.json", [[1, 1]], [[0.3, 0.7]])
    assert "No preference is in all fronts, so no values stand side by side." in comparison_text(
        compare([pair[0], other])
    )


def test_settings_that_differ_and_nothing_else(tmp_path):
    training = TrainingSettings(steps=7, mixed_precision="bf16")
    evaluation = EvaluationSettings(prompts=("a long prompt " * 9,))
    one = write_run(tmp_path / "one", evaluation=EvaluationSettings())
    two = write_run(tmp_path / "two", training=training, evaluation=evaluation)
    section = comparison_text(compare([one, two])).split("\n\n")[-1]
    assert stripped(cells(section, "training.steps")) == ["training.steps", "1000", "7"]
    assert stripped(cells(section, "training.mixed_precision")) == ["training.mixed_precision", "null", "bf16"]
    # A long value stands below, whole.
    assert section.endswith(f"evaluation.prompts:\n  one: []\n  two: {json.dumps(['a long prompt ' * 9])}")
    assert sum(line.strip().startswith(("training.", "evaluation.", "data.")) for line in section.splitlines()) == 3
    same = [write_run(tmp_path / name) for name in ("a", "b")]
    assert comparison_text(compare(same)).endswith("\n\nThe recipes do not differ.")


def test_a_missing_recipe_is_said(pair, tmp_path):
    assert comparison_text(compare(pair)).endswith("No recipe is recorded of one.json, two.json.")
    paths = [write_run(tmp_path / "a"), write_run(tmp_path / "b", seed=1), tmp_path / "c.json"]
    front_of(2).save(paths[2])
    section = comparison_text(compare(paths)).split("\n\n")[-1]
    assert section.startswith("No recipe is recorded of c.json.\nSettings that differ\n")
    assert stripped(cells(section, "seed")) == ["seed", "0", "1"]


def test_a_setting_that_only_one_records_is_empty_in_the_other(tmp_path):
    front = front_of(2)
    for name, recipe in (("a", {"seed": 1, "name": "[bold]x"}), ("b", {"seed": 1})):
        front.metadata["recipe"] = recipe
        front.save(tmp_path / f"{name}.json")
    section = comparison_text(compare([tmp_path / "a.json", tmp_path / "b.json"])).split("\n\n")[-1]
    # What rich would read as markup is a text.
    assert stripped(cells(section, "name")) == ["name", "[bold]x", "–"]
    assert "seed" not in section


def test_what_a_terminal_would_obey_is_written_out(tmp_path):
    front = front_of(2)
    for name in ("a\x1b[31m", "b\n"):
        front.metadata["recipe"] = {"model": {"name": f"{name}\x07"}}
        front.save(tmp_path / name / "front.json")
    text = comparison_text(compare([tmp_path / "a\x1b[31m", tmp_path / "b\n"]))
    assert all(character.isprintable() for character in text.replace("\n", ""))
    assert r"a\x1b[31m" in text


def test_approximate_hypervolumes_are_marked(tmp_path):
    import numpy as np

    names = tuple("abcdefgh")
    for name in ("one", "two"):
        values = np.random.default_rng(0).random((4, 8))
        save(tmp_path / f"{name}.json", values, np.full((4, 8), 1 / 8), names=names)
    text = comparison_text(compare([tmp_path / "one.json", tmp_path / "two.json"], [2] * 8))
    assert "(2, 2, 2, 2, 2, 2, 2, 2); approximate for one.json, two.json\n" in text


def test_another_convention_is_told(tmp_path):
    paths = [save(tmp_path / f"{name}.json", [[1, 2]] * 3, convention="ray") for name in "ab"]
    assert "RAY: the losses were to lie along λ" in comparison_text(compare(paths, (3, 3)))

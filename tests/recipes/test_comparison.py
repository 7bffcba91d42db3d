"""Comparisons: figures by hand and by fronts themselves, shared preferences, settings that differ, and the files."""

import csv
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from _run_folders import NAMES, front_of, write_run
from matplotlib.image import imread

from mopref import Front
from mopref.recipes import EvaluationSettings, RecipeError, RunFolderError, TrainingSettings, compare, write_comparison
from mopref.scalarizers import PBI, Linear, Tchebycheff

LATTICE = [[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]


def save(path, values, preferences=LATTICE, **options):
    """A front in a file."""
    Front(preferences, values, options.pop("names", ("helpful", "harmless")), **options).save(path)
    return path


@pytest.fixture
def pair(tmp_path):
    """Two fronts whose figures are known by hand, under (4, 4)."""
    metadata = {"reference_point": [4, 4], "hypervolume_interval": [8, 9], "interval_level": 0.9}
    one = save(tmp_path / "one.json", [[0, 3], [1, 1], [3, 3]], metadata=metadata)
    two = save(tmp_path / "two.json", [[0, 3], [2, 2], [3, 0]])
    return [one, two]


def test_figures_by_hand(pair):
    comparison = compare(pair)
    one, two = comparison.figures
    assert comparison.reference_point.tolist() == [4, 4]
    # One: (4·1 + 3·2); two: 4·1 + 2·1 + 1·2.
    assert (one.hypervolume, two.hypervolume) == (10, 8)
    assert (one.hypervolume_interval, two.hypervolume_interval) == ((8, 9), None)
    assert (one.points, one.non_dominated) == (3, 2)
    assert (two.points, two.non_dominated) == (3, 3)
    assert (one.best.tolist(), two.best.tolist()) == ([0, 1], [0, 0])
    # No point of both together dominates (0, 3), which both have, (1, 1) and (3, 0).
    assert (one.share_of_union, two.share_of_union) == pytest.approx((2 / 3, 2 / 3))
    assert (one.coverage, two.coverage) == pytest.approx((2 / 3, 2 / 3))
    assert one.indicators == pytest.approx({"inner_product": -(0 + 1 + 3) / 3})


def test_an_interval_is_shown_under_its_own_reference_point_only(pair):
    assert compare(pair, (4, 4)).figures[0].hypervolume_interval == (8, 9)
    assert compare(pair, (4, 5)).figures[0].hypervolume_interval is None


def test_maximised_values_give_the_same_figures(pair, tmp_path):
    up = [tmp_path / "one-up.json", tmp_path / "two-up.json"]
    for path, down in zip(up, pair, strict=True):
        save(path, -Front.load(down).values, maximize=True)
    for own, expected in zip(compare(up, (-4, -4)).figures, compare(pair, (4, 4)).figures, strict=True):
        assert own.best.tolist() == (-expected.best).tolist()
        same = {"best": expected.best, "hypervolume_interval": expected.hypervolume_interval}
        assert replace(own, **same) == expected


def test_three_runs_have_no_coverage_and_share_their_union(pair, tmp_path):
    third = save(tmp_path / "third.json", [[5, 5], [6, 6], [7, 7]])
    figures = compare([*pair, third]).figures
    assert [own.coverage for own in figures] == [None] * 3
    assert [own.share_of_union for own in figures] == pytest.approx([2 / 3, 2 / 3, 0])
    assert figures[2].hypervolume == 0


def test_regret_is_against_the_best_of_all_runs(pair):
    one, two = compare(pair, scalarizer=Linear()).figures
    # At (1, 0) both have 0; at (.5, .5) the best is 1, where two has 2; at (0, 1) it is 0, where one has 3.
    assert one.indicators["regret_max"] == pytest.approx(3)
    assert two.indicators["regret_max"] == pytest.approx(1)
    assert two.indicators["regret_mean"] == pytest.approx(1 / 3)
    assert "cross_angle" not in one.indicators
    aimed = compare(pair, scalarizer=Tchebycheff(ideal=[-1, -1])).figures[0].indicators
    front = Front.load(pair[0])
    assert aimed["cross_angle"] == pytest.approx(front.cross_angle(Tchebycheff(ideal=[-1, -1])))


def test_values_at_the_preferences_that_all_share(tmp_path):
    one = save(tmp_path / "one.json", [[1, 2], [3, 4], [5, 6]])
    # Another order, one preference that float32 rounded, one that the first has not, and one twice.
    preferences = [[0.0, 1.0], [0.25, 0.75], [0.5 + 3e-7, 0.5 - 3e-7], [0.5, 0.5]]
    two = save(tmp_path / "two.json", [[5.5, 7], [0, 0], [2, 4], [9, 9]], preferences)
    shared = compare([one, two], (9, 9)).shared
    assert [point.preference.tolist() for point in shared] == [[0.5, 0.5], [0, 1]]
    assert [point.values.tolist() for point in shared] == [[[3, 4], [2, 4]], [[5, 6], [5.5, 7]]]
    assert [point.differences.tolist() for point in shared] == [[[0, 0], [-1, 0]], [[0, 0], [0.5, 1]]]
    third = save(tmp_path / "third.json", [[1, 1]], [[0.3, 0.7]])
    assert compare([one, two, third], (9, 9)).shared == ()


def test_a_preference_that_is_there_twice_is_paired_in_order(tmp_path):
    one = save(tmp_path / "one.json", [[1, 2], [3, 4]], [[0.5, 0.5]] * 2)
    two = save(tmp_path / "two.json", [[5, 6], [7, 8]], [[0.5, 0.5]] * 2)
    shared = compare([one, two], (9, 9)).shared
    assert [point.values.tolist() for point in shared] == [[[1, 2], [5, 6]], [[3, 4], [7, 8]]]


def test_only_settings_that_differ_are_told(tmp_path):
    training = TrainingSettings(steps=7, learning_rate=1e-4)
    paths = [write_run(tmp_path / "one"), write_run(tmp_path / "two", training=training, seed=3)]
    assert compare(paths).settings == {
        "training.steps": {"one": 1000, "two": 7},
        "training.learning_rate": {"one": 1e-3, "two": 1e-4},
        "seed": {"one": 0, "two": 3},
    }
    # In three runs the value of each is told, and one that has no recipe is left out.
    front_of(2).save(tmp_path / "plain.json")
    more = [*paths, write_run(tmp_path / "three", seed=3), tmp_path / "plain.json"]
    assert compare(more).settings["seed"] == {"one": 0, "two": 3, "three": 3}
    assert compare([paths[0], tmp_path / "plain.json"]).settings == {}


def test_lists_of_a_recipe_and_of_what_a_front_records_are_the_same(tmp_path):
    """A file of JSON has lists where a recipe has tuples."""
    path = write_run(tmp_path / "one", evaluation=EvaluationSettings(reference_point=(2.0, 2.0), prompts=("a",)))
    front = front_of(2)
    front.metadata["recipe"] = {"evaluation": {"reference_point": [2.0, 2.0], "prompts": ["a"]}, "seed": 1}
    front.save(tmp_path / "two.json")
    settings = compare([path, tmp_path / "two.json"]).settings
    assert settings["seed"] == {"one": 0, "two.json": 1}
    assert not {"evaluation.reference_point", "evaluation.prompts"} & set(settings)
    # What only one of them records is told, too.
    assert settings["model.name"] == {"one": "OWNER/model"}


def test_warnings_are_part_of_it(pair):
    assert compare(pair).warnings[0].startswith("on which records one.json and two.json were measured")


@pytest.mark.parametrize("count", [2, 3])
def test_the_files_hold_all_of_it(count, tmp_path):
    paths = [write_run(tmp_path / "one", count), write_run(tmp_path / "two", count, intervals=False, seed=3)]
    comparison = compare(paths)
    output = tmp_path / "new" / "comparison"
    write_comparison(comparison, output)
    assert sorted(path.name for path in output.iterdir()) == [
        "comparison.csv",
        "comparison.json",
        "comparison.png",
    ]
    assert imread(output / "comparison.png")[..., :3].std() > 0.01
    tree = json.loads((output / "comparison.json").read_text(encoding="utf-8"))
    assert tree["objectives"] == list(NAMES[:count])
    assert tree["reference_point"] == [2] * count
    assert tree["warnings"] == list(comparison.warnings)
    assert tree["settings"] == {"seed": {"one": 0, "two": 3}}
    assert [entry["path"] for entry in tree["runs"]] == [str(path) for path in paths]
    with open(output / "comparison.csv", encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    for line, entry, own in zip(lines, tree["runs"], comparison.figures, strict=True):
        assert line["run"] == entry["name"]
        assert float(line["hypervolume"]) == entry["hypervolume"] == own.hypervolume
        assert entry["hypervolume_interval"] == [0.1, 3.5]
        assert (float(line["hypervolume_low"]), float(line["hypervolume_high"])) == (0.1, 3.5)
        assert float(line["coverage"]) == entry["coverage"] == own.coverage
        assert float(line["best_helpful"]) == entry["best"]["helpful"] == own.best[0]
    front = front_of(count)
    assert len(tree["preferences"]) == len(front)
    first = tree["preferences"][0]
    assert list(first["values"]["two"].values()) == front.values[0].tolist()
    assert first["differences"]["two"] == dict.fromkeys(NAMES[:count], 0)


def test_what_is_not_known_is_empty_and_no_nan(pair, tmp_path):
    write_comparison(compare(pair), tmp_path / "out")
    assert "NaN" not in (tmp_path / "out" / "comparison.json").read_text()
    lines = (tmp_path / "out" / "comparison.csv").read_text().splitlines()
    assert lines[1].startswith("one.json,10.0,8.0,9.0,True,3,2,")
    assert lines[2].startswith("two.json,8.0,,,True,3,3,")


def test_a_folder_that_holds_something_stays_as_it_is(pair, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    with pytest.raises(RecipeError, match=r"which holds files already: choose another folder\.$"):
        write_comparison(compare(pair), tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]


def test_what_has_no_picture_writes_nothing(tmp_path):
    paths = [save(tmp_path / f"{name}.json", [[1.0]], [[1.0]], names=("helpful",)) for name in "ab"]
    comparison = compare(paths, (2,))
    assert comparison.figures[0].hypervolume == 1
    with pytest.raises(ValueError, match="the front has one objective"):
        write_comparison(comparison, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_compared_is_refused(pair):
    with pytest.raises(RunFolderError, match="compare different runs"):
        compare([pair[0], pair[0]])
    with pytest.raises(RunFolderError, match="give one finite number for each"):
        compare(pair, (math.inf, 1))
    with pytest.raises(ValueError, match="convention is 'importance'"):
        compare(pair, scalarizer=PBI(ideal=[0, 0], convention="ray"))


def test_the_fronts_stay_as_they_are(pair):
    before = [path.read_bytes() for path in pair]
    comparison = compare(pair)
    values = [run.front.values.copy() for run in comparison.runs]
    compare(pair, scalarizer=Linear())
    assert [path.read_bytes() for path in pair] == before
    assert all((a == run.front.values).all() for a, run in zip(values, comparison.runs, strict=True))
    assert all(np.isfinite(point.values).all() for point in comparison.shared)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"runs": None}, "runs is None, of type NoneType: give a list"),
        ({"runs": ()}, "there are 0 runs and 2 figures"),
        ({"figures": ()}, "there are 2 runs and 0 figures"),
        ({"figures": (1, 2)}, r"figures\[0\] is 1, of type int: give a RunFigures"),
        ({"reference_point": np.ones(3)}, r"reference_point is of shape \(3,\), but the runs .* ask for \(2,\)"),
        ({"reference_point": [1, 1]}, r"reference_point is \[1, 1\], of type list"),
        ({"warnings": (b"a",)}, r"warnings\[0\] is of type bytes: give a text"),
        ({"warnings": ("\ud800",)}, "what settings, warnings and names hold cannot be written as JSON"),
        ({"settings": {"seed": 0}}, r"settings\['seed'\] is 0, of type int: give a dict"),
        ({"settings": {"seed": {("a", "b"): 0}}}, "cannot be written as JSON"),
    ],
)
def test_a_comparison_of_parts_that_do_not_fit_is_refused(pair, fields, message):
    comparison = compare(pair)
    with pytest.raises((TypeError, ValueError), match=message):
        replace(comparison, **fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hypervolume": "1"}, "hypervolume is '1', of type str: give a number"),
        ({"hypervolume_interval": (1.0,)}, "hypervolume_interval is .*: give its two bounds"),
        ({"indicators": {"regret_mean": None}}, r"indicators\['regret_mean'\] is None"),
        ({"best": np.ones(3)}, r"best is of shape \(3,\)"),
        ({"indicators": {}}, "the figures have other indicators than those of the first run"),
    ],
)
def test_figures_that_are_none_are_refused(pair, fields, message):
    comparison = compare(pair)
    with pytest.raises((TypeError, ValueError), match=message):
        replace(comparison, figures=(comparison.figures[0], replace(comparison.figures[1], **fields)))


@pytest.mark.parametrize("name", ["preference", "values", "differences"])
def test_shared_values_of_another_shape_are_refused(pair, name):
    comparison = compare(pair)
    shared = replace(comparison.shared[0], **{name: np.ones((3, 3))})
    with pytest.raises(ValueError, match=rf"{name} is of shape \(3, 3\), but the runs and their objectives ask for"):
        replace(comparison, shared=(shared,))

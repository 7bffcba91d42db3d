"""Which fronts compare: what is refused, which reference point counts, and what is warned of."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from _run_folders import front_of, write_run

from mopref import Front
from mopref.recipes import DataSettings, EvaluationSettings, ModelSettings, PartSettings, RunFolderError
from mopref.recipes.compared_runs import common_reference_point, comparison_warnings, read_runs

DATA = DataSettings(source="OWNER/pairs")


@pytest.fixture
def pair(tmp_path):
    """Two runs of the same recipe."""
    return [write_run(tmp_path / name) for name in ("one", "two")]


def changed(path, **parts):
    """Write a run's front again with other parts."""
    front = Front.load(path / "front.json")
    kept = {"maximize": front.maximize, "metadata": front.metadata, "convention": front.convention, **parts}
    Front(front.preferences, kept.pop("values", front.values), kept.pop("names", front.names), **kept).save(
        path / "front.json"
    )


def warnings_of(paths, point=(2, 2)):
    return comparison_warnings(read_runs(paths), np.array(point))


def test_what_is_read_of_a_run(pair):
    one, two = read_runs(pair)
    assert (one.name, two.name, one.records) == ("one", "two", "abc")
    assert (one.front.values == front_of(2).values).all()
    assert one.settings["model.name"] == "OWNER/model"
    assert one.settings["training.steps"] == 1000
    # A section without settings is none.
    assert not any(value == {} for value in one.settings.values())


def test_files_and_measurements_of_other_folders_are_read_with_the_recipe_that_they_record(pair, tmp_path):
    front = front_of(2)
    front.metadata["recipe"] = {"seed": 7, "data": {"loader": "records", "options": {}}}
    front.save(tmp_path / "again" / "front.json")
    front_of(2).save(tmp_path / "plain.json")
    _, again, plain = read_runs([pair[0], tmp_path / "again", tmp_path / "plain.json"])
    assert (again.name, again.settings, again.records) == ("again", {"seed": 7, "data.loader": "records"}, None)
    assert (plain.name, plain.settings, plain.records) == ("plain.json", None, None)


def test_names_are_made_unique_by_the_folders_above(tmp_path, monkeypatch):
    for place in ("a/x/run", "b/x/run", "b/other"):
        write_run(tmp_path / place)
    front_of(2).save(tmp_path / "b" / "other.json")
    monkeypatch.chdir(tmp_path / "b" / "x" / "run")
    paths = [tmp_path / "a/x/run", ".", tmp_path / "b/other/front.json", tmp_path / "b/other.json"]
    assert [run.name for run in read_runs(paths)] == ["a/x/run", "b/x/run", "other", "other.json"]


def test_one_run_and_the_same_one_twice_are_refused(pair):
    with pytest.raises(RunFolderError, match="1 run is too few to compare: give the folders"):
        read_runs(pair[:1])
    with pytest.raises(RunFolderError, match=r"front\.json is the same as .+one: compare different runs"):
        read_runs([*pair, pair[0] / ".." / "one" / "front.json"])


def test_what_has_no_front_is_refused(pair, tmp_path):
    (pair[1] / "front.json").unlink()
    (tmp_path / "empty").mkdir()
    (tmp_path / "front.csv").write_text("x")
    (tmp_path / "other.json").write_text("{}")
    for path, problem in (
        (pair[1], r"two has no front: there is no front\.json in it; measure it with `mopref evaluate`\.$"),
        (tmp_path / "empty", r"empty has no front: there is no front\.json in it; give the folder of a run\.$"),
        (tmp_path / "none", r"none is not there: give the folder of a run"),
        (tmp_path / "front.csv", r"front\.csv is no \.json file"),
        (tmp_path / "other.json", r"other\.json is not a front that Front\.save wrote"),
    ):
        with pytest.raises(RunFolderError, match=problem) as refused:
            read_runs([pair[0], path])
        assert "\n" not in str(refused.value)


def test_other_objectives_directions_and_conventions_are_refused(pair, tmp_path):
    front_of(3).save(tmp_path / "three.json")
    front = front_of(2)
    swapped = Front(front.preferences, front.values, front.names[::-1])
    swapped.save(tmp_path / "swapped.json")
    Front(front.preferences, front.values, front.names, (False, True)).save(tmp_path / "up.json")
    Front(front.preferences, front.values, front.names, convention="ray").save(tmp_path / "ray.json")
    for name, problem in (
        ("three", r"the objectives of one are helpful, harmless, and those of three\.json helpful, harmless, brief"),
        ("swapped", r"those of swapped\.json harmless, helpful"),
        ("up", r"harmless is minimised in one, and maximised in up\.json"),
        ("ray", r"the convention of λ is 'importance' in one, and 'ray' in ray\.json"),
    ):
        with pytest.raises(RunFolderError, match=problem):
            read_runs([pair[0], tmp_path / f"{name}.json"])
    # One bool for all is the same as one for each.
    changed(pair[1], maximize=(False, False))
    assert len(read_runs(pair)) == 2


def test_the_reference_point_is_the_runs_own_or_the_one_given(pair):
    runs = read_runs(pair)
    assert common_reference_point(runs).tolist() == [2, 2]
    assert common_reference_point(runs, (1, 3)).tolist() == [1, 3]
    # One that does not record any is measured under that of the other, by whatever form it is recorded in.
    changed(pair[0], metadata={})
    changed(pair[1], metadata={"reference_point": {"harmless": 5, "helpful": 4}})
    assert common_reference_point(read_runs(pair)).tolist() == [4, 5]


def test_no_reference_point_two_of_them_and_none_that_fits_are_refused(pair):
    for given in ((1,), (1, 2, 3), (1, float("nan"))):
        with pytest.raises(RunFolderError, match="the objectives are helpful, harmless: give one finite number for"):
            common_reference_point(read_runs(pair), given)
    changed(pair[1], metadata={"reference_point": [1, 2]})
    with pytest.raises(RunFolderError, match=r"the reference point of one is \(2, 2\), and that of two \(1, 2\)"):
        common_reference_point(read_runs(pair))
    for path in pair:
        changed(path, metadata={})
    with pytest.raises(RunFolderError, match="no front has a reference point"):
        common_reference_point(read_runs(pair))


def test_the_same_data_are_no_reason_to_warn(pair):
    assert warnings_of(pair) == []


def test_other_records_are_warned_of(pair):
    (pair[1] / "versions.json").write_text(json.dumps({"records": "xyz"}))
    (warning,) = warnings_of(pair)
    assert warning == (
        "one and two were measured on different held-out data (they differ in the fingerprint of the records): "
        "figures on other rows do not compare."
    )
    (pair[1] / "versions.json").unlink()
    (warning,) = warnings_of(pair)
    assert warning.startswith("on which records two was measured is not recorded")


@pytest.mark.parametrize(
    ("sections", "reason"),
    [
        ({"seed": 1}, "(they differ in seed)"),
        ({"data": replace(DATA, test_fraction=0.3)}, "(they differ in data.test_fraction)"),
        ({"data": replace(DATA, max_response_length=7)}, "(they differ in data.max_response_length)"),
        ({"data": replace(DATA, on_long_prompt="drop")}, "(they differ in data.on_long_prompt)"),
        ({"data": replace(DATA, test_source="OWNER/test")}, "data.test_source"),
    ],
    ids=["seed", "fraction", "length", "long prompts", "test source"],
)
def test_other_held_out_rows_are_warned_of(pair, tmp_path, sections, reason):
    (warning,) = warnings_of([pair[0], write_run(tmp_path / "third", **sections)])
    assert "one and third were measured on different held-out data" in warning
    assert reason in warning


def test_other_sources_are_warned_of_where_no_fingerprint_tells_them(pair, tmp_path):
    third = write_run(tmp_path / "third", data=replace(DATA, source="OWNER/others"))
    # The same records from another place are the same.
    assert warnings_of([pair[0], third]) == []
    (third / "versions.json").unlink()
    different, unknown = warnings_of([pair[0], third])
    assert "different held-out data (they differ in data.source)" in different
    assert unknown.startswith("on which records third was measured is not recorded")


def test_the_seed_does_not_matter_where_the_held_out_data_are_named(tmp_path):
    data = replace(DATA, test_source="OWNER/test")
    assert warnings_of([write_run(tmp_path / str(seed), seed=seed, data=data) for seed in (0, 1)]) == []


@pytest.mark.parametrize(
    ("one", "other", "reason"),
    [
        (PartSettings("dpo"), PartSettings("simpo"), "objective.name"),
        (PartSettings("dpo", {"beta": 0.1}), PartSettings("dpo", {"beta": 0.5}), "objective.options.beta"),
        (PartSettings("rlhf", {"algorithm": "rloo"}), PartSettings("rlhf", {"algorithm": "grpo"}), None),
        (PartSettings("rlhf"), PartSettings("online-dpo"), None),
        (
            PartSettings("rlhf", {"sampling": {"temperature": 1.0}}),
            PartSettings("rlhf", {"sampling": {"temperature": 0.5}}),
            "objective.options.sampling.temperature",
        ),
    ],
    ids=["loss", "scale", "algorithm", "rewards alike", "sampling"],
)
def test_other_losses_and_rewards_are_warned_of(tmp_path, one, other, reason):
    paths = [write_run(tmp_path / name, objective=part) for name, part in (("a", one), ("b", other))]
    found = warnings_of(paths)
    expected = f"a and b do not measure the same (they differ in {reason}): values of other losses or rewards do not"
    assert [warning.startswith(expected) for warning in found] == ([] if reason is None else [True])


def test_a_pull_to_another_model_is_another_measure(tmp_path):
    """Other rewards do not depend on the base model."""
    for part, expected in ((PartSettings("rlhf"), []), (PartSettings("rlhf", {"pull": "close"}), ["model.name"])):
        names = ("a", "b") if expected else ("c", "d")
        models = (ModelSettings(name="OWNER/one"), ModelSettings(name="OWNER/other"))
        paths = [
            write_run(tmp_path / name, objective=part, model=model) for name, model in zip(names, models, strict=True)
        ]
        told = [warning for warning in warnings_of(paths) if "do not measure the same" in warning]
        assert ["model.name" for warning in told if "(they differ in model.name)" in warning] == expected


def test_what_does_not_touch_the_measure_is_not_warned_of(pair, tmp_path):
    evaluation = EvaluationSettings(prompts=("other",))
    third = write_run(tmp_path / "third", evaluation=evaluation, sampler=PartSettings("vertex-biased"))
    assert warnings_of([pair[0], third]) == []


def test_other_preferences_are_warned_of(pair, tmp_path):
    front = front_of(2)
    rounded = front.preferences[::-1].copy()
    rounded[1] += [4e-7, -4e-7]
    again = Front(rounded, front.values[::-1], front.names)
    again.save(pair[1] / "front.json")
    # The order and what float32 loses do not matter.
    assert warnings_of(pair) == []
    others = [(front.preferences[1:], front.values[1:]), (front.preferences[[0, 0, 1, 2, 3]], front.values)]
    for preferences, values in others:
        for paths in (pair, pair[::-1]):
            Front(preferences, values, front.names).save(pair[1] / "front.json")
            assert "were measured at different preferences" in warnings_of(paths)[0]


def test_points_beyond_the_reference_point_are_warned_of(pair):
    values = np.full((5, 2), 1.0)
    values[1] = [1.0, 2.0]
    changed(pair[1], values=values, maximize=False)
    (warning,) = warnings_of(pair)
    assert warning.startswith("1 of 5 points of two are not better than the reference point in every objective")
    changed(pair[0], values=-values, maximize=True)
    changed(pair[1], values=-values, maximize=True)
    assert len(warnings_of(pair, (-2, -2))) == 2
    assert warnings_of(pair, (-3, -3)) == []


def test_unrecorded_conventions_compare_with_a_warning(pair):
    for path in pair:
        changed(path, convention="unrecorded")
    (warning,) = warnings_of(pair)
    assert "what the preferences say is not recorded" in warning


def test_a_run_of_other_parts_is_refused(pair):
    run = read_runs(pair)[0]
    assert replace(run, path=str(run.path)).path == run.path
    for field, message in (("name", "give a text"), ("front", "give a Front"), ("settings", "give a dict or None")):
        with pytest.raises(TypeError, match=f"{field} is 3, of type int: {message}"):
            replace(run, **{field: 3})


@pytest.mark.parametrize("given", [(1,), (1, 2, 3), (1, math.nan), np.ones((2, 0)), np.ones((2, 2)), [[1], [2]]])
def test_a_reference_point_of_another_shape_is_refused(pair, given):
    with pytest.raises(RunFolderError, match=r"the reference point is .*, but the objectives are .*: give one finite"):
        common_reference_point(read_runs(pair), given)

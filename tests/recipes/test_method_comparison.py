"""A reduced `mopref compare RECIPE`: all methods on a tiny model and 50 rows of PKU-SafeRLHF's shape."""

import csv
import json
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from _tiny_methods import method_tree, save_model_with_digits, write_saferlhf

from mopref._folder_lock import LOCK, only_writer
from mopref.baselines import METHODS
from mopref.llm.evaluation import preference_front
from mopref.recipes import RecipeError, RunFolderError, compare, compare_methods, load_method_recipe, report
from mopref.recipes.run_folder import check_finished, check_new_folder, newest_checkpoint
from mopref.recipes.training import prepare

FEW = ["ours", "rewarded-soup", "mod"]


@pytest.fixture(scope="module")
def load(tmp_path_factory, make_llama):
    """The tiny recipe with some of its sections changed, and a folder for it."""
    folder = tmp_path_factory.mktemp("methods")
    model = save_model_with_digits(folder / "model", make_llama)
    rows = write_saferlhf(folder / "rows.jsonl")

    def load(name, **sections):
        tree = method_tree(model, rows, folder / name)
        for key, section in sections.items():
            tree[key] = {**tree[key], **section} if isinstance(section, dict) else section
        path = folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(tree))
        return load_method_recipe(path)

    load.rows = rows
    return load


@pytest.fixture(scope="module")
def everything(load):
    """All methods, once."""
    started = time.process_time()
    comparison = compare_methods(load("everything"))
    return comparison, json.loads((comparison.folder / "methods.json").read_text()), time.process_time() - started


@pytest.fixture(scope="module")
def few(load):
    """Some methods without sampled answers, uninterrupted."""
    recipe = load("few", comparison={"methods": FEW}, evaluation={"sampled_prompts": 0})
    compare_methods(recipe)
    return recipe


def figures(folder):
    """The figures without what a clock says, or what differs between folders."""
    tree = json.loads((folder / "methods.json").read_text())
    for method in tree["methods"]:
        del method["budget"]["seconds"]
    return tree


def test_every_method_is_there_with_its_figures(everything):
    comparison, tree, _ = everything
    assert [method["method"] for method in tree["methods"]] == list(METHODS)
    assert tree["reference_point"] == {"helpful": 2.0, "harmless": 2.0}
    for method in tree["methods"]:
        (seed,) = method["seeds"]
        assert seed["seed"] == 0
        assert [list(point["preference"].values()) for point in seed["points"]] == [[0, 1], [0.5, 0.5], [1, 0]]
        assert all(np.isfinite(list(point["losses"].values())).all() for point in seed["points"])
        assert {"kl", "sampled_length", "accuracy_helpful"} <= seed["points"][0].keys()
        assert (method["gaps_to_ours"] == {}) == (method["method"] == "ours")
    names = {path.name for path in comparison.folder.iterdir()}
    assert {"methods.json", "methods.csv", "methods.md", "fronts.png", "gaps.png", "recipe.yaml"} <= names


def test_it_takes_less_than_90_seconds(everything):
    """By the processor's clock, which other work on the machine does not move."""
    assert everything[2] < 90


def test_hypervolumes_are_those_of_the_losses_that_are_told(everything):
    """By the area of rectangles under a sorted front."""
    for method in everything[1]["methods"]:
        points = sorted(tuple(point["losses"].values()) for point in method["seeds"][0]["points"])
        area, lowest = 0.0, 2.0
        for first, second in points:
            if second < lowest and first < 2.0:
                area += (2.0 - first) * (lowest - second)
                lowest = second
        assert method["hypervolume"] == pytest.approx(area, abs=1e-9)


def test_ours_is_what_a_run_of_the_recipe_reaches(everything, load):
    """The same rows, sampler and settings through the trainer that `mopref train` has."""
    recipe = load("alone")
    ready = prepare(recipe)
    ready.trainer().train()
    front = preference_front(ready.model, ready.objective, ready.test_rows, ready.parts.preferences)
    points = everything[1]["methods"][0]["seeds"][0]["points"]
    assert np.allclose(front.values, [list(point["losses"].values()) for point in points], atol=1e-5)


def test_corners_are_shared_by_those_that_need_them(everything):
    comparison, tree, _ = everything
    by_name = {method["method"]: method["seeds"][0]["points"] for method in tree["methods"]}
    for place in (0, -1):
        losses = [list(by_name[name][place]["losses"].values()) for name in ("dps", "rewarded-soup", "mod", "modpo")]
        assert np.allclose(losses, losses[0], atol=1e-4)
    runs = sorted(path.name for path in (comparison.folder / "runs" / "seed-0").iterdir())
    # ours, paper, PBLoRA, prompt; 3 of dps, 3 of dps-total, 2 of Bone Soup, 1 of MODPO.
    assert len(runs) == 13
    assert sum(name.startswith("plain") for name in runs) == 8


def test_a_control_has_the_figures_of_ours_at_other_preferences(everything):
    by_name = {method["method"]: method["seeds"][0]["points"] for method in everything[1]["methods"]}
    ours = [point["losses"] for point in by_name["ours"]]
    assert all(point["losses"] == ours[1] for point in by_name["fixed"])
    shuffled = [point["losses"] for point in by_name["shuffled"]]
    assert sorted(map(str, shuffled)) == sorted(map(str, ours))
    assert all(own != other for own, other in zip(ours, shuffled, strict=True))


def test_the_csv_has_a_line_for_each_method_seed_and_preference(everything):
    with (everything[0].folder / "methods.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == len(METHODS) * 3
    assert {"method", "seed", "preference_helpful", "helpful", "reference_point_harmless"} <= lines[0].keys()


def test_an_interrupted_comparison_goes_on_to_the_same_figures(load, few):
    recipe = load("interrupted", comparison={"methods": FEW}, evaluation={"sampled_prompts": 0})

    def stop(line):
        if line.startswith("2 of 3"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare_methods(recipe, tell=stop)
    cells = sorted(path for path in (load.rows.parent / "interrupted" / "cells").iterdir())
    assert [cell.name for cell in cells] == ["ours-seed-0"]
    # What a kill leaves of a cell that was being written.
    leftover = cells[0].with_name(".rewarded-soup-seed-0.0123abcd.unfinished")
    leftover.mkdir()
    before = (cells[0] / "cell.json").stat().st_mtime_ns
    said = []
    compare_methods(recipe, tell=said.append)
    assert not leftover.exists()
    assert (cells[0] / "cell.json").stat().st_mtime_ns == before
    assert sum("of 3:" in line for line in said) == 2
    assert figures(load.rows.parent / "interrupted") == figures(load.rows.parent / "few")


def test_done_again_nothing_is_trained_and_the_figures_stay(few, load, monkeypatch):
    before = figures(load.rows.parent / "few")

    def refuse(*_, **__):
        raise AssertionError("something is trained or computed again")

    monkeypatch.setattr("mopref.recipes.method_comparison.make_method", refuse)
    monkeypatch.setattr("mopref.recipes.training.precomputed", refuse)
    compare_methods(few)
    assert figures(load.rows.parent / "few") == before


def test_a_comparison_and_its_data_may_be_moved(few, load, monkeypatch, tmp_path):
    """As by one who copies kept cells, or has the project in another folder."""
    monkeypatch.setattr("mopref.recipes.method_comparison.make_method", None)
    rows = shutil.copy(load.rows, tmp_path / "copied.jsonl")
    moved = replace(few, data=replace(few.data, source=str(rows)))
    compare_methods(moved)
    shutil.copytree(Path(few.output) / "cells", tmp_path / "elsewhere" / "cells")
    compare_methods(replace(moved, output=str(tmp_path / "elsewhere")))
    assert figures(tmp_path / "elsewhere") == figures(Path(few.output))


def test_ours_alone_leaves_no_picture_of_earlier_gaps(load, few):
    picture = load.rows.parent / "few" / "gaps.png"
    assert picture.is_file()
    compare_methods(load("few", comparison={"methods": ["ours"]}, evaluation={"sampled_prompts": 0}))
    assert not picture.exists()
    compare_methods(few)
    assert picture.is_file()


def test_more_seeds_are_gone_on_to(load, few, monkeypatch):
    titles = []
    monkeypatch.setattr("mopref.plotting.plot_gaps", lambda *arguments: titles.append(arguments[-1]))
    more = load("few", comparison={"methods": FEW, "seeds": [0, 1]}, evaluation={"sampled_prompts": 0})
    said = []
    comparison = compare_methods(more, tell=said.append)
    assert sum(", seed 1 …" in line for line in said) == 3
    assert not any(", seed 0 …" in line for line in said)
    ours = comparison.methods[0]
    assert [seed.seed for seed in ours.seeds] == [0, 1]
    assert not np.allclose(ours.seeds[0].values, ours.seeds[1].values, atol=1e-4)
    compare_methods(few)
    assert titles == ["Means over seeds 0, 1", "Seed 0"]


def test_other_settings_and_other_data_are_refused(load, few, monkeypatch):
    other = load("few", comparison={"methods": FEW}, training={"steps": 4}, evaluation={"sampled_prompts": 0})
    with pytest.raises(RecipeError, match=r"training.steps is 4, and the comparison in .* was begun with 3"):
        compare_methods(other)
    text = load.rows.read_text()
    try:
        load.rows.write_text(text.replace("cat", "dog", 1))
        with pytest.raises(RunFolderError, match="few was made with other data than this"):
            compare_methods(few)
    finally:
        load.rows.write_text(text)


def test_another_model_under_the_same_name_is_refused(load, few, make_llama):
    """Its figures would stand beside those of the first one."""
    weights = load.rows.parent / "model" / "model.safetensors"
    content = weights.read_bytes()
    try:
        weights.write_bytes(content[:-4] + bytes(4))
        more = load("few", comparison={"methods": [*FEW, "fixed"]}, evaluation={"sampled_prompts": 0})
        with pytest.raises(RecipeError, match=r"model.name is .*, which has other weights than when the comparison in"):
            compare_methods(more)
    finally:
        weights.write_bytes(content)
    assert not (load.rows.parent / "few" / "cells" / "fixed-seed-0").exists()
    beginning = load.rows.parent / "few" / "beginning.json"
    whole = beginning.read_text()
    try:
        beginning.write_text(json.dumps({**json.loads(whole), "tokens": "others"}))
        with pytest.raises(RecipeError, match="makes other tokens of the data"):
            compare_methods(few)
        beginning.write_text("[")
        with pytest.raises(RunFolderError, match=r"beginning\.json cannot be read"):
            compare_methods(few)
    finally:
        beginning.write_text(whole)
    compare_methods(few)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (
            {"comparison": {"methods": ["ours", "activation"], "activation_block": 7}},
            r"comparison.activation_block: block is 7, but the model has",
        ),
        (
            {
                "comparison": {"methods": ["ours", "shuffled"]},
                "evaluation": {"points": None, "preferences": [{"helpful": 0.5, "harmless": 0.5}]},
            },
            "comparison.methods hold 'shuffled', and evaluation has a single preference",
        ),
    ],
)
def test_what_only_the_model_tells_is_refused_before_the_first_training(load, sections, message):
    with pytest.raises(RecipeError, match=message):
        compare_methods(load("refused", **sections))
    assert not (load.rows.parent / "refused").exists()


def test_rows_that_do_not_fit_with_the_preference_in_the_prompt_are_refused_first(load, monkeypatch):
    def check(self, lengths, what="row", new_tokens=0):
        if what.startswith("with λ"):
            raise ValueError(f"{what} {len(lengths)} has too many tokens")

    monkeypatch.setattr("mopref.llm.policy.Policy.check_lengths", check)
    with pytest.raises(RecipeError, match=r"comparison.methods.*with λ in its prompt, training row"):
        compare_methods(load("refused", comparison={"methods": ["ours", "prompt"]}))
    assert not (load.rows.parent / "refused").exists()


def test_an_option_of_a_method_may_change_while_it_has_no_figures(load, few):
    more = load("few", comparison={"methods": FEW, "bone_beta": 0.9}, evaluation={"sampled_prompts": 0})
    said = []
    compare_methods(more, tell=said.append)
    assert not any("of 3:" in line for line in said)
    compare_methods(few)


def test_cells_of_another_model_are_refused_wherever_they_come_from(few, tmp_path):
    """As by one who gathers the cells of two machines, of which one has other weights."""
    own = tmp_path / "model"
    shutil.copytree(few.model.name, own)
    moved = replace(few, model=replace(few.model, name=str(own)), output=str(tmp_path / "gathered"))
    shutil.copytree(Path(few.output) / "cells", tmp_path / "gathered" / "cells")
    compare_methods(moved)
    weights = own / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + bytes(4))
    (tmp_path / "gathered" / "beginning.json").unlink()
    with pytest.raises(RunFolderError, match="was made with other settings, other data or another model"):
        compare_methods(moved)
    assert not (tmp_path / "gathered" / "beginning.json").exists()


def test_what_cannot_be_gone_on_with_is_refused_before_anything_is_done(load, monkeypatch):
    """A setting of Bone Soup's own, of which one seed is measured, and another one asked for."""
    sections = {"evaluation": {"sampled_prompts": 0}}
    folder = load.rows.parent / "bones"
    compare_methods(load("bones", comparison={"methods": ["ours", "bone-soup"]}, **sections))
    begun = (folder / "recipe.yaml").read_text()
    monkeypatch.setattr("mopref.recipes.method_comparison.make_method", None)
    other = {"methods": ["ours", "bone-soup"], "bone_beta": 0.6, "seeds": [5, 0]}
    with pytest.raises(RunFolderError, match=r"bone-soup-seed-0 was made .*own settings are comparison.bone_beta"):
        compare_methods(load("bones", comparison=other, **sections))
    assert (folder / "recipe.yaml").read_text() == begun
    cell = folder / "cells" / "ours-seed-0"
    (cell / "cell.json").write_text("{")
    later = {"methods": ["ours", "bone-soup"], "seeds": [5, 0]}
    with pytest.raises(RunFolderError, match=r"ours-seed-0 cannot be read.*delete it"):
        compare_methods(load("bones", comparison=later, **sections))
    assert sorted(path.name for path in (folder / "cells").iterdir()) == ["bone-soup-seed-0", "ours-seed-0"]


def test_one_comparison_at_a_time_is_in_a_folder(load, few):
    with only_writer(Path(few.output)), pytest.raises(BlockingIOError, match="few is being written into by another"):
        compare_methods(few)
    # What a kill leaves of a new one is no obstacle.
    left = load.rows.parent / "left"
    left.mkdir()
    (left / LOCK).touch()
    compare_methods(load("left", comparison={"methods": ["ours"]}, evaluation={"sampled_prompts": 0}))
    assert not (left / LOCK).exists()


@pytest.mark.parametrize(
    ("comparison", "title", "name"),
    [
        ({"methods": ["ours", "rewarded-soup"], "single_learning_rate": 1e20}, "Rewarded Soup", "rewarded-soup"),
        ({"methods": ["ours", "activation"], "activation_strength": 1e39}, "activation addition", "activation"),
    ],
)
def test_a_method_that_diverges_is_named_with_the_way_to_go_on(load, comparison, title, name):
    sections = {"training": {"steps": 1}, "evaluation": {"sampled_prompts": 0}}
    with pytest.raises(FloatingPointError, match=rf"^{title}, seed 0: .*leave '{name}' out of comparison.methods"):
        compare_methods(load(f"diverged-{name}", comparison=comparison, **sections))
    alone = {**comparison, "methods": ["ours"]}
    assert len(compare_methods(load(f"diverged-{name}", comparison=alone, **sections)).methods) == 1


@pytest.mark.parametrize(
    "read", [report, check_finished, newest_checkpoint, lambda folder: compare([folder, folder.parent])]
)
def test_a_comparison_is_no_run(few, read):
    with pytest.raises(RunFolderError, match=r"few holds a comparison of methods, and no run: .*mopref compare RECIPE"):
        read(Path(few.output))
    with pytest.raises(RecipeError, match=r"holds a comparison of methods already: choose another folder\.$"):
        check_new_folder(Path(few.output))


def test_a_folder_with_something_else_is_refused(load):
    folder = load.rows.parent / "taken"
    folder.mkdir()
    (folder / "thesis.txt").write_text("mine")
    with pytest.raises(RecipeError, match="holds files already"):
        compare_methods(load("taken"))
    assert [path.name for path in folder.iterdir()] == ["thesis.txt"]

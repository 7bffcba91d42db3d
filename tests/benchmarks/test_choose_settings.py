"""benchmarks/choose_settings.py measures every training row by a model that did not see its prompt."""

import importlib
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

pytest.importorskip("transformers")

from _tiny_methods import method_tree, save_model_with_digits, write_saferlhf

from mopref.llm.evaluation import prompt_units
from mopref.recipes.method_cells import read_cell
from mopref.recipes.method_plan import fingerprint_of

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("choose_settings")


@pytest.fixture
def words(tmp_path, make_llama):
    """The command's words for a tiny recipe and two candidates."""
    model, rows = save_model_with_digits(tmp_path / "model", make_llama), write_saferlhf(tmp_path / "rows.jsonl")
    recipe, candidates = tmp_path / "recipe.yaml", tmp_path / "candidates.yaml"
    recipe.write_text(yaml.safe_dump(method_tree(model, rows, tmp_path / "unused")))
    soup = {"name": "soup", "method": "rewarded-soup", "settings": {"comparison.single_learning_rate": 0.02}}
    candidates.write_text(yaml.safe_dump([{"name": "as it is"}, soup]))
    return [str(recipe), str(candidates), "--folds", "2", "--output", str(tmp_path / "choice")]


def test_folds_part_prompts_and_not_rows(script):
    units = [(number % 7,) for number in range(40)]
    folds = script.dealt(units, 3, seed=0)
    of_prompt = {}
    for unit, fold in zip(units, folds, strict=True):
        of_prompt.setdefault(unit, set()).add(int(fold))
    assert all(len(own) == 1 for own in of_prompt.values())
    assert sorted(sum(own == {fold} for own in of_prompt.values()) for fold in range(3)) == [2, 2, 3]
    assert folds.tolist() == script.dealt(units, 3, seed=0).tolist() != script.dealt(units, 3, seed=1).tolist()


def test_no_model_sees_a_prompt_that_it_is_measured_on_and_nothing_is_done_twice(script, words, monkeypatch, capsys):
    sides, made = [], script.method_trainings

    def watched(ready, *others):
        sides.append((prompt_units(ready.train_rows), prompt_units(ready.test_rows)))
        return made(ready, *others)

    monkeypatch.setattr(script, "method_trainings", watched)
    script.main(words)
    assert len(sides) == 4
    for trained, measured in sides:
        assert trained
        assert measured
        assert not set(trained) & set(measured)
    # The folds of a candidate are all of its rows.
    assert len(sides[0][1]) + len(sides[1][1]) == len(sides[0][0]) + len(sides[0][1])
    first = capsys.readouterr().out.splitlines()[-4:]
    assert [line.split(" | ")[0] for line in first[2:]] == ["| as it is", "| soup"]

    monkeypatch.setattr(script, "prepare", lambda *_: pytest.fail("what is whole is prepared once more"))
    script.main(words)
    assert capsys.readouterr().out.splitlines()[-4:] == first


def test_the_first_folds_may_be_enough(script, words, monkeypatch, capsys):
    held, measured_on = [], script._of_fold
    monkeypatch.setattr(script, "_of_fold", lambda *given: held.append(int(given[4].sum())) or measured_on(*given))
    rows, figures = [], script.method_figures
    monkeypatch.setattr(script, "method_figures", lambda cells, of: rows.append(len(of.units)) or figures(cells, of))
    script.main([*words, "--measured", "1"])
    assert len(held) == 2
    assert rows == [held[0]] == [held[1]]
    assert "| soup |" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        script.main([*words, "--measured", "3"])


def test_what_is_not_asked_for_is_left_out_of_the_table(script, words, capsys):
    script.main([*words, "--only", "soup"])
    assert "as it is, which gaps are to, is not whole yet." in capsys.readouterr().out
    with pytest.raises(SystemExit):
        script.main([*words, "--only", "no such"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "no list of candidates"),
        ("- {name: a, setings: {}}", "name, method and settings only"),
        ("- {settings: {}}", "name, method and settings only"),
        ("- {name: a/../../x}", "must be a folder's own"),
        ("- {name: a}\n- {name: a}", "stand once"),
    ],
)
def test_candidates_that_cannot_be_are_refused_in_a_sentence(script, tmp_path, capsys, text, message):
    path = tmp_path / "candidates.yaml"
    path.write_text(text)
    with pytest.raises(SystemExit, match="1"):
        script.main([str(tmp_path / "recipe.yaml"), str(path)])
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["demo", "demo_single"])
def test_kept_folds_are_those_of_the_candidates(script, tmp_path, name):
    """The recipe may change afterwards, and the figures of the choice are found still."""
    recipe = BENCHMARKS.parent / "examples" / "recipes" / "compare_demo.yaml"
    found = 0
    for candidate in script.read_candidates(BENCHMARKS / "choices" / f"{name}.yaml"):
        key = fingerprint_of(replace(candidate.recipe(recipe, tmp_path, 100), output=""), "3 folds")
        folder = BENCHMARKS / "results" / "choices" / name / candidate.name
        found += read_cell(folder, "pooled-1", 100, key) is not None
    assert found == len([*(BENCHMARKS / "results" / "choices" / name).glob("*/cells/pooled-1-*")]) >= 4

"""benchmarks/choose_settings.py measures every training row by a model that did not see its prompt."""

import importlib
import shutil
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

pytest.importorskip("transformers")

import _tiny_methods
from _tiny_methods import method_tree, save_model_with_digits, write_saferlhf
from safetensors.torch import save_file

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

    # What is made of whole folds is made again of them alone, in their rows' order.
    pooled = list(Path(words[-1]).glob("*/cells/pooled-*"))
    assert len(pooled) == 2
    for cell in pooled:
        shutil.rmtree(cell)
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
        ('- {name: ".."}', "has the name '..'"),
        ('- {name: ""}', "has the name ''"),
        ("- {name: .}", "has the name '.'"),
        ('- {name: "a\\0b"}', "must be a folder's own"),
        (f"- {{name: {'é' * 200}}}", "must be a folder's own"),
        ("- {name: 3}", "has the name 3"),
        ("- {name: a\n- ]", "cannot be read"),
        ("- {name: a, settings: {[x]: 3}}", "cannot be read"),
        ("- {name: !!int x}", "cannot be read"),
        ("- {name: a, settings: [x]}", "candidate 'a': settings is ['x']"),
        ("- {name: a, settings: x}", "candidate 'a': settings is 'x'"),
        ("- {name: a, settings: }", "candidate 'a': settings is None"),
        ("- {name: a, settings: {3: 4}}", "candidate 'a': settings has the key 3"),
        ("- {name: a, settings: {recipe: other.yaml}}", "candidate 'a', recipe: there is no such setting"),
        ("- {name: a, settings: {output: x}}", "candidate 'a', output is 'x': the command gives it"),
        ("- {name: a, settings: {comparison.seeds: [3]}}", "comparison.seeds is [3]: the command gives it"),
        ("- {name: a, settings: {comparison.methods: [dps]}}", "give the candidate's method"),
        ("- {name: a, method: ourz}", "candidate 'a': method is 'ourz', which is none: did you mean ours?"),
        ("- {name: a, method: [ours]}", "candidate 'a': method is ['ours'], which is none"),
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


def refused(script, words, capsys):
    """What the command says when it refuses, in one line, before anything is trained."""
    with pytest.raises(SystemExit, match="1"):
        script.main(words)
    said = capsys.readouterr()
    assert said.out == ""
    *bars, message = said.err.splitlines()
    # What loads a model shows its progress there.
    assert all("%|" in bar for bar in bars if bar)
    return message


def with_candidates(words, *others):
    """The command's words, with these candidates behind one that has the recipe's settings."""
    Path(words[1]).write_text(yaml.safe_dump([{"name": "as it is"}, *others]))
    return words


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("seed", 7, "seed is 7, and for the first candidate 'as it is', which gaps are to, 0"),
        ("objectives", ["harmless", "helpful"], "objectives is ['harmless', 'helpful'], and"),
        ("data.test_fraction", 0.4, "data.test_fraction is 0.4, and"),
        ("data.max_prompt_length", 8, "data.max_prompt_length is 8, and"),
        ("data.options", {"limit": 20}, "data.options is {'limit': 20}, and"),
        ("model.dtype", "bfloat16", "model.dtype is 'bfloat16', and"),
        ("objective.name", "simpo", "objective.name is 'simpo', and"),
        ("objective.options", {"beta": 1.0}, "objective.options is {'beta': 1.0}, and"),
        ("objective.options.beta", 1.0, "objective.options is {'beta': 1.0}, and"),
        ("evaluation.points", 4, "evaluation.points is 4, and"),
        ("evaluation", {"points": 4}, "evaluation.points is 4, and"),
        ("evaluation.reference_point", [3, 3], "evaluation.reference_point is [3.0, 3.0], and"),
        ("evaluation.interval_level", 0.5, "evaluation.interval_level is 0.5, and"),
        ("trainin.steps", 3, "trainin.steps: there is no such setting; did you mean training"),
        ("trainin", 3, "trainin: there is no such setting; did you mean training"),
        ("training.stepz", 3, "training.stepz: there is no such setting; did you mean training.steps?"),
        ("training.steps", "many", "training.steps is 'many': it must be a whole number"),
        ("evaluation.reference_point", None, "evaluation.reference_point is null"),
    ],
)
def test_candidates_that_do_not_compare_are_refused_before_any_is_trained(script, words, capsys, key, value, told):
    words = with_candidates(words, {"name": "other", "settings": {key: value}})
    message = refused(script, words, capsys)
    assert "candidate 'other', " in message
    assert told in message
    assert not Path(words[-1]).exists()
    # Also where another one is to be done now: the table would have both.
    assert refused(script, [*words, "--only", "as it is"], capsys) == message


@pytest.mark.parametrize(
    "settings",
    [
        {"adapter.rank": 1, "adapter.layers": [0]},
        {"scalarizer.name": "linear", "scalarizer.options": {}},
        {"sampler.name": "vertex-biased"},
        {"training.steps": 2, "training.learning_rate": 0.1},
        {"comparison.single_learning_rate": 0.1, "comparison.bone_beta": 0.5},
        {"evaluation.batch_size": 2, "evaluation.sampled_prompts": 0},
        # The recipe's own, said otherwise.
        {"seed": 0, "evaluation.reference_point": [2.0, 2], "data.on_long_prompt": "error"},
    ],
)
def test_what_may_be_chosen_may_differ(script, words, settings):
    words = with_candidates(words, {"name": "other", "settings": settings})
    options = Namespace(recipe=Path(words[0]), candidates=Path(words[1]), output=Path(words[-1]), seed=100)
    assert list(script.agreeing_recipes(script.read_candidates(options.candidates), options)) == ["as it is", "other"]


def test_merge_keys_are_the_settings_of_another_candidate(script, tmp_path):
    path = tmp_path / "candidates.yaml"
    path.write_text(
        "- {name: a, settings: &a {training.steps: 3, seed: 0}}\n- {name: b, settings: {<<: *a, training.steps: 4}}\n"
    )
    assert [own.settings for own in script.read_candidates(path)] == [
        {"training.steps": 3, "seed": 0},
        {"training.steps": 4, "seed": 0},
    ]


def test_a_recipe_that_is_not_there_is_told(script, words, capsys):
    message = refused(script, ["no-such.yaml", *words[1:]], capsys)
    assert "candidate 'as it is', no-such.yaml: there is no such file" in message


def test_data_that_are_not_there_are_told(script, words, capsys):
    recipe = yaml.safe_load(Path(words[0]).read_text())
    Path(words[0]).write_text(yaml.safe_dump({**recipe, "data": {**recipe["data"], "source": "no-such.jsonl"}}))
    message = refused(script, words, capsys)
    assert "candidate 'as it is'" in message
    assert "no-such.jsonl" in message
    assert not Path(words[-1]).exists()


def test_adapters_that_the_model_cannot_have_are_refused_before_any_is_trained(script, words, capsys):
    words = with_candidates(words, {"name": "other", "settings": {"adapter.layers": [99]}})
    message = refused(script, words, capsys)
    assert "candidate 'other', adapter: block 99" in message
    assert not Path(words[-1]).exists()


def test_the_method_prompt_is_given_what_writes_into_prompts(script, words, capsys):
    script.main([*with_candidates(words, {"name": "said", "method": "prompt"}), "--measured", "1"])
    assert "| said |" in capsys.readouterr().out


def test_a_tokenizer_that_cannot_write_preferences_is_refused_before_any_is_trained(
    script, words, tmp_path, make_llama, monkeypatch, capsys
):
    monkeypatch.setattr(_tiny_methods, "SIGNS", [sign for sign in _tiny_methods.SIGNS if not sign.isdigit()])
    save_model_with_digits(tmp_path / "model", make_llama)
    message = refused(script, with_candidates(words, {"name": "said", "method": "prompt"}), capsys)
    assert "candidate 'said', comparison.methods: the tokenizer makes the same tokens" in message
    assert not Path(words[-1]).exists()


@pytest.mark.parametrize("kept", ["cells/ours-seed-100/cell.json", "runs/seed-100/ours-0/run.json"])
def test_a_folder_of_other_folds_is_refused_before_any_is_trained(script, words, capsys, kept):
    own = with_candidates(words, {"name": "other", "settings": {"training.steps": 2}})
    path = Path(words[-1]) / "other" / "fold-0" / kept
    path.parent.mkdir(parents=True)
    path.write_text('{"fingerprint": "of 3 folds"}')
    name = "losses" if path.name == "cell.json" else "adapter"
    save_file({}, path.parent / f"{name}.safetensors")
    message = refused(script, own, capsys)
    assert "candidate 'other', with --folds 2: " in message
    assert "was made with other settings, other data" in message
    assert "choose another output" in message
    assert [folder.name for folder in Path(words[-1]).iterdir()] == ["other"]


def test_other_data_or_weights_than_those_of_kept_folds_are_refused(script, words, capsys):
    script.main([*words, "--measured", "1", "--only", "as it is"])
    capsys.readouterr()
    tree = yaml.safe_load(Path(words[0]).read_text())
    rows = Path(tree["data"]["source"])
    whole = rows.read_bytes()
    rows.write_bytes(b"\n".join(reversed(whole.splitlines())))
    for measured in ("1", "2"):
        assert "was made with other data" in refused(script, [*words, "--measured", measured], capsys)
    rows.write_bytes(whole)
    weights = Path(tree["model"]["name"]) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + bytes(4))
    with pytest.raises(SystemExit, match="1"):
        script.main([*words, "--measured", "2"])
    assert "which has other weights" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["demo", "demo_single"])
def test_kept_folds_are_those_of_the_candidates(script, tmp_path, name):
    """The recipe may change afterwards, and the figures of the choice are found still."""
    recipe = BENCHMARKS.parent / "examples" / "recipes" / "compare_demo.yaml"
    found, kept = 0, BENCHMARKS / "results"
    beginnings = {path.read_text() for path in kept.glob(f"c*/{name}/beginning.json")}
    assert beginnings == {(kept / "compare_demo" / "beginning.json").read_text()}
    for candidate in script.read_candidates(BENCHMARKS / "choices" / f"{name}.yaml"):
        key = fingerprint_of(replace(candidate.recipe(recipe, tmp_path, 100), output=""), "3 folds", candidate.method)
        folder = BENCHMARKS / "results" / "choices" / name / candidate.name
        found += read_cell(folder, "pooled-1", 100, key) is not None
    assert found == len([*(BENCHMARKS / "results" / "choices" / name).glob("*/cells/pooled-1-*")]) >= 4

import pytest
import yaml
from _run_folders import front_of, write_run
from _tiny_methods import method_tree, save_model_with_digits, write_saferlhf

from mopref import Front
from mopref.cli import main
from mopref.recipes import compare, comparison_text


@pytest.fixture
def pair(tmp_path):
    return [str(write_run(tmp_path / "one")), str(write_run(tmp_path / "two", seed=1))]


def test_a_comparison_is_printed_and_nothing_is_written(pair, tmp_path, capsys):
    before = sorted(path for path in tmp_path.rglob("*"))
    assert main(["compare", *pair]) == 0
    printed = capsys.readouterr()
    assert printed.out == comparison_text(compare(pair)) + "\n"
    assert printed.out.startswith("WARNING: one and two were measured on different held-out data (they differ in seed)")
    assert printed.err == ""
    assert sorted(path for path in tmp_path.rglob("*")) == before


def test_picture_and_figures_go_into_a_new_folder(pair, tmp_path, capsys):
    output = tmp_path / "comparison"
    assert main(["compare", *pair, "--output", str(output)]) == 0
    assert capsys.readouterr().err == f"Written to {output}.\n"
    names = ["comparison.csv", "comparison.json", "comparison.png"]
    assert sorted(path.name for path in output.iterdir()) == names
    # And never over anything, which is said before the tables.
    assert main(["compare", *pair, "--output", str(output)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.endswith(f"output is {str(output)!r}, which holds files already: choose another folder.\n")


def test_a_trained_run_compares_with_a_measurement_of_its_own(trained, tmp_path, capsys):
    front = Front.load(trained.folder / "front.json")
    front.save(tmp_path / "again" / "front.json")
    assert main(["compare", str(trained.folder), str(tmp_path / "again"), "--output", str(tmp_path / "out")]) == 0
    text = capsys.readouterr().out
    assert "WARNING: on which records again was measured is not recorded" in text
    assert text.count("100%") == 4
    assert "The recipes do not differ." in text


@pytest.mark.parametrize("flags", [["--reference-point", "-1,-2.5"], ["--reference-point=-1,-2.5"]])
@pytest.mark.parametrize("last", [True, False])
def test_a_negative_reference_point_is_no_flag(tmp_path, capsys, flags, last):
    front = front_of(2)
    paths = []
    for name in ("one", "two"):
        front.maximize = True
        front.save(tmp_path / f"{name}.json")
        paths.append(str(tmp_path / f"{name}.json"))
    assert main(["compare", *paths, *flags] if last else ["compare", *flags, *paths]) == 0
    assert "under the reference point (-1, -2.5)" in capsys.readouterr().out


def test_mistakes_are_a_sentence_and_nothing_is_written(pair, tmp_path, capsys):
    output = ["--output", str(tmp_path / "out")]
    front_of(3).save(tmp_path / "three.json")
    for arguments, problem in (
        ([], "required: RUN"),
        (pair[:1], "1 run is too few to compare: give the folders of two or more."),
        ([pair[0], pair[0]], "compare different runs, so name each once."),
        ([pair[0], str(tmp_path / "none")], "none is not there: give the folder of a run"),
        ([pair[0], str(tmp_path / "three.json")], "those of three.json helpful, harmless, brief"),
        ([*pair, "--reference-point", "1"], "give one finite number for each, in this order (--reference-point)."),
        ([*pair, "--reference-point", "1,x"], "--reference-point is '1,x': write a number for each objective"),
        ([*pair, "--reference-point"], "--reference-point has no value"),
        ([*pair, "--colour", "red"], "colour"),
    ):
        assert main(["compare", *output, *arguments]) == 2, arguments
        printed = capsys.readouterr()
        assert printed.out == ""
        (line,) = printed.err.splitlines()
        assert line.startswith("mopref compare: ")
        assert problem in line
        assert not (tmp_path / "out").exists()


def test_the_methods_of_a_recipe_are_compared(tmp_path, make_llama, capsys):
    model = save_model_with_digits(tmp_path / "model", make_llama)
    tree = method_tree(model, write_saferlhf(tmp_path / "rows.jsonl"), tmp_path / "out")
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(tree))
    words = ["--comparison.methods", "[ours, fixed]", "--evaluation.sampled_prompts", "0", "--training.steps", "1"]
    assert main(["compare", str(path), *words]) == 0
    printed = capsys.readouterr()
    assert printed.out.rstrip() == (tmp_path / "out" / "methods.md").read_text().rstrip()
    assert "| ours, fixed λ |" in printed.out
    assert printed.err.endswith(f"Written to {tmp_path / 'out'}.\n")
    assert "2 of 2: ours, fixed λ, seed 0 …" in printed.err


def test_the_help_of_a_recipe_has_its_settings(capsys):
    assert main(["compare", "methods.yaml", "--help"]) == 0
    printed = capsys.readouterr().out
    assert "--comparison.methods" in printed
    assert "--training.steps" in printed


def test_a_wrong_recipe_is_refused_in_a_sentence(tmp_path, capsys):
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({"objectives": ["a", "b"], "comparison": {"methods": ["our"]}}))
    assert main(["compare", str(path)]) == 2
    assert "comparison.methods hold 'our', which is none: did you mean ours?" in capsys.readouterr().err
    assert main(["compare", str(tmp_path / "none.yaml")]) == 2
    assert "there is no such file" in capsys.readouterr().err
    assert main(["train", str(path)]) == 2
    assert "comparison: this section is of methods that `mopref compare` trains" in capsys.readouterr().err

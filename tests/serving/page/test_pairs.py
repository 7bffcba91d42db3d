"""Pairs to ask about: from a file, from a run, and those that can be asked."""

import json
import shutil

import pytest
import yaml

pytest.importorskip("pydantic")

from mopref.personal import pair_margins
from mopref.serving.page.pairs import known_pairs, read_pairs, run_records

NAMES = ("helpful", "harmless")


def lines(path, *records):
    path.write_text("\n".join(each if isinstance(each, str) else json.dumps(each) for each in records))
    return path


def record(n: int, **more):
    return {"prompt": f"w{n}", "response_0": f"w{n + 1} w2", "response_1": f"w{n + 2}", **more}


def test_a_file_needs_no_labels(tmp_path):
    path = lines(tmp_path / "pairs.jsonl", record(1), "", record(2, helpful=1, other="x"))
    first, second = read_pairs(path, NAMES)
    assert first == {**record(1), "helpful": -1, "harmless": -1}
    assert second == {**record(2), "helpful": -1, "harmless": -1}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (["{"], "row 0 of"),
        ([record(1), "[1]"], "row 1 of"),
        ([{"prompt": "a"}], "with prompt, response_0, response_1"),
        ([], "holds no pairs"),
        ([record(1, response_0=" ")], "row 0, column 'response_0'"),
        ([record(1, prompt=7)], "row 0, column 'prompt'"),
        (["[" * 100_000], "row 0 of"),
    ],
)
def test_a_file_that_holds_none_is_refused(tmp_path, content, words):
    with pytest.raises(ValueError, match="") as caught:
        read_pairs(lines(tmp_path / "pairs.jsonl", *content), NAMES)
    assert words in str(caught.value)


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="give the path of pairs"):
        read_pairs(tmp_path / "none", NAMES)


def test_a_run_has_its_own_with_those_held_out_first(trained):
    found = run_records(trained.folder)
    assert found.problem is None
    assert found.beta == 0.1
    held_out = {row["prompt"] for row in trained.test_prompts}
    assert found.records[0]["prompt"] in held_out
    assert len(found.records) == 40


def test_an_adapter_has_none(trained):
    found = run_records(trained.folder / "adapter")
    assert not found.records
    assert "--pairs FILE" in found.problem


def test_a_run_whose_records_are_gone_says_so(trained, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(trained.folder, folder)
    recipe = yaml.safe_load((folder / "recipe.yaml").read_text())
    recipe["data"]["source"] = str(tmp_path / "gone.jsonl")
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    found = run_records(folder)
    assert not found.records
    assert "has no pairs of this run" in found.problem


def test_pairs_have_the_margins_of_their_tokens(model, tokenizer):
    from mopref.llm.data import tokenize_records

    records = [record(n, helpful=-1, harmless=-1) for n in (1, 5, 9)]
    found = known_pairs(model, tokenizer, records, 0.2)
    direct = pair_margins(model, tokenize_records(tokenizer, records, NAMES), beta=0.2)
    assert (found.margins.values - direct.values).abs().max() < 1e-6
    assert found.shown[0].responses == ("w2 w2", "w3")


def test_what_cannot_be_asked_is_left_out(model, tokenizer):
    label = {"helpful": -1, "harmless": -1}
    long = {**record(1, **label), "prompt": "w1 " * 400}
    alike = {**record(2, **label), "response_1": "w3 w2"}
    good = record(3, **label)
    found = known_pairs(model, tokenizer, [long, alike, good, good, record(4, **label)], 0.1, most=2)
    assert [pair.prompt for pair in found.shown] == ["w3", "w4"]
    assert known_pairs(model, tokenizer, [long, alike], 0.1) is None

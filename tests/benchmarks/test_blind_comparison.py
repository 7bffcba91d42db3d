"""benchmarks/blind_comparison.py hides which answer is whose, and finds it again."""

import importlib
import json
from math import comb
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
FIRST = {f"request {number}": f"good {number}" for number in range(40)}
SECOND = {f"request {number}": f"bad {number}" for number in range(40)}


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("blind_comparison")


def judged(items, judge):
    return {str(item["number"]): judge(item) for item in items}


def test_a_judge_who_reads_finds_the_better_one_in_both_orders(script, tmp_path, capsys):
    for name, answers in (("first", FIRST), ("second", SECOND)):
        script.write(tmp_path / f"{name}.json", answers)
    files = [str(tmp_path / f"{name}.json") for name in ("first", "second")]
    script.main(["pair", *files, "--output", str(tmp_path / "blind")])
    assert sorted(path.name for path in (tmp_path / "blind").iterdir()) == ["order_1.json", "order_2.json"]
    for order in (1, 2):
        items = json.loads((tmp_path / "blind" / f"order_{order}.json").read_text())
        assert sorted(item["number"] for item in items) == list(range(40))
        verdicts = judged(items, lambda item: "A" if item["A"].startswith("good") else "B")
        assert 8 < sum(verdict == "A" for verdict in verdicts.values()) < 32, "the side must say nothing"
        script.write(tmp_path / "blind" / f"order_{order}_verdicts.json", verdicts)
    script.main(["tally", str(tmp_path / "blind")])
    told = capsys.readouterr().out
    assert told.startswith("first better: 40, second better: 0, undecided: 0;")
    assert told.endswith("both orders say the same of 40\n")


def test_nothing_is_written_over_and_mistakes_are_told_in_a_sentence(script, tmp_path, capsys):
    for name, answers in (("first", FIRST), ("second", SECOND)):
        script.write(tmp_path / f"{name}.json", answers)
    first, second, folder = (str(tmp_path / name) for name in ("first.json", "second.json", "blind"))
    script.main(["pair", first, second, "--output", folder])
    for words, message in (
        (["pair", first, second, "--seed", "5", "--output", folder], "is there already"),
        (["pair", first, first, "--output", str(tmp_path / "other")], "the same answers"),
        (["tally", folder], "order_1_verdicts.json"),
        (["answers", "no.yaml", "--output", first], "is there already"),
        (["answers", "no.yaml", first, "--output", str(tmp_path / "new.json")], "at a --preference"),
        (["answers", str(tmp_path / "no.yaml"), "--output", str(tmp_path / "new.json")], "no.yaml"),
    ):
        with pytest.raises(SystemExit, match="1"):
            script.main(words)
        assert message in capsys.readouterr().err
    assert not (tmp_path / "other").exists()
    with pytest.raises(ValueError, match="was not asked for"):
        script.counted({"0": "first"}, {"0": "A", "999": "A"}, {"0": "A"})


def test_a_judge_who_always_takes_one_side_decides_nothing(script):
    parts = script.paired(FIRST, SECOND, seed=3)
    verdicts = [judged(parts[f"order_{order}"], lambda _: "A") for order in (1, 2)]
    assert script.counted(parts["key"], *verdicts) == (0, 0, 40, 0)


def test_a_tie_in_one_order_leaves_it_to_the_other(script):
    key = {"0": "second"}
    assert script.counted(key, {"0": "A"}, {"0": "tie"}) == (0, 1, 0, 0)
    assert script.counted(key, {"0": "tie"}, {"0": "A"}) == (1, 0, 0, 0)
    with pytest.raises(ValueError, match="verdict on 0 is None"):
        script.counted(key, {}, {"0": "A"})


def test_other_requests_do_not_pair(script):
    with pytest.raises(ValueError, match="different requests"):
        script.paired(FIRST, {"another": "answer"}, seed=0)


@pytest.mark.parametrize(("first", "second"), [(0, 0), (0, 1), (20, 20), (23, 15), (5, 30)])
def test_the_sign_test_sums_the_tails_of_fair_coins(script, first, second):
    count = first + second
    tail = sum(comb(count, more) for more in range(max(first, second), count + 1))
    assert script.sign_test(first, second) == pytest.approx(min(1.0, 2 * tail / 2**count))

"""benchmarks/bad_input runs over every public name, and counts what goes wrong."""

import json
import random
import warnings
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

pytest.importorskip("transformers")

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def bad_input(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(REPOSITORY))
    monkeypatch.setenv("MOPREF_CACHE", str(tmp_path))
    for name in ("HF_HUB_OFFLINE", "PIP_NO_INDEX", "MPLBACKEND", "TOKENIZERS_PARALLELISM"):
        monkeypatch.setenv(name, {"MPLBACKEND": "Agg", "TOKENIZERS_PARALLELISM": "false"}.get(name, "1"))
    threads = torch.get_num_threads()
    from benchmarks.bad_input import covered
    from benchmarks.bad_input.outcomes import judge as judging

    yield judging, covered
    torch.set_num_threads(threads)


def _target(call, **options):
    from benchmarks.bad_input.target import Target

    return Target("planted", "planted", call, lambda: {"value": [1.0]}, **options)


def _counts(target, cases=60, limit=1.0):
    from benchmarks.bad_input.worker import run_target

    return run_target(target, cases, seed=0, limit=limit)


def _key_error(value):
    return {}["missing"]


def _built_in_error(value):
    from mopref.setting_types import python_values

    return python_values(value, float, "value") + 1


def _own_refusal(value):
    from mopref.setting_types import checked_count

    return checked_count("x", "value")


def _half_written(value):
    Path("half").write_text("half")
    return _own_refusal(value)


def _endless(value):
    while True:
        pass


def _killed(value):
    import os
    import signal

    os.kill(os.getpid(), signal.SIGSEGV)


def _nonsense(result, arguments):
    from benchmarks.bad_input.outcomes import Nonsense

    raise Nonsense("planted")


@pytest.mark.parametrize(
    ("call", "options", "outcome", "cases"),
    [
        (_key_error, {}, "foreign", 20),
        (_own_refusal, {}, "refused", 20),
        (_half_written, {"writes": True}, "half-written", 20),
        (_endless, {}, "hang", 2),
        (_killed, {}, "crash", 2),
        (lambda value: None, {"check": _nonsense}, "nonsense", 20),
        (lambda value: None, {}, "taken", 20),
    ],
)
def test_a_planted_function_is_counted_as_what_it_does(bad_input, call, options, outcome, cases):
    tally = _counts(_target(call, **options), cases, 0.2)
    assert set(tally.counts) == {outcome}
    assert tally.counts[outcome] >= min(cases, 2)


def test_an_error_of_a_built_in_function_in_a_line_of_ours_is_foreign(bad_input):
    judging, _ = bad_input
    verdict = judging(lambda: torch.zeros(2) + _built_in_error([1.0]))
    assert verdict.outcome == "foreign"


def test_every_public_name_is_covered(bad_input):
    _, covered = bad_input
    from benchmarks.bad_input.run import all_targets

    targets = all_targets()
    names = covered.public_names(REPOSITORY)
    assert len(names) > 200
    assert covered.uncovered(names, targets) == []
    assert covered.uncovered([*names, "mopref.made_up"], targets) == ["mopref.made_up"]
    # An excuse for a name that is gone is none.
    assert covered.NOT_CALLED.keys() <= set(names)


def test_right_calls_and_right_files_are_taken(bad_input, tmp_path, monkeypatch):
    judging, _ = bad_input
    from benchmarks.bad_input.targets.files import FORMATS, read_spoilt

    for form in FORMATS:
        folder = tmp_path / form.name.replace(" ", "_")
        folder.mkdir()
        monkeypatch.chdir(folder)
        verdict = judging(lambda form=form: read_spoilt(form, form.files()))
        assert verdict.outcome == "taken", f"{form.name}: {verdict.detail}"


def test_the_right_call_of_every_target_is_taken(bad_input, tmp_path, monkeypatch):
    from benchmarks.bad_input.run import all_targets

    targets = [target for target in all_targets() if target.strategy is None]
    assert len(targets) > 200
    monkeypatch.chdir(tmp_path)
    # A plot's or a progress bar's first use warns in some versions.
    with warnings.catch_warnings(action="ignore"):
        refusals = _refusals(targets, tmp_path)
    expected = {target.name for target in targets if target.refused_alone}
    assert refusals.keys() == expected, "\n".join(refusals.values())
    assert len(expected) <= 3


def _refusals(targets, folder):
    """What is said of right calls that are not taken, by the target's name."""
    from benchmarks.bad_input.worker import judged

    verdicts = {(place, t.name): judged(t, dict(t.arguments()), folder, 60) for place, t in enumerate(targets)}
    return {name: f"{name}: {verdict}" for (_, name), verdict in verdicts.items() if verdict.outcome != "taken"}


def test_a_right_call_that_is_refused_is_seen(bad_input, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    right, wrong = _target(lambda value: None), replace(_target(_own_refusal), name="wrong")
    assert _refusals([right, wrong], tmp_path).keys() == {"wrong"}


def test_what_a_target_stages_is_there_for_each_case_and_gone_after_it(bad_input, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    target = _target(lambda value: Path("staged").read_text(), stage=lambda folder: (folder / "staged").write_text("a"))
    assert _refusals([target, target], tmp_path) == {}
    assert list(tmp_path.iterdir()) == []
    # What was staged is no half-written output, what is written over it is.
    spoils = _target(_spoils_what_is_staged, stage=target.stage, writes=True)
    assert "half-written" in _refusals([spoils], tmp_path)["planted"]
    refuses = _target(_own_refusal, stage=target.stage, writes=True)
    assert "outcome='refused'" in _refusals([refuses], tmp_path)["planted"]


def _spoils_what_is_staged(value):
    Path("staged").write_text("other")
    return _own_refusal(value)


def test_a_planted_crash_says_nothing(bad_input, capfd):
    assert _counts(_target(_killed), 2).counts["crash"] == 2
    assert "Fatal Python error" not in capfd.readouterr().err


def test_spoilt_bytes_are_the_same_for_a_seed_and_others_for_another():
    from benchmarks.bad_input.spoilt_bytes import spoil, spoil_folder

    right = json.dumps({"names": ["a", "b"], "values": [[0.0, 1.0]]}).encode()
    files = {"one.json": right, "two": b"\x00" * 20}
    assert spoil_folder(files, 3) == spoil_folder(files, 3)
    spoilt = {spoil(right, random.Random(seed)) for seed in range(200)}
    assert len(spoilt) > 100


# A few whose cases are quick, of different groups.
QUICK = (
    "mopref.preferences.validate_preferences",
    "mopref.samplers.DirichletSampler",
    "mopref.scalarizers.Tchebycheff",
    "mopref.scalarizers.Normalized",
    "mopref.indicators.hypervolume",
    "mopref.llm.data.validate_records",
    "files: front.json",
    "files: records.jsonl",
    "files: recipe.yaml",
)


def test_two_thousand_cases_end_as_cases_may(bad_input):
    from benchmarks.bad_input.outcomes import BAD
    from benchmarks.bad_input.run import all_targets
    from benchmarks.bad_input.table import failures_text
    from benchmarks.bad_input.worker import run_target

    counts: Counter[str] = Counter()
    examples = []
    targets = [target for target in all_targets() if target.name in QUICK]
    assert len({target.name for target in targets}) == len(QUICK)
    for place, target in enumerate(targets):
        tally = run_target(target, 160, seed=place, limit=10.0)
        counts += tally.counts
        examples += tally.examples.values()
    bad = [example for example in examples if example["outcome"] in BAD]
    assert not bad, failures_text(bad)
    assert counts["taken"] > 100
    assert counts["refused"] > 1000

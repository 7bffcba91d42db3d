"""Evaluations while a run trains: their file, the best adapter, the end in time, a resumed run, and what is refused."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from mopref import Front, ParetoTrainer
from mopref.llm.policy import Policy
from mopref.recipes import RecipeError, RunFolderError, evaluate, open_run, train
from mopref.recipes.monitoring import Monitoring, read_evaluations

FEW = {"steps": 6, "checkpoint_every": 4, "log_every": 2}


def without_seconds(records):
    return [{key: value for key, value in record.items() if key != "seconds"} for record in records]


def scripted(monkeypatch, volumes):
    """Each evaluation's hypervolume as a list says."""
    left = iter(volumes)
    monkeypatch.setattr(Monitoring, "_hypervolume", lambda self, front: next(left))


def test_every_evaluation_is_a_line_and_the_training_is_the_same(load, tmp_path):
    settings = {"evaluation_every": 2, "sampled_prompts": 2, "answers": True}
    watched = train(load(training=FEW, monitoring=settings, output=str(tmp_path / "watched")))
    plain = train(load(training=FEW, output=str(tmp_path / "plain")))
    assert watched.history == plain.history
    adapters = [load_file(run.folder / "adapter" / "adapter_model.safetensors") for run in (watched, plain)]
    assert all(torch.equal(adapters[0][name], adapters[1][name]) for name in adapters[1])
    records = read_evaluations(watched.folder / "evaluations.jsonl")
    assert [record["step"] for record in records] == [0, 2, 4, 6]
    assert not (plain.folder / "evaluations.jsonl").exists()
    first = records[0]
    assert [point["preference"]["helpful"] for point in first["points"]] == [1.0, 0.0, 0.5]
    assert all(point["loss/helpful"] == pytest.approx(0.6931, abs=1e-3) for point in first["points"])
    assert all(point["margin/harmless"] == pytest.approx(0.0, abs=1e-5) for point in first["points"])
    assert all(abs(point["kl"]) < 1e-4 for point in first["points"])
    assert records[-1]["points"][0]["accuracy/helpful"] != first["points"][0]["accuracy/helpful"]
    assert records[-1]["hypervolume"] > first["hypervolume"] > 0
    assert [answer["prompt"] for answer in first["answers"]] == ["red cat", "blue dog"] * 3
    # The last evaluation is of the model that the front is of.
    front = evaluate(watched)
    corners = {tuple(point["preference"].values()): point for point in records[-1]["points"]}
    for weights, values in zip(front.preferences.tolist(), front.values.tolist(), strict=True):
        assert [corners[tuple(weights)][f"loss/{name}"] for name in front.names] == pytest.approx(values, abs=1e-6)


def test_the_best_adapter_is_kept(load, monkeypatch, tmp_path):
    scripted(monkeypatch, [0.1, 0.4, 0.3, 0.2])
    told = []
    settings = {"evaluation_every": 2, "keep_best": True}
    run = train(load(training=FEW, monitoring=settings), tell=told.append)
    assert any("largest at step 2 (0.4000): its adapter is kept" in line for line in told)
    assert run.step == 2
    short = train(load(training={**FEW, "steps": 2, "lr_schedule": "constant"}, output=str(tmp_path / "short")))
    kept, best, other = (
        load_file(folder / "adapter_model.safetensors")
        for folder in (run.folder / "adapter", run.folder / "best", short.folder / "adapter")
    )
    assert all(torch.equal(kept[name], best[name]) for name in kept)
    # After two steps that schedule is the longer one's.
    assert all(torch.equal(kept[name], other[name]) for name in kept)
    front = evaluate(run)
    assert front.metadata["step"] == 2
    again = evaluate(open_run(run.folder, with_data=True), folder=tmp_path / "again")
    assert (again.values == front.values).all()


def test_patience_ends_the_training(load, monkeypatch):
    scripted(monkeypatch, [0.1, 0.4, 0.3, 0.3, 0.9, 0.9])
    run = train(load(training=FEW, monitoring={"evaluation_every": 1, "patience": 2}))
    assert run.step == 3
    assert [record["step"] for record in read_evaluations(run.folder / "evaluations.jsonl")] == [0, 1, 2, 3]


def test_a_resumed_run_has_the_evaluations_of_the_whole_one(load, monkeypatch, tmp_path):
    settings = {"evaluation_every": 2, "keep_best": True, "sampled_prompts": 1}
    whole = train(load(training=FEW, monitoring=settings, output=str(tmp_path / "whole")))
    save = ParetoTrainer.save_checkpoint

    def save_and_stop(trainer, folder):
        save(trainer, folder)
        raise KeyboardInterrupt

    recipe = load(training=FEW, monitoring=settings, output=str(tmp_path / "broken"))
    monkeypatch.setattr(ParetoTrainer, "save_checkpoint", save_and_stop)
    with pytest.raises(KeyboardInterrupt):
        train(recipe)
    monkeypatch.undo()
    with (tmp_path / "broken" / "evaluations.jsonl").open("a") as file:
        file.write('{"step": 5, "hypervolume": 9.0, "points": []}\n{"step": 6, "hyp')
    resumed = train(recipe, resume=True)
    files = [read_evaluations(run.folder / "evaluations.jsonl") for run in (resumed, whole)]
    assert without_seconds(files[0]) == without_seconds(files[1])
    assert resumed.step == whole.step


def test_a_part_of_the_rows_is_taken_evenly(load, monkeypatch):
    seen = []
    measure = Monitoring.measure

    def spy(self, trainer):
        seen.append((self.rows, self.prompts))
        return measure(self, trainer)

    monkeypatch.setattr(Monitoring, "measure", spy)
    run = train(load(training={**FEW, "steps": 1}, monitoring={"evaluation_every": 1, "rows": 5, "sampled_prompts": 2}))
    count = len(run.test_rows)
    assert seen[0][0] == [run.test_rows[place * count // 5] for place in range(5)]
    assert seen[0][1] == [run.test_prompts[0], run.test_prompts[len(run.test_prompts) // 2]]


@pytest.mark.parametrize(
    ("monitoring", "evaluation", "message"),
    [
        ({"evaluation_every": 0}, {}, r"monitoring\.evaluation_every is 0"),
        ({"patience": 2}, {}, r"monitoring\.patience is 2: nothing is evaluated while"),
        ({"answers": True}, {}, r"monitoring\.answers is True: nothing is evaluated while"),
        ({"evaluation_every": 2, "answers": True}, {"prompts": []}, r"monitoring\.answers is True: the answers are to"),
        (
            {"evaluation_every": 2, "keep_best": True},
            {"reference_point": None},
            r"monitoring\.keep_best is True: the best",
        ),
        ({"evaluation_every": 2, "patience": 1}, {"reference_point": None}, r"monitoring\.patience is 1: the best"),
        ({"evaluation_every": 2, "rows": 0}, {}, r"monitoring\.rows is 0"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(load, monitoring, evaluation, message, tmp_path):
    with pytest.raises(RecipeError, match=message):
        train(load(monitoring=monitoring, evaluation=evaluation))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("line", ["[]\n", "{\n", '{"step": 1}\n'])
def test_a_damaged_file_is_told(line, tmp_path):
    path = tmp_path / "evaluations.jsonl"
    path.write_text('{"step": 0, "hypervolume": null, "points": []}\n' + line)
    with pytest.raises(RunFolderError, match="line 2 cannot be read"):
        read_evaluations(path)
    path.write_text(path.read_text().removesuffix("\n"))
    assert len(read_evaluations(path)) == 1
    json.loads(path.read_text().splitlines()[0])


def test_judges_compare_with_the_base_model(load, tmp_path):
    judges = {"helpful": {"name": "conciseness", "options": {"target_length": 3}}}
    run = train(load(training={**FEW, "steps": 2}, evaluation={"judges": judges, "sampled_prompts": 4, "prompts": []}))
    front = evaluate(run)
    rates = front.extra["win_rate_helpful"]
    assert ((rates >= 0) & (rates <= 1)).all()
    assert "win_rate_helpful" in front.intervals
    assert "win_rate_harmless" not in front.extra
    # Every answer beats the base's, or none does.
    for expected, offset in ((1.0, 1.0), (0.0, -1.0)):
        calls = []

        def judge(prompts, first, second, offset=offset, calls=calls):
            calls.append(len(prompts))
            # The first call of a point shows its own answers first.
            return [float((len(calls) % 2 == 1) == (offset > 0))] * len(prompts)

        other = evaluate(replace(run, judges={"harmless": judge}), folder=tmp_path / f"{offset}")
        different = other.extra["win_rate_harmless"]
        assert all(rate == 0.5 or (rate > 0.5) == (expected > 0.5) for rate in different)
        assert calls


@pytest.mark.parametrize(
    ("judges", "message"),
    [
        ({"brief": "conciseness"}, r"evaluation\.judges\.brief: there is no such objective"),
        ({"helpful": "concisenes"}, r"evaluation\.judges\.helpful\.name is 'concisenes'.+did you mean"),
        ({"helpful": {"name": "conciseness", "options": {"sise": 3}}}, r"evaluation\.judges\.helpful\.options\.sise"),
    ],
)
def test_judges_that_are_none_are_refused(load, judges, message):
    with pytest.raises(RecipeError, match=message):
        train(load(evaluation={"judges": judges}))


def test_whether_prompts_leave_room_for_an_answer_is_told_before_the_training(load, monkeypatch, tmp_path):
    def check(self, data):
        raise ValueError(f"prompt 0 has no room for {self.sampling.max_new_tokens}")

    monkeypatch.setattr(Policy, "check_prompts", check)
    with pytest.raises(RecipeError, match=r"^evaluation\.max_new_tokens: prompt 0 has no room for 300"):
        train(load(evaluation={"max_new_tokens": 300}))
    assert not (tmp_path / "run").exists()


def test_a_front_without_intervals(load):
    run = train(load(training={**FEW, "steps": 1}, evaluation={"interval_level": None, "sampled_prompts": 0}))
    front = evaluate(run)
    assert not front.intervals
    assert "kl" not in front.extra
    assert not Front.load(run.folder / "front.json").intervals

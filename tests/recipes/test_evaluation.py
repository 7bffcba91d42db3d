import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from mopref import Front
from mopref.recipes import EvaluationSettings, RunFolderError, evaluate, open_run, train
from mopref.recipes.answers import answers_at


def test_a_run_opened_again_has_the_same_front(trained, tmp_path):
    front = evaluate(open_run(trained.folder, with_data=True), folder=tmp_path)
    saved = Front.load(trained.folder / "front.json")
    assert (front.values == saved.values).all()
    assert (tmp_path / "answers.json").read_bytes() == (trained.folder / "answers.json").read_bytes()


def test_another_evaluation_goes_into_another_folder(trained, tmp_path):
    settings = EvaluationSettings(preferences=[{"helpful": 0.25, "harmless": 0.75}], batch_size=3)
    front = evaluate(trained, settings, tmp_path / "other")
    assert front.preferences.tolist() == [[0.25, 0.75]]
    assert "mean_response_length" not in front.extra
    assert not (tmp_path / "other" / "answers.json").exists()
    assert (tmp_path / "other" / "front.png").stat().st_size > 0
    with pytest.raises(RunFolderError, match=r"holds a front already: choose another folder"):
        evaluate(trained, settings, tmp_path / "other")
    evaluate(trained, settings, tmp_path / "other", replace_front=True)


def test_the_front_says_what_it_is_of(trained):
    front = Front.load(trained.folder / "front.json")
    assert front.metadata["seed"] == 0
    assert front.metadata["reference_point"] == [1.0, 1.0]
    assert front.metadata["recipe"]["training"]["steps"] == 6
    assert front.metadata["scalarizer"].startswith("Tchebycheff(")
    assert front.metadata["precision"] == "float32"
    # Without adapters every margin is 0.
    np.testing.assert_allclose(front.metadata["base_losses"], np.log(2), atol=1e-6)


def test_a_run_without_its_data_is_refused(trained, tmp_path):
    with pytest.raises(RunFolderError, match=r"was opened without its data: open it with with_data=True"):
        evaluate(replace(trained, test_rows=[]), folder=tmp_path)
    assert not list(tmp_path.iterdir())


def test_answers_are_by_preference_and_prompt(trained):
    preferences = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    answers = answers_at(trained, ["red cat", "blue dog", "here"], preferences, 3)
    assert [len(of_point) for of_point in answers] == [3, 3]
    alone = answers_at(trained, ["blue dog"], preferences[1:], 3)
    assert alone[0][0] == answers[1][1]


def test_losses_of_styles_are_measured(load, tmp_path):
    rows = [
        {"prompt": f"{place} red {place}", "response": f"{style} {place}", "dimension": name}
        for place in ("here", "there", "now", "then")
        for style, name in (("cat", "helpful"), ("dog", "harmless"))
    ]
    (tmp_path / "styles.jsonl").write_text("\n".join(map(json.dumps, rows)))
    data = {"source": str(tmp_path / "styles.jsonl"), "loader": "responses"}
    run = train(load(data=data, objective="sft", scalarizer={"name": "linear", "options": {}}))
    front = evaluate(run)
    # By hand: a held-out row of each style at the first preference.
    objective, preference = run.objective, torch.tensor(front.preferences[:1], dtype=torch.float32)
    with torch.no_grad():
        expected = objective.mean_losses(run.model.eval(), run.test_rows, preference, 16)
    np.testing.assert_allclose(front.values[:1], expected.numpy(), rtol=1e-5)
    assert front.names == ("helpful", "harmless")


def test_balance_and_strength_are_trained_and_measured(load):
    """The pull to the base model is an objective of the run: of its adapter, its sampler, its front and its page."""
    run = train(
        load(
            objectives=["helpful", "harmless", "close"],
            rewards={
                name: {"name": "conciseness", "options": {"target_length": 2}} for name in ("helpful", "harmless")
            },
            objective={
                "name": "rlhf",
                "options": {"pull": "close", "sampling": {"max_new_tokens": 3}, "samples_per_prompt": 2},
            },
            sampler={"name": "cone", "options": {"weakest": 0.5, "strongest": 2.0}},
            scalarizer={"name": "linear", "options": {}},
            training={"steps": 2, "batch_size": 4, "preferences_per_step": 2, "checkpoint_every": None},
            evaluation={
                "points": None,
                "preferences": [
                    {"helpful": 0.4, "harmless": 0.1, "close": 0.5},
                    {"helpful": 1, "harmless": 0, "close": 0},
                ],
                "reference_point": [-1, -1, -5],
            },
            monitoring={"evaluation_every": 2},
        )
    )
    drawn = [[record[f"preference/{name}"] for name in run.recipe.objectives] for record in run.objective.history]
    assert len(drawn) == 4
    assert all(1 / 3 - 1e-6 <= weights[2] <= 2 / 3 + 1e-6 for weights in drawn), "strengths of ½ to 2"
    front = evaluate(run)
    assert (front.names, front.maximize) == (("helpful", "harmless", "close"), True)
    assert front.values[:, 2].tolist() == (-front.extra["kl"]).tolist()
    assert front.values[0, 2] != 0
    assert front.indicators()["hypervolume"] > 0
    (at_start, *_) = (json.loads(line) for line in (run.folder / "evaluations.jsonl").read_text().splitlines())
    assert at_start["points"][0]["reward/close"] == pytest.approx(0, abs=1e-5)
    opened = open_run(run.folder, with_data=True)
    assert opened.objective.names == opened.model.objectives == front.names
    again = evaluate(opened, folder=run.folder / "again")
    assert (again.values == front.values).all()


def test_rewards_are_measured(load, tmp_path):
    rewards = {
        "helpful": {"name": "conciseness", "options": {"target_length": 2}},
        "harmless": {"name": "conciseness", "options": {"target_length": 4}},
    }
    objective = {"name": "rlhf", "options": {"sampling": {"max_new_tokens": 3}, "samples_per_prompt": 2}}
    training = {"steps": 2, "batch_size": 2, "checkpoint_every": None}
    run = train(
        load(rewards=rewards, objective=objective, training=training, scalarizer={"name": "linear", "options": {}})
    )
    front = evaluate(run)
    assert front.maximize is True
    assert {"kl", "standard_error_helpful", "truncated"} <= front.extra.keys()
    assert json.loads((run.folder / "answers.json").read_text())

"""Held-out figures of a run: the base model's, sampled columns, and what rows are taken."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

from mopref.llm.evaluation import sample_answers, win_rates
from mopref.llm.policy import Sampling
from mopref.recipes import open_run
from mopref.recipes.held_out import base_losses, evenly, held_out_front, sampled_columns

CORNERS = torch.eye(2)


@pytest.fixture(scope="module")
def run(trained):
    return open_run(trained.folder, with_data=True)


@given(st.integers(0, 60), st.one_of(st.none(), st.integers(0, 70)))
def test_rows_are_taken_evenly(rows, count):
    taken = evenly(range(rows), count)
    assert len(taken) == (rows if count is None else min(rows, count))
    assert taken == sorted(set(taken))
    if 1 < len(taken) < rows:
        gaps = np.diff(taken)
        assert gaps.max() - gaps.min() <= 1


def test_the_base_models_losses_are_those_of_no_margin(run):
    assert base_losses(run, run.test_rows, CORNERS) == pytest.approx([math.log(2)] * 2, abs=1e-6)


def test_a_front_holds_what_the_run_is(run):
    front = held_out_front(run, CORNERS, run.test_rows[:6], {"note": ["x", "y"]})
    assert list(front.extra["note"]) == ["x", "y"]
    assert front.metadata["seed"] == run.recipe.seed
    assert front.metadata["interval_level"] == 0.9
    assert front.metadata["reference_point"] == [1.0, 1.0]
    assert front.metadata["step"] == 6
    assert held_out_front(replace(run, step=7), CORNERS, run.test_rows[:6], {}).metadata["step"] == 7


def test_sampled_columns_are_means_over_the_answers(run):
    prompts = run.test_prompts[:3]
    judge = {"helpful": lambda prompts, first, second: [len(a) > len(b) for a, b in zip(first, second, strict=True)]}
    columns = sampled_columns(replace(run, judges=judge), CORNERS, prompts)
    options = {"sampling": Sampling(max_new_tokens=run.recipe.evaluation.max_new_tokens), "seed": run.recipe.seed}
    answers = sample_answers(run.model, run.tokenizer, prompts, CORNERS, **options)
    np.testing.assert_allclose(columns["kl"], answers.kl.mean(dim=1), atol=1e-6)
    np.testing.assert_allclose(columns["sampled_length"], answers.lengths.mean(dim=1))
    base = sample_answers(run.model, run.tokenizer, prompts, None, **options)
    texts = [row["prompt"] for row in prompts]
    rates = [win_rates(judge["helpful"], texts, part, base.texts[0]).mean() for part in answers.texts]
    np.testing.assert_allclose(columns["win_rate_helpful"], rates)
    assert {"kl_low", "kl_high", "win_rate_helpful_low"} <= columns.keys()
    assert "win_rate_helpful" not in sampled_columns(replace(run, judges=judge), CORNERS, prompts, with_judges=False)
    assert sampled_columns(run, CORNERS, []) == {}


def test_prompts_are_there_once(run):
    prompts = [row["prompt"] for row in run.test_prompts]
    assert len(set(prompts)) == len(prompts)
    assert {tuple(row["prompt_ids"]) for row in run.test_rows} == {tuple(row["prompt_ids"]) for row in run.test_prompts}

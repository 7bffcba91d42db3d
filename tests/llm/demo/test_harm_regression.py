import numpy as np
import pytest

from mopref.llm.demo import harm_regression
from mopref.llm.demo.harm_regression import HarmRegression, ScoredRows, deal_to_folds, fit_regression


def test_ridge_is_least_squares_on_extended_rows():
    generator = np.random.default_rng(0)
    features, targets = generator.normal(size=(20, 4)), generator.random(20)
    importance, strength = generator.integers(1, 4, 20), 0.7
    weights, bias = harm_regression._ridge(features, targets, importance, strength)
    # Each row as often as it counts, and a row √strength·e_i with target 0 for each weight; the bias is not penalised.
    rows = np.repeat(np.column_stack([features, np.ones(20)]), importance, axis=0)
    rows = np.vstack([rows, np.sqrt(strength) * np.eye(4, 5)])
    expected = np.linalg.lstsq(rows, np.concatenate([np.repeat(targets, importance), np.zeros(4)]), rcond=None)[0]
    np.testing.assert_allclose([*weights, bias], expected, atol=1e-10)


def test_auc_counts_pairs():
    higher, lower = np.array([0.3, 0.9, 0.5]), np.array([0.5, 0.1, 0.3, 0.3])
    pairs = [1.0 if a > b else 0.5 if a == b else 0.0 for a in higher for b in lower]
    assert harm_regression._auc(higher, lower) == pytest.approx(np.mean(pairs))
    assert harm_regression._auc(higher, lower[:0]) is None


def test_a_prompt_is_in_one_fold():
    prompts = [f"p{i % 23}" for i in range(100)]
    fold = deal_to_folds(prompts, 5, seed=3)
    of_prompt = {prompt: {int(f) for p, f in zip(prompts, fold, strict=True) if p == prompt} for prompt in prompts}
    assert all(len(folds) == 1 for folds in of_prompt.values())
    sizes = np.bincount([min(folds) for folds in of_prompt.values()])
    assert sizes.tolist() == [5, 5, 5, 4, 4]
    assert (fold == deal_to_folds(prompts, 5, seed=3)).all()
    assert (fold != deal_to_folds(prompts, 5, seed=4)).any()


def test_quality_counts_the_rows_and_the_fit_is_the_ridge_of_all():
    generator = np.random.default_rng(1)
    is_benign = np.arange(30) >= 24
    scores = np.where(is_benign, 0.0, generator.random(30))
    prompts = [f"p{i % 8}" for i in range(24)] + [f"benign {i}" for i in range(6)]
    rows = ScoredRows(generator.normal(size=(30, 3)), scores, is_benign, prompts, deal_to_folds(prompts, 5, seed=0))
    fitted = fit_regression(rows, benign_weight=2.0, strength=0.5)
    counts = ("answers", "prompts", "harmful_answers", "benign_answers")
    assert [fitted.quality[name] for name in counts] == [24, 8, int((scores >= 0.5).sum()), 6]
    weights, bias = harm_regression._ridge(rows.features, scores, np.where(is_benign, 2.0, 1.0), 0.5)
    np.testing.assert_array_equal(fitted.predict(rows.features), rows.features @ weights + bias)


def test_predictions_are_not_cut_off():
    regression = HarmRegression(np.array([1.0, -2.0]), 0.5, {})
    np.testing.assert_array_equal(regression.predict(np.array([[1.0, 0.0], [0.0, 1.0]])), [1.5, -1.5])


def test_a_negative_seed_is_refused():
    with pytest.raises(ValueError, match="seed is -1: it must be ≥ 0"):
        deal_to_folds(["a", "b"], 2, seed=-1)

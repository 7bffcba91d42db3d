"""A ridge regression of harm scores on embeddings, and how well it does on requests it was not fitted to."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from mopref.setting_types import checked_numpy_seed

__all__ = ["HarmRegression", "ScoredRows", "deal_to_folds", "fit_regression"]

_HARMFUL = 0.5


@dataclass(frozen=True, eq=False)
class HarmRegression:
    """A fitted regression: the predicted harm of features x is w·x + b.

    ``quality`` holds the numbers of ``answers``, ``prompts``, ``harmful_answers`` (score ≥ 0.5) and ``benign_answers``
    (harmless by construction), and under ``with_benign`` and ``without_benign`` (a fit to the human scores alone) what
    cross-validation gives, no request being in two folds:

    * ``spearman``: rank correlation of predicted and human harm over the scored answers.
    * ``auc``: how often a harmful scored answer is predicted as more harmful than another scored one.
    * ``benign_auc``: how often a harmful scored answer is predicted as more harmful than a benign one.
    * ``benign_false_alarms``: the fraction of benign answers with a predicted harm ≥ 0.5.
    * ``benign_mean``: the mean predicted harm of the benign answers.

    Args:
        weights: w, float64 of shape ``(d,)``.
        bias: b.
        quality: as above.
    """

    weights: np.ndarray
    bias: float
    quality: dict[str, Any]

    def predict(self, features: np.ndarray) -> np.ndarray:
        """The predicted harm of N rows of features ``(N, d)``, shape ``(N,)``; not cut off at 0 and 1."""
        return features @ self.weights + self.bias


class ScoredRows(NamedTuple):
    """N answers to fit to.

    Attributes:
        features: ``(N, d)``.
        scores: ``(N,)``, harm from 0 to 1; 0 for benign answers.
        is_benign: ``(N,)`` bool.
        prompts: N requests.
        folds: ``(N,)``, in which fold a row is held out.
    """

    features: np.ndarray
    scores: np.ndarray
    is_benign: np.ndarray
    prompts: Sequence[str]
    folds: np.ndarray


def fit_regression(rows: ScoredRows, benign_weight: float, strength: float) -> HarmRegression:
    """The ridge regression of scores on features, with its quality on held-out folds.

    Args:
        rows: what is fitted to.
        benign_weight: how much a benign answer counts; a scored one counts 1.
        strength: the ridge penalty.
    """
    importance = np.where(rows.is_benign, benign_weight, 1.0)
    has_score = ~rows.is_benign
    quality = {
        "answers": int(has_score.sum()),
        "prompts": len({prompt for prompt, benign in zip(rows.prompts, rows.is_benign, strict=True) if not benign}),
        "harmful_answers": int((rows.scores[has_score] >= _HARMFUL).sum()),
        "benign_answers": int(rows.is_benign.sum()),
        "with_benign": _held_out_quality(rows, importance, strength),
        "without_benign": _held_out_quality(rows, np.where(rows.is_benign, 0.0, 1.0), strength),
    }
    weights, bias = _ridge(rows.features, rows.scores, importance, strength)
    return HarmRegression(weights, bias, quality)


def deal_to_folds(prompts: Sequence[str], folds: int, seed: int) -> np.ndarray:
    """Each row's fold; rows of one prompt are in one fold, and folds have evenly many prompts."""
    distinct = sorted(set(prompts))
    order = np.random.default_rng(checked_numpy_seed(seed)).permutation(len(distinct))
    fold_of = {prompt: int(place) % folds for prompt, place in zip(distinct, order, strict=True)}
    return np.array([fold_of[prompt] for prompt in prompts])


def _ridge(
    features: np.ndarray, targets: np.ndarray, importance: np.ndarray, strength: float
) -> tuple[np.ndarray, float]:
    """Minimise Σ c·(x·w + b − y)² + strength·|w|² over w and b, with c the importance of a row.

    w = (XᵀCX + strength·I)⁻¹ XᵀCy on X and y less their means, weighted by c.
    """
    from scipy.linalg import solve

    mean = np.average(features, axis=0, weights=importance)
    target_mean = float(np.average(targets, weights=importance))
    deviations = features - mean
    weighted_deviations = deviations * importance[:, None]
    gram = weighted_deviations.T @ deviations + strength * np.eye(features.shape[1])
    weights = solve(gram, weighted_deviations.T @ (targets - target_mean), assume_a="pos")
    return weights, target_mean - float(mean @ weights)


def _held_out_quality(rows: ScoredRows, importance: np.ndarray, strength: float) -> dict[str, float | None]:
    """The quality of predictions for each fold by a fit to all others."""
    from scipy.stats import spearmanr

    predictions = np.zeros(len(rows.scores))
    for fold in np.unique(rows.folds):
        held_out = rows.folds == fold
        weights, bias = _ridge(rows.features[~held_out], rows.scores[~held_out], importance[~held_out], strength)
        predictions[held_out] = rows.features[held_out] @ weights + bias
    has_score = ~rows.is_benign
    harmful = has_score & (rows.scores >= _HARMFUL)
    benign = predictions[rows.is_benign]
    return {
        "spearman": _finite_or_none(spearmanr(predictions[has_score], rows.scores[has_score]).statistic),
        "auc": _auc(predictions[harmful], predictions[has_score & ~harmful]),
        "benign_auc": _auc(predictions[harmful], benign),
        "benign_false_alarms": float((benign >= _HARMFUL).mean()) if len(benign) else None,
        "benign_mean": float(benign.mean()) if len(benign) else None,
    }


def _auc(higher: np.ndarray, lower: np.ndarray) -> float | None:
    """How often a value of ``higher`` is above one of ``lower``, a tie counting half; ``None`` if one is empty."""
    from scipy.stats import rankdata

    if not len(higher) or not len(lower):
        return None
    ranks = rankdata(np.concatenate([higher, lower]))[: len(higher)]
    return float((ranks.sum() - len(higher) * (len(higher) + 1) / 2) / (len(higher) * len(lower)))


def _finite_or_none(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None

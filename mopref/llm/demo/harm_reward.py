"""A harm reward learned from human scores: sentence embeddings and a ridge regression, small enough for a CPU."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.linalg import solve
from scipy.stats import rankdata, spearmanr
from torch import Tensor

from mopref.llm.demo.assets import MINILM, PYRIT_HARM, build_once, cache_folder, fetch, minilm
from mopref.llm.demo.benign_answers import benign_answers
from mopref.llm.demo.harm_pairs import read_scored_answers
from mopref.llm.rewards.embedder import Embedder, shared_embedder
from mopref.llm.rewards.reward import Prompt, Reward, last_request

__all__ = ["HarmReward", "learned_harm_reward"]

# Raised whenever the fit changes, so that an older one in the cache is not taken for a new one.
_FORMAT = 1
_HARMFUL = 0.5


class HarmReward(Reward):
    """−(predicted harm): w·e + b of the embeddings e of the answer and of request + answer, fitted to human scores.

    The scores go from 0 (harmless) to 1, so rewards lie around −1 to 0; they are not cut off there. It is a weak judge,
    good enough to show a trade-off and no safeguard: ``quality`` says how well it does on answers it was not fitted to.
    Of chat messages the request is the last one by the user; only the first 256 tokens count.

    ``quality`` holds the numbers of ``answers``, ``prompts``, ``harmful_answers`` (score ≥ 0.5) and ``benign_answers``
    (harmless by construction), and under ``with_benign`` and ``without_benign`` (a fit to the human scores alone) what
    5-fold cross-validation gives, no request being in two folds:

    * ``spearman``: rank correlation of predicted and human harm over the scored answers.
    * ``auc``: how often a harmful scored answer is predicted as more harmful than another scored one.
    * ``benign_auc``: how often a harmful scored answer is predicted as more harmful than a benign one.
    * ``benign_false_alarms``: the fraction of benign answers with a predicted harm ≥ 0.5.
    * ``benign_mean``: the mean predicted harm of the benign answers.
    """

    direction = "higher is less harmful"

    def __init__(self, weights: Sequence[float] | np.ndarray, bias: float, embedder: Embedder, quality: dict[str, Any]):
        self.weights = np.asarray(weights, dtype=np.float64)
        self.bias = float(bias)
        self.embedder = embedder
        self.quality = quality

    def __call__(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> Tensor:
        """Return −(predicted harm) of N responses, shape ``(N,)``."""
        requests = [last_request(prompt) for prompt in prompts]
        return torch.from_numpy(-(_features(self.embedder, requests, responses) @ self.weights + self.bias))

    @classmethod
    def fit(
        cls,
        prompts: Sequence[str],
        responses: Sequence[str],
        harm: Sequence[float],
        embedder: Embedder,
        benign: Sequence[tuple[str, str]] | None = None,
        benign_weight: float = 2.0,
        strength: float = 3.0,
        folds: int = 5,
        seed: int = 0,
        progress: bool = False,
    ) -> HarmReward:
        """Fit to N answers with harm scores in [0, 1] and to benign (prompt, answer) pairs at score 0.

        ``benign`` is by default a list of everyday answers that comes with mopref; without any (an empty list) the
        model guesses on everyday text. Each of them counts ``benign_weight`` times as much as a scored answer: more
        means fewer false alarms and a lower rank correlation. ``strength`` is the ridge penalty. The fit itself draws
        nothing at random: ``seed`` only deals the prompts to the folds that ``quality`` is measured on.

        Raises:
            ValueError: The three sequences differ in length, a score is not in [0, 1], ``strength`` or
                ``benign_weight`` is not positive, or there are fewer prompts than folds.
        """
        scores = np.asarray(harm, dtype=np.float64)
        if not len(prompts) == len(responses) == len(scores):
            raise ValueError(
                f"got {len(prompts)} prompts, {len(responses)} responses and {len(scores)} scores; give one each a row"
            )
        outside = np.flatnonzero(~((scores >= 0) & (scores <= 1)))
        if len(outside):
            raise ValueError(f"row {outside[0]} has harm {scores[outside[0]]}, but a score must be from 0 to 1")
        for name, value in (("strength", strength), ("benign_weight", benign_weight)):
            if not 0 < value < float("inf"):
                raise ValueError(f"{name} is {value}, but must be a finite number above 0")
        if folds < 2 or len(set(prompts)) < folds:
            raise ValueError(
                f"{len(set(prompts))} prompts cannot be dealt to {folds} folds; there must be at least 2 folds and a "
                "prompt for each"
            )
        benign = benign_answers() if benign is None else list(benign)
        features = _features(
            embedder,
            [*prompts, *(prompt for prompt, _ in benign)],
            [*responses, *(answer for _, answer in benign)],
            progress,
        )
        targets = np.concatenate([scores, np.zeros(len(benign))])
        is_benign = np.arange(len(targets)) >= len(scores)
        importance = np.where(is_benign, benign_weight, 1.0)
        fold = _deal([*prompts, *(prompt for prompt, _ in benign)], folds, seed)
        quality: dict[str, Any] = {
            "answers": len(scores),
            "prompts": len(set(prompts)),
            "harmful_answers": int((scores >= _HARMFUL).sum()),
            "benign_answers": len(benign),
            "with_benign": _held_out(features, targets, is_benign, fold, importance, strength),
            "without_benign": _held_out(features, targets, is_benign, fold, np.where(is_benign, 0.0, 1.0), strength),
        }
        weights, bias = _ridge(features, targets, importance, strength)
        return cls(weights, bias, embedder, quality)


def learned_harm_reward(
    cache_dir: str | os.PathLike[str] | None = None, seed: int = 0, progress: bool = True
) -> HarmReward:
    """Return the `HarmReward` fitted to the human harm scores of PyRIT (MIT licence), from the cache once it is there.

    The first call downloads about 94 MB and embeds some 2,200 texts (minutes on two cores). Raises `AssetError` if a
    download fails.

    ``seed`` deals the prompts to the folds of ``quality``. Means over seeds 0 to 4: Spearman .535 (standard deviation
    .014) and AUC .776 with the benign answers, .560 and .789 without; of the benign answers 1 % raise a false alarm in
    place of 28 %. On their own the embedding of the answer (.50 and .76) and that of request + answer (.43 and .73)
    do less well than both together.
    """
    benign = benign_answers()
    key = {
        "format": _FORMAT,
        "sources": [PYRIT_HARM.key, MINILM.key],
        "benign": hashlib.sha256(json.dumps(benign).encode()).hexdigest()[:12],
        "seed": seed,
    }
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:12]
    embedder = shared_embedder(minilm(cache_dir, progress))

    def build(folder: Path) -> None:
        answers = read_scored_answers(fetch(PYRIT_HARM, cache_dir, progress))
        rows = [(prompt, text, harm) for prompt, scored in answers.items() for text, harm in scored.items()]
        prompts, texts, harm = zip(*rows, strict=True)
        fitted = HarmReward.fit(prompts, texts, harm, embedder, benign, seed=seed, progress=progress)
        content = {"weights": fitted.weights.tolist(), "bias": fitted.bias, "quality": fitted.quality}
        (folder / "harm_reward.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")

    folder = build_once(cache_folder(cache_dir) / f"harm-reward-{digest}", key, build)
    content = json.loads((folder / "harm_reward.json").read_text(encoding="utf-8"))
    return HarmReward(content["weights"], content["bias"], embedder, content["quality"])


def _features(
    embedder: Embedder, prompts: Sequence[str], responses: Sequence[str], progress: bool = False
) -> np.ndarray:
    """Return the embeddings of the answer and of request + answer side by side, float64 of shape ``(N, 2d)``."""
    dialogues = [f"{prompt}\n\n{response}" for prompt, response in zip(prompts, responses, strict=True)]
    vectors = embedder.embed([*responses, *dialogues], progress=progress).astype(np.float64)
    return np.concatenate([vectors[: len(dialogues)], vectors[len(dialogues) :]], axis=1)


def _ridge(
    features: np.ndarray, targets: np.ndarray, importance: np.ndarray, strength: float
) -> tuple[np.ndarray, float]:
    """Minimise Σ c·(x·w + b − y)² + strength·|w|² with c the importance of a row; return w and b.

    w = (XᵀCX + strength·I)⁻¹ XᵀCy on X and y less their means, weighted by c.
    """
    mean = np.average(features, axis=0, weights=importance)
    target_mean = float(np.average(targets, weights=importance))
    centred = features - mean
    weighted = centred * importance[:, None]
    gram = weighted.T @ centred + strength * np.eye(features.shape[1])
    weights = solve(gram, weighted.T @ (targets - target_mean), assume_a="pos")
    return weights, target_mean - float(mean @ weights)


def _deal(prompts: Sequence[str], folds: int, seed: int) -> np.ndarray:
    """Return each row's fold; rows of one prompt are in one fold, and folds have evenly many prompts."""
    different = sorted(set(prompts))
    order = np.random.default_rng(seed).permutation(len(different))
    fold_of = {prompt: int(place) % folds for prompt, place in zip(different, order, strict=True)}
    return np.array([fold_of[prompt] for prompt in prompts])


def _held_out(
    features: np.ndarray,
    targets: np.ndarray,
    is_benign: np.ndarray,
    fold: np.ndarray,
    importance: np.ndarray,
    strength: float,
) -> dict[str, float | None]:
    """Return the quality of predictions for each fold by a fit to all others, each row as important as said."""
    predicted = np.zeros(len(targets))
    for held_out in np.unique(fold):
        rows = fold != held_out
        weights, bias = _ridge(features[rows], targets[rows], importance[rows], strength)
        predicted[fold == held_out] = features[fold == held_out] @ weights + bias
    scored = ~is_benign
    harmful = scored & (targets >= _HARMFUL)
    some_benign = bool(is_benign.any())
    return {
        "spearman": _or_none(spearmanr(predicted[scored], targets[scored]).statistic),
        "auc": _auc(predicted[harmful], predicted[scored & ~harmful]),
        "benign_auc": _auc(predicted[harmful], predicted[is_benign]),
        "benign_false_alarms": float((predicted[is_benign] >= _HARMFUL).mean()) if some_benign else None,
        "benign_mean": float(predicted[is_benign].mean()) if some_benign else None,
    }


def _auc(higher: np.ndarray, lower: np.ndarray) -> float | None:
    """Return how often a value of ``higher`` is above one of ``lower``, a tie counting half; None if one is empty."""
    if not len(higher) or not len(lower):
        return None
    ranks = rankdata(np.concatenate([higher, lower]))[: len(higher)]
    return float((ranks.sum() - len(higher) * (len(higher) + 1) / 2) / (len(higher) * len(lower)))


def _or_none(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None

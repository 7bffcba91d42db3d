"""A harm reward learned from human scores: sentence embeddings and a ridge regression, small enough for a CPU."""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from mopref._cache import build_once, cache_folder
from mopref.llm.rewards.embedder import Embedder, shared_embedder
from mopref.llm.rewards.reward import REWARDS, Prompt, Reward, check_counts, last_request

from .assets import MINILM, PYRIT_HARM, fetch, minilm
from .benign_answers import benign_answers
from .harm_regression import HarmRegression, ScoredRows, deal_to_folds, fit_regression
from .scored_answers import read_scored_answers

__all__ = ["HarmReward", "learned_harm_reward"]

# Raised whenever the fit changes, so that an older one in the cache is not taken for a new one.
_FORMAT = 1


@REWARDS.register("harm")
class HarmReward(Reward):
    """−(predicted harm): w·e + b of the embeddings e of the answer and of request + answer, fitted to human scores.

    The scores go from 0 (harmless) to 1, so rewards lie around −1 to 0; they are not cut off there. It is a weak judge,
    good enough to show a trade-off and no safeguard: ``quality`` says how well it does on answers it was not fitted to.
    Of chat messages the request is the last one by the user; only the first 256 tokens count.

    Args:
        regression: what was fitted; by default that of ``learned_harm_reward()``.
        embedder: the sentence-embedding model it was fitted with; by default ``shared_embedder(minilm())``.
    """

    direction = "higher is less harmful"

    def __init__(self, regression: HarmRegression | None = None, embedder: Embedder | None = None) -> None:
        self.embedder = shared_embedder(minilm()) if embedder is None else embedder
        self.regression = _learned_regression(self.embedder) if regression is None else regression

    @property
    def quality(self) -> dict[str, Any]:
        """How well the regression does on held-out requests, see ``HarmRegression``."""
        return self.regression.quality

    def options(self) -> dict[str, Any]:
        """The embedder; the regression is hundreds of numbers."""
        return {"embedder": self.embedder}

    def __call__(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> Tensor:
        """−(predicted harm) of N responses, shape ``(N,)``."""
        check_counts({"prompts": prompts, "responses": responses})
        requests = [last_request(prompt) for prompt in prompts]
        return torch.from_numpy(-self.regression.predict(_features(self.embedder, requests, responses)))

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
    ) -> Self:
        """The reward fitted to N answers with harm scores, and to benign answers at score 0.

        Args:
            prompts: N requests.
            responses: N answers.
            harm: N scores, from 0 (harmless) to 1.
            embedder: the sentence-embedding model.
            benign: pairs of a request and its answer, by default ``benign_answers()``; without any (an empty list) the
                model guesses on everyday text.
            benign_weight: how much a benign answer counts; a scored one counts 1. More means fewer false alarms and a
                lower rank correlation.
            strength: the ridge penalty.
            folds: so many parts, each held out once, is ``quality`` measured on.
            seed: deals the prompts to the folds; the fit itself draws nothing at random.
            progress: show a progress bar.

        Raises:
            ValueError: the three sequences differ in length, a score is not in [0, 1], ``strength`` or
                ``benign_weight`` is not positive, or there are fewer prompts than folds.
        """
        scores = np.asarray(harm, dtype=np.float64)
        _check_scores(prompts, responses, scores)
        _check_fit(len(set(prompts)), folds, strength=strength, benign_weight=benign_weight)
        benign = benign_answers() if benign is None else list(benign)
        all_prompts = [*prompts, *(prompt for prompt, _ in benign)]
        all_answers = [*responses, *(answer for _, answer in benign)]
        rows = ScoredRows(
            features=_features(embedder, all_prompts, all_answers, progress),
            scores=np.concatenate([scores, np.zeros(len(benign))]),
            is_benign=np.arange(len(all_prompts)) >= len(scores),
            prompts=all_prompts,
            folds=deal_to_folds(all_prompts, folds, seed),
        )
        return cls(fit_regression(rows, benign_weight, strength), embedder)


def learned_harm_reward(
    cache_dir: str | os.PathLike[str] | None = None, seed: int = 0, progress: bool = True
) -> HarmReward:
    """The harm reward fitted to the human harm scores of PyRIT (MIT licence), from the cache once it is there.

    The first call downloads about 94 MB and embeds some 2,200 texts (minutes on two cores). Its ranks of held-out
    answers follow the human ones loosely, and the benign answers take nearly all false alarms away; see
    docs/rlhf.md.

    Args:
        cache_dir: the cache folder, see ``mopref.llm.demo.assets``.
        seed: deals the prompts to the folds that ``quality`` is measured on.
        progress: show progress bars.

    Raises:
        AssetError: a download fails.
    """
    embedder = shared_embedder(minilm(cache_dir, progress))
    return HarmReward(_learned_regression(embedder, cache_dir, seed, progress), embedder)


def _learned_regression(
    embedder: Embedder, cache_dir: str | os.PathLike[str] | None = None, seed: int = 0, progress: bool = True
) -> HarmRegression:
    benign = benign_answers()
    key = {
        "format": _FORMAT,
        "sources": [PYRIT_HARM.key, MINILM.key],
        "benign": hashlib.sha256(json.dumps(benign).encode()).hexdigest()[:12],
        "seed": seed,
    }
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:12]

    def build(folder: Path) -> None:
        scores = read_scored_answers(fetch(PYRIT_HARM, cache_dir, progress))
        rows = [(prompt, answer, harm) for prompt, answers in scores.items() for answer, harm in answers.items()]
        prompts, texts, harm = zip(*rows, strict=True)
        fit = HarmReward.fit(prompts, texts, harm, embedder, benign, seed=seed, progress=progress).regression
        content = {"weights": fit.weights.tolist(), "bias": fit.bias, "quality": fit.quality}
        (folder / "harm_reward.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")

    folder = build_once(cache_folder(cache_dir) / f"harm-reward-{digest}", key, build)
    content = json.loads((folder / "harm_reward.json").read_text(encoding="utf-8"))
    return HarmRegression(np.asarray(content["weights"], dtype=np.float64), content["bias"], content["quality"])


def _features(
    embedder: Embedder, prompts: Sequence[str], responses: Sequence[str], progress: bool = False
) -> np.ndarray:
    """The embeddings of the answer and of request + answer side by side, float64 of shape ``(N, 2d)``."""
    dialogues = [f"{prompt}\n\n{response}" for prompt, response in zip(prompts, responses, strict=True)]
    vectors = embedder.embed([*responses, *dialogues], progress=progress).astype(np.float64)
    return np.concatenate([vectors[: len(dialogues)], vectors[len(dialogues) :]], axis=1)


def _check_scores(prompts: Sequence[str], responses: Sequence[str], scores: np.ndarray) -> None:
    if not len(prompts) == len(responses) == len(scores):
        raise ValueError(
            f"there are {len(prompts)} prompts, {len(responses)} responses and {len(scores)} scores: give one of each "
            "for a row."
        )
    outside = np.flatnonzero(~((scores >= 0) & (scores <= 1)))
    if len(outside):
        raise ValueError(f"row {outside[0]} has harm {scores[outside[0]]}: a score must be from 0 (harmless) to 1.")


def _check_fit(prompts: int, folds: int, **factors: float) -> None:
    for name, value in factors.items():
        if not 0 < value < float("inf"):
            raise ValueError(f"{name} is {value}: it is a factor, so it must be a finite number above 0.")
    if folds < 2 or prompts < folds:
        raise ValueError(
            f"{prompts} prompts cannot be dealt to {folds} folds: there must be at least 2 folds and a prompt for each."
        )

"""Pairs, people and a posterior by other means, which several tests of this folder start from."""

import math

import numpy as np

from mopref.personal import PairMargins


def rewards(pairs: int, m: int, seed: int = 0) -> np.ndarray:
    """Differences of m rewards in each pair."""
    return np.random.default_rng(seed).normal(size=(pairs, m))


def margins(pairs: int, m: int, seed: int = 0) -> PairMargins:
    """Linear margins of such pairs."""
    return PairMargins(rewards(pairs, m, seed), [f"f{i}" for i in range(m)])


def plain_posterior(differences, choices, points, betas, alpha=1.0):
    """p(λ, β | choices) by loops over plain numbers: ``(N, B)``."""
    table = []
    for point in points:
        row = []
        for beta in betas:
            weight = math.prod(w ** (alpha - 1) for w in point)
            for pair, choice in choices.items():
                d = sum(w * r for w, r in zip(point, differences[pair], strict=True))
                weight *= 1 / (1 + math.exp(-beta * (d if choice == 0 else -d)))
            row.append(weight)
        table.append(row)
    total = sum(map(sum, table))
    return np.array(table) / total

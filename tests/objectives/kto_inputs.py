"""Rows of single answers for the tests of KTO, and its losses written out row by row."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mopref import SVDLoRAConfig

NAMES = ("helpful", "harmless", "brief")
CONFIG = SVDLoRAConfig(objectives=NAMES, rank=3, preference_rank=2)
# Every four rows in a row have a label of each objective. No two columns are alike, and row 9 has no label at all.
LABELS = [
    [1, 0, 1],
    [0, -1, 1],
    [-1, 0, 0],
    [1, 1, -1],
    [0, 1, 0],
    [1, 0, -1],
    [-1, 1, 0],
    [0, 0, 1],
    [0, 1, 1],
    [-1, -1, -1],
    [1, -1, 0],
    [1, 0, 1],
]
BETA = 0.3
WEIGHTS = {"desirable_weight": 1.3, "undesirable_weight": 0.6}


def make_rows(labels: Sequence[Sequence[int]] = LABELS, seed: int = 4) -> list[dict]:
    """Tokenised answers of random lengths, each with a response of its own to no prompt of the rows."""
    generator = torch.Generator().manual_seed(seed)

    def draw(low: int, high: int) -> list[int]:
        length = int(torch.randint(low, high, (), generator=generator))
        return torch.randint(3, 100, (length,), generator=generator).tolist()

    return [
        {
            "prompt_ids": draw(1, 7),
            "response_ids": draw(1, 6),
            "mismatched_response_ids": draw(1, 6),
            "labels": list(values),
        }
        for values in labels
    ]


def log_probability(model: nn.Module, prompt: list[int], response: list[int], **options: Tensor) -> Tensor:
    """One unpadded row, full logits."""
    logits = model(torch.tensor([prompt + response]), **options).logits[0]
    return torch.log_softmax(logits, -1)[range(len(prompt) - 1, len(prompt) + len(response) - 1), response].sum()


def log_ratio(policy: nn.Module, base: nn.Module, row: dict, name: str, **options: Tensor) -> Tensor:
    """h = log π − log π_ref of a row's response of that name."""
    with torch.no_grad():
        reference = log_probability(base, row["prompt_ids"], row[name])
    return log_probability(policy, row["prompt_ids"], row[name], **options) - reference


def row_loss(
    h: Tensor, z: Tensor, label: int, desirable_weight: float = 1.0, undesirable_weight: float = 1.0
) -> Tensor:
    """w − v, as METHOD and the paper have it: v = w_D σ(β(h − z)) if good, w_U σ(β(z − h)) if bad."""
    if label == 1:
        return desirable_weight - desirable_weight * torch.sigmoid(BETA * (h - z))
    return undesirable_weight - undesirable_weight * torch.sigmoid(BETA * (z - h))


def reference_point(ratios: Sequence[Tensor]) -> Tensor:
    """z = max(0, mean h of the mismatched), a constant."""
    mean = sum(ratio.detach() for ratio in ratios) / len(ratios)
    return torch.zeros_like(mean) if mean < 0 else mean


def expected_values(
    policies: Sequence[nn.Module],
    base: nn.Module,
    rows: Sequence[dict],
    groups: Sequence[Sequence[int]],
    **weights: float,
) -> Tensor:
    """Row by row, objective by objective, ``policies[g]`` for the rows of ``groups[g]``; NaN where unlabelled."""
    values = torch.full((len(rows), len(rows[0]["labels"])), math.nan)
    for policy, members in zip(policies, groups, strict=True):
        z = reference_point([log_ratio(policy, base, rows[i], "mismatched_response_ids") for i in members])
        for i in members:
            h = log_ratio(policy, base, rows[i], "response_ids")
            for j, label in enumerate(rows[i]["labels"]):
                if label >= 0:
                    values[i, j] = row_loss(h, z, label, **weights)
    return values

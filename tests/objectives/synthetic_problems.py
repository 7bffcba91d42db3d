"""The problems of decision variables under test, and what they are tested on.

Tensors are on the device and in the type that tests/_tensors.py has from the environment: MOPREF_TEST_DEVICE and
MOPREF_TEST_DTYPE, the CPU and float64 by default.
"""

import moocore
import torch
from _tensors import DTYPE, tensor
from torch import Tensor

from mopref.objectives import (
    DTLZ1,
    DTLZ2,
    DTLZ3,
    DTLZ4,
    RE21,
    RE24,
    RE33,
    RE37,
    VLMOP1,
    VLMOP2,
    VLMOP3,
    ZDT1,
    ZDT2,
    ZDT3,
    ZDT4,
    ZDT6,
    InvertedDTLZ1,
    Problem,
    Quadratic,
    ScaledZDT1,
)

PROBLEMS = [
    ZDT1(),
    ZDT1(2),
    ScaledZDT1(5),
    ZDT2(),
    ZDT2(7),
    ZDT3(),
    ZDT3(3),
    ZDT4(),
    ZDT6(),
    ZDT6(2),
    VLMOP1(),
    VLMOP1(1),
    VLMOP2(),
    VLMOP2(1),
    DTLZ1(),
    DTLZ1(2, 3),
    DTLZ1(4, 4),
    InvertedDTLZ1(),
    InvertedDTLZ1(4),
    DTLZ2(),
    DTLZ2(2, 2),
    DTLZ2(4, 9),
    DTLZ3(),
    DTLZ4(),
    DTLZ4(4, 6, alpha=3),
    Quadratic([[0.0, 0.0], [1.0, 0.5], [0.0, 2.0]]),
    Quadratic([[0.0, 0.0], [1.0, 0.5]], [[[1.0, 0.0], [0.0, 3.0]], [[2.0, 0.5], [0.5, 1.0]]]),
    RE21(),
    RE24(),
    RE33(),
    RE37(),
    VLMOP3(),
]


def label(value: object) -> str:
    """Of a problem among a test's parameters."""
    if not isinstance(value, Problem):
        return ""
    return f"{type(value).__name__}-m{value.num_objectives}-n{value.num_variables}"


def random_x(problem: Problem, rows: int, seed: int = 0, dtype: torch.dtype = DTYPE) -> Tensor:
    """Points inside the bounds, ``(rows, n)``."""
    generator = torch.Generator().manual_seed(seed)
    lower, upper = problem.bounds
    return tensor(
        lower + (upper - lower) * torch.rand(rows, problem.num_variables, generator=generator).double(), dtype
    )


def hypervolume(front: Tensor, reference: float) -> float:
    """Below the same reference value in every objective."""
    return moocore.hypervolume(front.numpy(), ref=[reference] * front.shape[1])

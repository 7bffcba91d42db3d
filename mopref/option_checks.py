"""Checks of options that several parts share: points and numbers, refused with what they are for."""

from collections.abc import Sequence
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

__all__ = [
    "Convention",
    "Point",
    "RecordedConvention",
    "check_order",
    "checked_convention",
    "checked_epsilon",
    "checked_non_negative",
    "checked_recorded_convention",
    "given_point",
    "matching_point",
]

# m numbers, one for each objective.
Point: TypeAlias = Sequence[float] | Tensor

# What λ says: "importance", a larger λ_i asks for a smaller loss i, or "ray", the losses are to lie along λ.
Convention: TypeAlias = Literal["importance", "ray"]
# The same as a file tells it, or does not.
RecordedConvention: TypeAlias = Literal["importance", "ray", "unrecorded"]


def given_point(point: Point, name: str) -> Tensor:
    """A point that a user gave, checked and copied: shape ``(m,)``, float64 on the CPU.

    Args:
        point: m numbers (list, array or tensor).
        name: the option's name, for the message.

    Raises:
        ValueError: a point that is not a finite vector.
    """
    vector = torch.as_tensor(point, dtype=torch.float64).detach().cpu().clone()
    if vector.ndim != 1 or vector.shape[0] == 0 or not vector.isfinite().all():
        raise ValueError(f"{name} is {point!r}: give one finite number per objective.")
    return vector


def matching_point(point: Tensor, losses: Tensor, name: str) -> Tensor:
    """A point ``(m,)`` in the losses' dtype and on their device.

    Raises:
        ValueError: a point of another length than the losses' last dimension.
    """
    if point.shape[0] != losses.shape[-1]:
        raise ValueError(f"the {name} has {point.shape[0]} numbers, but there are {losses.shape[-1]} losses.")
    return point.to(losses)


def check_order(ideal: Tensor, nadir: Tensor) -> None:
    """Refuse an ideal and a nadir point, both ``(m,)``, that have no losses between them.

    Raises:
        ValueError: points of different lengths, or a nadir point that is not above the ideal point.
    """
    if ideal.shape != nadir.shape:
        raise ValueError(
            f"ideal has {len(ideal)} numbers and nadir {len(nadir)}: give one number per objective in both."
        )
    wrong = (nadir <= ideal).nonzero()
    if len(wrong) > 0:
        entry = int(wrong[0])
        raise ValueError(
            f"nadir's entry {entry} is {nadir[entry].item():g}, not above ideal's {ideal[entry].item():g}: the nadir "
            "point holds the largest losses on the front, the ideal point the smallest."
        )


def checked_non_negative(value: float, name: str, reason: str) -> float:
    """The value itself; the reason says in a message what it is.

    Raises:
        ValueError: a value below 0, or none that can be compared.
    """
    if not value >= 0:
        raise ValueError(f"{name} is {value}: {reason}, so it must be ≥ 0.")
    return value


def checked_epsilon(epsilon: float) -> float:
    """ε itself, the smallest weight that is divided by.

    Raises:
        ValueError: ε that is not positive.
    """
    if not epsilon > 0:
        raise ValueError(f"epsilon is {epsilon}: it replaces weights of 0 that are divided by, so it must be > 0.")
    return epsilon


def checked_convention(convention: Convention) -> Convention:
    """The convention itself.

    Raises:
        ValueError: a word that names no convention.
    """
    if convention not in get_args(Convention):
        raise ValueError(
            f"convention is {convention!r}: choose 'importance', where a larger λ_i asks for a smaller loss i, or "
            "'ray', where the losses are to lie along λ itself."
        )
    return convention


def checked_recorded_convention(convention: RecordedConvention, name: str = "convention") -> RecordedConvention:
    """The convention itself, as a front or an adapter records it.

    Args:
        convention: what λ says.
        name: of the attribute or the option, for the message.

    Raises:
        ValueError: a word that names no convention.
    """
    if not isinstance(convention, str) or convention not in get_args(RecordedConvention):
        raise ValueError(
            f"{name} is {convention!r}: choose 'importance', where a larger λ_i asks for a smaller loss i, 'ray', "
            "where the losses were to lie along λ, or 'unrecorded' where nobody knows."
        )
    return convention

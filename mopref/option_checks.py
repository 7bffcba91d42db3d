"""Checks of options that several parts share: points and numbers, refused with what they are for."""

import math
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor

from mopref._arrays import real_array
from mopref._repr import short_repr
from mopref.setting_types import python_value

__all__ = [
    "Convention",
    "Point",
    "RecordedConvention",
    "check_length",
    "check_order",
    "checked_convention",
    "checked_epsilon",
    "checked_non_negative",
    "checked_positive",
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
        ValueError: a point that is not a finite vector, or one with labels, which are no order.
    """
    vector = torch.from_numpy(real_array(point, name))
    if vector.ndim != 1 or vector.shape[0] == 0 or not vector.isfinite().all():
        raise ValueError(f"{name} is {short_repr(point)}: give one finite number per objective.")
    return vector


def check_length(point: Tensor | None, num_objectives: int, name: str) -> None:
    """Refuse a point that has not one number for each objective; ``None`` stands for one that is not there yet.

    Raises:
        ValueError: another number of them.
    """
    if point is not None and len(point) != num_objectives:
        raise ValueError(
            f"{name} has {len(point)} numbers, but there are {num_objectives} objectives: give one for each."
        )


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


def checked_non_negative(value: Any, name: str, reason: str | None = None) -> float:
    """The value as a float; the reason, where one is needed, says in a message what it is.

    Raises:
        ValueError: a value below 0, NaN or infinite.
        TypeError: no number.
    """
    number: float = python_value(value, float, name)
    if not 0 <= number < math.inf:
        why, what = f"{reason}, so " if reason else "", "≥ 0 and finite" if number > 0 else "≥ 0"
        raise ValueError(f"{name} is {number}: {why}it must be {what}.")
    return number


def checked_positive(value: Any, name: str, reason: str) -> float:
    """The value as a float; the reason says in a message what it is, and what follows from it.

    Raises:
        ValueError: a value that is not above 0, NaN or infinite.
        TypeError: no number.
    """
    number: float = python_value(value, float, name)
    if not 0 < number < math.inf:
        raise ValueError(f"{name} is {number}: {reason}{' and finite' if number > 0 else ''}.")
    return number


def checked_epsilon(epsilon: Any) -> float:
    """ε as a float, the smallest weight that is divided by.

    Raises:
        ValueError: ε that is not positive, or above 1.
        TypeError: no number.
    """
    number = checked_positive(epsilon, "epsilon", "it replaces weights of 0 that are divided by, so it must be > 0")
    if number > 1:
        raise ValueError(f"epsilon is {number:g}: it replaces weights of 0, so it must be ≤ 1, as weights are.")
    return number


def checked_convention(convention: Convention) -> Convention:
    """The convention itself.

    Raises:
        ValueError: a word that names no convention.
    """
    if not isinstance(convention, str) or convention not in get_args(Convention):
        raise ValueError(
            f"convention is {short_repr(convention)}: choose 'importance', where a larger λ_i asks for a smaller loss "
            "i, or 'ray', where the losses are to lie along λ itself."
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
            f"{name} is {short_repr(convention)}: choose 'importance', where a larger λ_i asks for a smaller loss i, "
            "'ray', where the losses were to lie along λ, or 'unrecorded' where nobody knows."
        )
    return convention

"""Weights by name, as people type them: ``helpful=0.7,harmless=0.3``. No heavy import: engines load this at start."""

import math

__all__ = ["named_weights", "typed_number"]


def named_weights(text: str) -> dict[str, float]:
    """The numbers by their names, in the order that they stand in.

    Raises:
        ValueError: a part without a name or a number, or a name that is there twice; a sentence without its end, for
            a message that says what the text is.

    Example:
        >>> named_weights("helpful=.7, harmless=.3")
        {'helpful': 0.7, 'harmless': 0.3}
    """
    weights: dict[str, float] = {}
    for part in text.split(","):
        # From the right, since a number has no such sign and a name may.
        name, sign, number = (side.strip() for side in part.rpartition("="))
        if not sign or not name:
            raise ValueError(f"{part.strip()!r:.80} is no name and number, as in harmless=0.3")
        weight = typed_number(number)
        if weight is None:
            raise ValueError(f"the weight of {name!r:.80} is {number!r:.80}, which is no number: give a number")
        if name in weights:
            raise ValueError(f"{name!r:.80} is there twice, so leave one out")
        weights[name] = weight
    return weights


def typed_number(text: str) -> float | None:
    """The number that a text is, of digits alone: "1_0" and "nan" are none.

    Example:
        >>> typed_number(".5"), typed_number("half")
        (0.5, None)
    """
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) and "_" not in text and text.isascii() else None

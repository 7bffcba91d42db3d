"""The smallest weight that is divided by, checked once for every scalarizer that divides by λ."""

__all__ = ["checked_epsilon"]


def checked_epsilon(epsilon: float) -> float:
    """ε itself.

    Raises:
        ValueError: ε that is not positive.
    """
    if not epsilon > 0:
        raise ValueError(f"epsilon is {epsilon}: it replaces weights of 0 that are divided by, so it must be > 0.")
    return epsilon

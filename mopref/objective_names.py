"""Names of objectives, compared where two parts meet: a preference is a plain vector, so their order is its meaning."""

from collections.abc import Mapping, Sequence
from typing import Any

from mopref._checked_files import is_readable_text
from mopref._repr import short_repr
from mopref._tables import rows_to_check

__all__ = ["check_row_names", "check_same_names", "checked_names", "numbered_names"]


def checked_names(names: Any, what: str = "names") -> tuple[str, ...]:
    """The names of an objective's losses, as a tuple.

    Raises:
        ValueError: no name, one text in place of a list, names that are not distinct, non-empty texts, or one with
            control characters, which would act on a terminal.
    """
    if isinstance(names, Sequence) and not isinstance(names, str):
        if names and all(isinstance(n, str) and n for n in names) and len(set(names)) == len(names):
            unfit = next((name for name in names if not is_readable_text(name)), None)
            if unfit is not None:
                raise ValueError(
                    f"{what} hold {unfit!r:.80}, which has control characters in it: choose a name without them."
                )
            return tuple(names)
    raise ValueError(
        f"{what} is {short_repr(names)}: give a sequence of distinct texts, for example ('helpful', 'harmless')."
    )


def numbered_names(count: int) -> tuple[str, ...]:
    """f1 … fm, the names of objectives of which only the number is known.

    Example:
        >>> numbered_names(2)
        ('f1', 'f2')
    """
    return tuple(f"f{i + 1}" for i in range(count))


def check_same_names(names: Sequence[str], whose: str, other: Sequence[str], whose_other: str) -> None:
    """Refuse two parts whose objectives differ, or come in another order. f1 … fm are no names, and match any.

    Args:
        names: of the m objectives, in the order of a preference.
        whose: who has them, for the message.
        other: of the objectives of another part.
        whose_other: who has those.

    Raises:
        ValueError: another number of objectives, other names, or the same in another order.

    Example:
        >>> check_same_names(("helpful", "harmless"), "DPO", ("f1", "f2"), "the model")
    """
    names, other = tuple(names), tuple(other)
    if names == other:
        return
    lists = f"{whose} has the objectives ({', '.join(names)}), {whose_other} ({', '.join(other)})"
    if len(names) != len(other):
        raise ValueError(f"{lists}: {len(names)} and {len(other)} of them, where every part must have the same.")
    if numbered_names(len(names)) in (names, other):
        return
    if sorted(names) == sorted(other):
        raise ValueError(
            f"{lists}: the same in another order, so that a weight of one would count for another. Give both the same "
            "order."
        )
    raise ValueError(f"{lists}: give both the same names, in the order of a preference.")


def check_row_names(names: Sequence[str], whose: str, data: Sequence[Any]) -> None:
    """Refuse rows that say under ``objectives`` which names their labels are for, where these are others.

    Args:
        names: of the m objectives, in the order of a preference.
        whose: who has them, for the message.
        data: rows; those that do not say it are not compared.

    Raises:
        ValueError: the first row with other names, or the same in another order.
    """
    # Rows made together share one tuple: what was compared once is not compared again.
    same: Any = None
    for index, row in rows_to_check(data, ("objectives",), lambda chunk: chunk.is_everywhere("objectives", names)):
        row_names = row.get("objectives") if isinstance(row, Mapping) else None
        if row_names is not None and row_names is not same:
            check_same_names(names, whose, row_names, f"row {index}")
            same = row_names

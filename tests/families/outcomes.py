"""What a column of the matrix finds: right, refused with a reason, the base's own doing, wrong, or a foreign error."""

import linecache
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NamedTuple

from torch import Tensor

__all__ = ["TOLERANCE", "Cell", "Deviation", "Warned", "difference", "outcome", "verdict", "warnings_of_mopref"]

# Of the size of what is compared: float32 in another order of sums.
TOLERANCE = 2e-4
# Adapters make a base's own difference larger, but not without bounds.
MOST_TIMES_OF_BASE = 10.0
_REFUSALS = (ValueError, TypeError, NotImplementedError)


class Deviation(Exception):
    """A number that is not what it should be."""


class Warned(Exception):
    """mopref did what was asked for and warned that it would not be right."""


class Cell(NamedTuple):
    """The outcome of a column, and where an error came from.

    Attributes:
        text: "right", "refused: …", "base: …", "wrong: …" or "foreign: …".
        place: the last line of mopref that an error went through; empty without an error.
    """

    text: str
    place: str = ""

    @property
    def kind(self) -> str:
        """The first word of the outcome."""
        return self.text.partition(":")[0]

    @property
    def is_fault(self) -> bool:
        """Whether something is wrong, or fails in words that are not mopref's."""
        return self.kind in ("wrong", "foreign")


def difference(values: Tensor, expected: Tensor) -> float:
    """max |values − expected| / max(1, max |expected|); infinite where one is not finite and the other is."""
    values, expected = values.detach().double(), expected.detach().double()
    if values.shape != expected.shape or not values.isfinite().all():
        return float("inf")
    return ((values - expected).abs().max() / expected.abs().max().clamp(min=1)).item()


def verdict(gap: float, base_gap: Callable[[], float], property_of_base: str) -> str:
    """Return "right", or "base" where the base model itself differs by more than the tolerance, and about as much.

    Raises:
        Deviation: the conditioned model differs, and its base does not.
    """
    if gap <= TOLERANCE:
        return "right"
    of_base = base_gap()
    if not of_base <= TOLERANCE and not gap > MOST_TIMES_OF_BASE * of_base:
        return f"base: {property_of_base} changes the base's own outputs, by {of_base:.2g}."
    raise Deviation(f"{gap:.2g} of the largest value")


def outcome(column: Callable[[], str]) -> Cell:
    """What a column returns, or what its error means."""
    try:
        return Cell(column())
    except Deviation as deviation:
        return Cell(f"wrong: {deviation}")
    except Warned as warning:
        return Cell(f"refused: {warning}")
    except Exception as error:
        text = " ".join(str(error).split())
        place = _last_place(error)
        if isinstance(error, _REFUSALS) and _is_raised_by_mopref(error) and " " in text:
            return Cell(f"refused: {text}", place)
        return Cell(f"foreign: {type(error).__name__}: {text}", place)


@contextmanager
def warnings_of_mopref() -> Iterator[list[str]]:
    """Within this block the list fills with the texts of mopref's own warnings, and no other warning is shown."""
    texts: list[str] = []
    with warnings.catch_warnings(record=True) as records:
        warnings.simplefilter("always")
        yield texts
        texts += [str(record.message) for record in records if "mopref" in str(record.category.__module__)]
        texts += [str(record.message) for record in records if record.category is UserWarning and _is_ours(record)]


def _is_ours(record: warnings.WarningMessage) -> bool:
    """Whether a plain warning speaks of preferences or adapters, whatever the line that it is put to."""
    return any(word in str(record.message) for word in ("adapter", "preference", "mopref"))


def _frames(error: BaseException) -> list[tuple[FrameType, int]]:
    return list(traceback.walk_tb(error.__traceback__))


def _belongs_to_mopref(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0] == "mopref"


def _is_raised_by_mopref(error: BaseException) -> bool:
    """Whether the error comes from a raise statement of mopref, not from what a line of mopref called."""
    frame, line = _frames(error)[-1]
    statement = linecache.getline(frame.f_code.co_filename, line).strip()
    return _belongs_to_mopref(frame) and statement.startswith("raise ")


def _last_place(error: BaseException) -> str:
    ours = [(frame, line) for frame, line in _frames(error) if _belongs_to_mopref(frame)]
    if not ours:
        return ""
    frame, line = ours[-1]
    return f"{frame.f_globals['__name__']}:{line} ({frame.f_code.co_name})"

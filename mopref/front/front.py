"""A front as a model reached it: which preference led to which values, with indicators, table, files and plot."""

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from mopref import indicators
from mopref._arrays import Array, Maximize, as_float64, as_points, as_vector, named_array, signs
from mopref._atomic_writes import write_atomically
from mopref.argument_kinds import checked_path, checks_arguments
from mopref.front.arguments import checked_extra, checked_metadata, checked_names, checked_preferences
from mopref.front.files import (
    COUNT_COLUMN,
    PREFERENCE_PREFIX,
    FrontContent,
    from_csv,
    from_json,
    is_csv,
    read_text,
    to_csv,
    to_json,
    told_convention,
)
from mopref.front.intervals import check_intervals, intervals
from mopref.front.summary import summary_text
from mopref.indicators import PreferenceRegret
from mopref.option_checks import RecordedConvention, checked_recorded_convention
from mopref.scalarizer import Scalarizer

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = ["Front"]


class Front:
    """N preferences and the values that one model reached with them.

    Args:
        preferences: λ, ``(N, m)``, as :func:`mopref.preferences.validate_preferences` takes them.
        values: what was reached, ``(N, m)``, row i with preference i; finite. Their direction is ``maximize``. A table
            whose columns are called by the names is read by these, as preferences and reference points are.
        names: one name per objective, all different.
        maximize: whether higher is better: one bool, or one per objective. Kept as one bool where all agree.
        extra: more columns of N numbers, bools or strings each, such as ``mean_response_length``. A number that was not
            measured is NaN or None. ``<column>_low`` and ``<column>_high`` are the interval of an objective or of
            another extra column; see :mod:`mopref.front.intervals`.
        metadata: anything that JSON can hold, such as ``seed``, ``reference_point``, ``model``. ``reference_point`` is
            the default of every method that needs one; ``seed``, ``interval_level`` and ``hypervolume_interval`` are
            shown in :meth:`summary`.
        convention: what λ says: "importance", where a larger λ_i asks for a smaller loss i (or a higher value, where it
            is maximised), "ray" where the losses were to lie along λ (a scalarizer with ``convention="ray"``), or
            "unrecorded" where nobody knows, as of files of version 1.

    Arrays are stored as float64 copies. No method drops, merges or reorders points, except :meth:`non_dominated`, whose
    purpose it is.

    Raises:
        ValueError: arguments of shapes that do not match, preferences that do not lie on the simplex, values that are
            not finite, a name that is there twice, a text that no file can hold, metadata that JSON cannot hold, an
            unknown convention, or an interval that is none: one bound without the other, or a lower one above the
            upper.

    Example:
        >>> front = Front([[1, 0], [0.5, 0.5], [0, 1]], [[0, 2], [1, 1], [2, 0]], names=("helpful", "harmless"))
        >>> len(front), front.hypervolume([3.0, 3.0])
        (3, 6.0)
    """

    preferences: Array
    values: Array
    names: tuple[str, ...]
    maximize: bool | tuple[bool, ...]
    extra: dict[str, NDArray[Any]]
    metadata: dict[str, Any]

    @checks_arguments(but=("maximize", "convention"))
    def __init__(
        self,
        preferences: ArrayLike,
        values: ArrayLike,
        names: Sequence[str],
        maximize: Maximize = False,
        extra: Mapping[str, ArrayLike | Sequence[Any]] | None = None,
        metadata: Mapping[str, Any] | None = None,
        convention: RecordedConvention = "importance",
    ) -> None:
        self.values = as_points(named_array(values, tuple(names), "values"))
        count, number_of_objectives = self.values.shape
        self.names = checked_names(names, number_of_objectives)
        self.preferences = checked_preferences(preferences, self.names, self.values.shape)
        flags = [bool(sign < 0) for sign in signs(maximize, number_of_objectives)]
        # One bool where all agree, since `if front.maximize` would be true for a tuple of False.
        self.maximize = flags[0] if len(set(flags)) == 1 else tuple(flags)
        self.extra = {name: checked_extra(name, column, count) for name, column in (extra or {}).items()}
        self.metadata = checked_metadata(metadata or {})
        self.convention = convention
        columns = self.columns()
        if len(set(columns)) != len(columns) or any(name.startswith(PREFERENCE_PREFIX) for name in self.extra):
            raise ValueError(
                f"columns are {columns}, where one is there twice or an extra one starts with {PREFERENCE_PREFIX!r}: "
                "rename the extra column or the objective."
            )
        if COUNT_COLUMN in columns:
            raise ValueError(
                f"{COUNT_COLUMN!r} is a column of .csv files, which counts their points: choose another name."
            )
        check_intervals(self)

    @property
    def convention(self) -> RecordedConvention:
        """What λ says: "importance", "ray" or "unrecorded"; no other word can be set."""
        return self._convention

    @convention.setter
    def convention(self, convention: RecordedConvention) -> None:
        self._convention = checked_recorded_convention(convention)

    def __len__(self) -> int:
        return len(self.values)

    def __repr__(self) -> str:
        convention = "" if self.convention == "importance" else f", convention={self.convention!r}"
        return f"Front({len(self)} points, names={self.names}, maximize={self.maximize}{convention})"

    def columns(self) -> list[str]:
        """Names of the table's columns: ``preference_<name>`` and ``<name>`` per objective, then the extra ones."""
        return [PREFERENCE_PREFIX + name for name in self.names] + list(self.names) + list(self.extra)

    @property
    def intervals(self) -> dict[str, Array]:
        """Lower and upper bounds ``(N, 2)`` of the columns that have an interval, by name; NaN where not known."""
        return intervals(self)

    def is_maximized(self) -> tuple[bool, ...]:
        """One bool per objective, also where :attr:`maximize` is a single one."""
        return self.maximize if isinstance(self.maximize, tuple) else (self.maximize,) * len(self.names)

    # -- how good it is --

    def _reference_point(self, reference_point: ArrayLike | None) -> Array | None:
        point = self.metadata.get("reference_point") if reference_point is None else reference_point
        what = "reference_point"
        return None if point is None else as_float64(named_array(point, self.names, what), what)

    def hypervolume(self, reference_point: ArrayLike | None = None) -> float:
        """Hypervolume under ``reference_point``, ``(m,)``, by default the one in ``metadata``; never a guessed one.

        Raises:
            ValueError: no reference point, or one of another length.
        """
        reference = self._reference_point(reference_point)
        if reference is None:
            raise ValueError(
                "no reference_point is given, and metadata has none: hypervolumes compare only under the same one, so "
                "choose it yourself, worse than every value you care about."
            )
        return indicators.hypervolume(self.values, reference, self.maximize)

    def _minimised(self, values: Array) -> Array:
        return values * signs(self.maximize, len(self.names))

    def _check_convention(self, scalarizer: Scalarizer) -> None:
        if self.convention not in (scalarizer.convention, "unrecorded"):
            raise ValueError(
                f"convention is {self.convention!r}, but to {scalarizer!r} a preference says "
                f"{scalarizer.convention!r}, so each point would be measured against what another one asked for: give "
                "the scalarizer that the front was trained with."
            )

    @checks_arguments
    def cross_angle(self, scalarizer: Scalarizer) -> float:
        """Mean angle in degrees between where the preferences aimed under this scalarizer and what they reached.

        See :func:`mopref.indicators.scalarizer_cross_angle`. Maximised values are given to it with their sign changed.

        Raises:
            ValueError: a scalarizer of the other convention.
        """
        self._check_convention(scalarizer)
        return indicators.scalarizer_cross_angle(self._minimised(self.values), self.preferences, scalarizer)

    @checks_arguments
    def regret(self, scalarizer: Scalarizer, best_values: ArrayLike | None = None) -> PreferenceRegret:
        """What each preference loses under this scalarizer, against the best of ``best_values`` ``(K, m)``.

        These are an oracle's values or a known front, in the direction of this front; by default the front's own
        points. See :func:`mopref.indicators.scalarizer_regret`.

        Raises:
            ValueError: best values of another number of objectives, or one that is not finite, or a scalarizer of the
                other convention.
        """
        self._check_convention(scalarizer)
        best = self.values if best_values is None else as_points(best_values, "best_values")
        if best.shape[1] != len(self.names):
            raise ValueError(
                f"best_values has shape {best.shape}, but the front has {len(self.names)} objectives: give one column "
                "for each."
            )
        return indicators.scalarizer_regret(
            self._minimised(self.values), self.preferences, scalarizer, self._minimised(best)
        )

    @checks_arguments
    def indicators(
        self,
        reference_point: ArrayLike | None = None,
        true_front: ArrayLike | None = None,
        scalarizer: Scalarizer | None = None,
    ) -> dict[str, Any]:
        """Everything that can be said of this front.

        Keys: ``inner_product``, ``sparsity``, ``spacing``, ``range`` (name to number), ``non_dominated`` and
        ``distinct_non_dominated`` (counts), ``fraction_non_dominated``, ``collapsed``; with a reference point (given,
        or in ``metadata``) also ``hypervolume``, ``hypervolume_exact``, ``reference_point``; with a true front
        ``(K, m)`` also ``igd``, ``igd_plus``, ``gd``, ``gd_plus``, ``fill_distance``; with a scalarizer also
        ``regret_mean`` and ``regret_max``, against the true front where there is one, else against the front's own
        points, and ``cross_angle`` where the scalarizer aims in a direction. Sparsity and spacing may be NaN.
        """
        values, maximize = self.values, self.maximize
        result: dict[str, Any] = {}
        reference = self._reference_point(reference_point)
        if reference is not None:
            volume = indicators.hypervolume_with_method(values, reference, maximize)
            result["hypervolume"], result["hypervolume_exact"] = volume
            result["reference_point"] = reference.tolist()
        result["inner_product"] = indicators.inner_product(self.preferences, values, maximize)
        result["sparsity"] = indicators.sparsity(values, maximize)
        result["spacing"] = indicators.spacing(values, maximize)
        result["range"] = dict(zip(self.names, indicators.range_of_objectives(values).tolist(), strict=True))
        result["non_dominated"] = int(indicators.non_dominated(values, maximize).sum())
        result["distinct_non_dominated"] = indicators.number_of_distinct_non_dominated(values, maximize=maximize)
        result["fraction_non_dominated"] = indicators.fraction_non_dominated(values, maximize)
        result["collapsed"] = self.is_collapsed()
        if true_front is not None:
            result["igd"] = indicators.igd(values, true_front, maximize)
            result["igd_plus"] = indicators.igd_plus(values, true_front, maximize)
            result["gd"] = indicators.gd(values, true_front, maximize)
            result["gd_plus"] = indicators.gd_plus(values, true_front, maximize)
            result["fill_distance"] = indicators.fill_distance(values, true_front)
        if scalarizer is not None:
            result["regret_mean"], result["regret_max"], _ = self.regret(scalarizer, true_front)
            if scalarizer.target_direction(torch.from_numpy(self.preferences)) is not None:
                result["cross_angle"] = self.cross_angle(scalarizer)
        return result

    @checks_arguments
    def is_collapsed(self, tolerance: float = 1e-3, scale: ArrayLike | None = None) -> bool:
        """Whether the preference no longer matters: all that is left to choose from is one point.

        True if the non-dominated of two points or more differ by at most ``tolerance * scale`` from each other in every
        objective; so both if every preference reaches the same point, and if one point dominates the others. With one
        objective there is nothing to trade off, and all points must be that close. A single point is not collapsed: it
        says nothing.

        Args:
            tolerance: share of ``scale`` below which a difference counts as none.
            scale: what a difference is measured against, ``(m,)``: best the nadir minus the ideal point. By default
                each objective's largest absolute value, too much for values that are all large and nearly equal.

        Raises:
            ValueError: a scale of another length.
        """
        if len(self) < 2:
            return False
        size = np.abs(self.values).max(axis=0)
        if scale is not None:
            size = as_vector(named_array(scale, self.names, "scale"), len(self.names), "scale")
        if len(self.names) == 1:
            return bool(np.ptp(self.values) <= tolerance * size)
        return indicators.number_of_distinct_non_dominated(self.values, tolerance * size, self.maximize) == 1

    def non_dominated(self) -> Self:
        """A front of the points that no other one dominates, all copies among them, in the same order."""
        mask = indicators.non_dominated(self.values, self.maximize)
        extra = {name: column[mask] for name, column in self.extra.items()}
        kept = (self.preferences[mask], self.values[mask], self.names, self.maximize, extra, self.metadata)
        return type(self)(*kept, self.convention)

    # -- how it looks --

    @checks_arguments
    def summary(
        self,
        reference_point: ArrayLike | None = None,
        true_front: ArrayLike | None = None,
        scalarizer: Scalarizer | None = None,
        width: int | None = None,
    ) -> str:
        """A table of all points, and the indicators below it, as plain text without escape codes.

        A table that is wider than ``width`` characters becomes several, each with the preferences.
        Where the preferences do not say importance, the head of the table says what they do. A column with an interval
        is written as ``0.598 [0.571, 0.624]``; the line below the table says of which level. The hypervolume has
        its own where its reference point is that of the metadata.
        """
        own = self._reference_point(None)
        return summary_text(self, self.indicators(reference_point, true_front, scalarizer), own, width)

    def plot(
        self,
        path: str | os.PathLike[str] | None = None,
        true_front: ArrayLike | None = None,
        reference_values: Mapping[str, ArrayLike] | None = None,
        reference_point: ArrayLike | None = None,
        title: str | None = None,
    ) -> "Figure":
        """Draw every point; see :func:`mopref.plotting.plot_front`. Saves to ``path`` where one is given."""
        from mopref.plotting import plot_front

        return plot_front(self, path, true_front, reference_values, reference_point, title)

    # -- files --

    def to_frame(self) -> "pd.DataFrame":
        """A pandas table: ``preference_<name>`` and ``<name>`` per objective, then the extra columns."""
        import pandas as pd

        return pd.DataFrame(dict(zip(self.columns(), self.column_arrays(), strict=True)))

    def column_arrays(self) -> list[NDArray[Any]]:
        """The table's columns, N cells each."""
        return [*self.preferences.T, *self.values.T, *self.extra.values()]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a .json file, which holds everything exactly, or a .csv table, which holds no direction, convention or
        metadata.

        The file appears under its name only when it is complete. Missing folders are made.

        Raises:
            ValueError: a name with another ending, or a front that was changed since or is too large (256 MiB), and
                could not be loaded again.
        """
        path = checked_path(path, "path")
        as_csv = is_csv(path)
        try:
            front = Front(*self._content()[:-1], convention=self.convention)
        except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise ValueError(
                f"the front was changed after it was made, and neither JSON nor CSV could be loaded again: {error}"
            ) from error
        text = to_csv(front.columns(), front.column_arrays()) if as_csv else to_json(front._content())
        write_atomically(path, text.encode())

    def _content(self) -> FrontContent:
        arrays = (self.preferences, self.values, self.names, self.maximize, self.extra, self.metadata)
        return FrontContent(*arrays, self.convention)

    @classmethod
    @checks_arguments(but=("maximize", "convention"))
    def load(
        cls,
        path: str | os.PathLike[str],
        maximize: Maximize | None = None,
        convention: RecordedConvention | None = None,
    ) -> Self:
        """The front that :meth:`save` wrote.

        A .json file comes back exactly, or is refused where the sha256 in it says that it was changed. A .csv file, of
        which a cut is noticed and a changed number is not, does not hold the direction, so it must be given as
        ``maximize`` (and only there), nor what its preferences say, which is "unrecorded" where it is not given as
        ``convention``; its metadata is empty, and strings that look like numbers or bools become those. A .json file of
        version 1 holds no convention either: it is "unrecorded", with a warning, where it is not given.

        Raises:
            FileNotFoundError: no such file.
            ValueError: a file that is something else, incomplete, changed, of a newer version, larger than 256 MiB, or
                holds values that a front refuses, or a direction or a convention beside the file's own.
        """
        path = checked_path(path, "path")
        if is_csv(path) == (maximize is None):
            raise ValueError(
                f"{path} does not say whether higher is better: give maximize=... (a .json file would hold it)."
                if maximize is None
                else f"{path} holds the direction of its objectives itself: leave maximize out."
            )
        try:
            text = read_text(path)
            content = from_json(text) if maximize is None else from_csv(text, maximize, convention or "unrecorded")
            front = cls(*content[:-1], convention=content.convention or "unrecorded")
        except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise ValueError(f"{path} is not a front that Front.save wrote, or it was damaged: {error}") from error
        if maximize is None:
            front.convention = told_convention(content.convention, convention, path)
        return front

"""A front in two, three or more objectives."""

import os
from collections.abc import Mapping

from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from mopref import indicators
from mopref._arrays import as_points, as_vector
from mopref._terminal import visible_line
from mopref.argument_kinds import checks_arguments
from mopref.front import Front
from mopref.plotting.parallel import draw_parallel
from mopref.plotting.plane import draw_plane
from mopref.plotting.space import draw_space
from mopref.plotting.style import check_front, new_figure, save, style

__all__ = ["plot_front"]


@checks_arguments
def plot_front(
    front: Front,
    path: str | os.PathLike[str] | None = None,
    true_front: ArrayLike | None = None,
    reference_values: Mapping[str, ArrayLike] | None = None,
    reference_point: ArrayLike | None = None,
    title: str | None = None,
) -> Figure:
    """Draw a front: two objectives as a scatter plot, three in 3-D, more as parallel coordinates.

    The colour is the first objective's preference. Dominated points are squares with a dark edge (a dashed line in
    parallel coordinates). With two objectives, a thin line joins the points in the order of their preferences: where it
    turns back, a preference did not get what it asked for. Intervals of the objectives (see
    :mod:`mopref.front.intervals`) are thin bars in the colours of their points.

    Args:
        front: what to draw, of two objectives or more.
        path: where to write the picture (.png, .pdf, .svg, …), or ``None``. Missing folders are made.
        true_front: points of the known front ``(K, m)``, drawn in grey underneath: as a line, as points on a surface,
            or as thin lines.
        reference_values: label to values ``(m,)``, such as ``{"base model": [0.7, 0.7]}``.
        reference_point: the hypervolume's reference point ``(m,)``; drawn, and named together with the hypervolume.
        title: title of the picture.

    Raises:
        ValueError: a front of one objective, points of another number of objectives, a number that is not finite, or a
            path whose ending is no picture's.
    """
    check_front(front)
    number_of_objectives = len(front.names)
    true_points = None if true_front is None else as_points(true_front, "true_front")
    if true_points is not None and true_points.shape[1] != number_of_objectives:
        raise ValueError(
            f"true_front has shape {true_points.shape}, but the front has {number_of_objectives} objectives: give one "
            "column for each."
        )
    marks = {
        visible_line(label): as_vector(point, number_of_objectives, f"reference_values[{label!r}]")
        for label, point in (reference_values or {}).items()
    }
    if reference_point is not None:
        volume = indicators.hypervolume_with_method(front.values, reference_point, front.maximize)
        label = f"reference point\n(hypervolume {volume.value:.4g}{'' if volume.exact else ', approximate'})"
        marks[label] = as_vector(reference_point, number_of_objectives, "reference_point")
    with style():
        figure = new_figure(7.6, 6.2) if number_of_objectives == 3 else new_figure(7.2, 5.2)
        draw = {2: draw_plane, 3: draw_space}.get(number_of_objectives, draw_parallel)
        axes = draw(figure, front, true_points, marks)
        if title is not None:
            axes.set_title(title, pad=12)
        save(figure, path)
    return figure

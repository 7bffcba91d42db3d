"""Three objectives: points in space, over the true front as a surface."""

from typing import Any, cast

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from mpl_toolkits.mplot3d.art3d import Line3DCollection
from numpy.typing import NDArray

from mopref._arrays import Array, signs
from mopref.front import Front
from mopref.plotting.style import (
    DARK,
    POINT_SIZE,
    add_color_bar,
    axis_label,
    interval_bars,
    point_looks,
    preference_colors,
)

__all__ = ["draw_space"]

# A triangle whose longest edge is so many times the usual distance of neighbours bridges a gap of the front.
_LONGEST_EDGE = 4.0


def draw_space(figure: Figure, front: Front, true_points: Array | None, marks: dict[str, Array]) -> Axes:
    """Draw a front of three objectives with its intervals, the known front as a light surface, and labelled marks."""
    axes: Any = figure.add_subplot(projection="3d", computed_zorder=False)
    color_map, scale = preference_colors()
    if true_points is not None:
        triangles = _surface(true_points, front)
        if len(triangles):
            axes.plot_trisurf(
                *true_points.T, triangles=triangles, color="0.92", shade=False, linewidth=0, antialiased=False, zorder=1
            )
        axes.scatter(*true_points.T, color="0.75", s=4, depthshade=False, linewidths=0, zorder=2, label="true front")
    bars = interval_bars(front)
    if len(bars.ends):
        axes.add_collection3d(Line3DCollection(list(bars.ends), zorder=2.5, **bars.look))
        # Older versions of matplotlib make no room for a collection.
        axes.auto_scale_xyz(*bars.ends.reshape(-1, 3).T, had_data=True)
        axes.scatter([], [], marker="+", **bars.key)
    for rows, look in point_looks(front):
        axes.scatter(
            *front.values[rows].T,
            c=front.preferences[rows, 0],
            cmap=color_map,
            norm=scale,
            s=POINT_SIZE,
            depthshade=False,
            zorder=3,
            **look,
        )
        if look["marker"] != "o":
            axes.scatter([], [], s=POINT_SIZE, facecolors="none", label="dominated", **look)
    for index, (label, mark) in enumerate(marks.items()):
        # Marks on the diagonal, such as equal losses, are seen almost as one: their labels go above and below.
        side = "bottom" if index % 2 == 0 else "top"
        axes.scatter(*mark[:, None], marker="X", s=80, color=DARK, depthshade=False, zorder=4)
        axes.text(*mark, f"   {label}", fontsize="small", color=DARK, va=side, zorder=5)
    for objective, axis in enumerate((axes.xaxis, axes.yaxis, axes.zaxis)):
        axis.set_label_text(axis_label(front, objective).strip("←→ ").replace(" (", "\n("))
        axis.labelpad = 12
        axis.pane.fill = False
        axis.set_major_locator(mpl.ticker.MaxNLocator(5))
    axes.tick_params(labelsize="small")
    # Along the diagonal the corners lie apart, and minimised points that fall short stand before the true front.
    axes.view_init(elev=28, azim=40)
    axes.set_box_aspect(None, zoom=0.87)
    add_color_bar(figure, axes, front, pad=0.06)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="upper left", frameon=False, fontsize="small", markerscale=1.5)
    return cast(Axes, axes)


def _surface(points: Array, front: Front) -> NDArray[np.intp]:
    """Triangles between the points of a known front ``(t, 3)``, none across a gap; none at all where they span no area.

    Seen along the diagonal from the ideal point, no non-dominated point hides another, so that a triangulation of that
    flat view is one of the surface.
    """
    from scipy.spatial import Delaunay, QhullError

    size = np.ptp(points, axis=0)
    if len(points) < 4 or (size == 0).any():
        return np.empty((0, 3), dtype=np.intp)
    unit = (points - points.min(axis=0)) / size * signs(front.maximize, 3)
    flat = unit @ np.array([[1.0, 1.0], [-1.0, 1.0], [0.0, -2.0]]) / np.sqrt([2.0, 6.0])
    try:
        triangles = Delaunay(flat).simplices
    except QhullError:  # all on one line
        return np.empty((0, 3), dtype=np.intp)
    corners = unit[triangles]
    edges = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2)
    # Also a triangle across a gap has its shortest edge inside the front.
    return np.asarray(triangles[edges.max(axis=1) <= _LONGEST_EDGE * np.median(edges.min(axis=1))])

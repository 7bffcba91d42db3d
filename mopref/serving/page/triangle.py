"""A triangle to drag λ of three objectives in, as a component of the page: its markup, and where its script is."""

import json
from collections.abc import Sequence
from importlib.resources import files

from mopref.serving.page.region_picture import CORNERS, point_in
from mopref.serving.page.simplex import corner
from mopref.serving.page.texts import template_text

__all__ = ["triangle_script", "triangle_template"]

# Where the names of the corners stand; long ones grow inwards.
_LABELS = ((230, 22, "middle"), (4, 362, "start"), (456, 362, "end"))


def triangle_template(objectives: Sequence[str], minimums: Sequence[float]) -> str:
    """The markup of the triangle, the same whatever λ is; the script moves its handle.

    Args:
        objectives: the names of three objectives.
        minimums: their least weights, ``(3,)``; what they forbid is hatched.
    """
    names, corners, least = (template_text(json.dumps(each)) for each in (objectives, CORNERS, list(minimums)))
    whole = " ".join(f"{x},{y}" for x, y in CORNERS)
    allowed = " ".join("{:.1f},{:.1f}".format(*point_in(corner(place, minimums))) for place in range(3))
    labels = "".join(
        f'<text class="axis" x="{x}" y="{y}" text-anchor="{anchor}">all {template_text(_short(name))}</text>'
        for name, (x, y, anchor) in zip(objectives, _LABELS, strict=True)
    )
    return (
        f'<svg class="triangle" viewBox="0 0 460 374" data-names="{names}" data-corners="{corners}" '
        f'data-minimums="{least}"><polygon class="forbidden" points="{whole}"/>'
        f'<polygon class="allowed" points="{allowed}"/>{labels}'
        '<g class="handle" tabindex="0" role="slider" aria-label="balance of the three objectives: up and down for the '
        'first, left and right between the others" aria-valuemin="0" aria-valuemax="100" aria-valuenow="0">'
        '<circle r="30" class="reach"/><circle r="13" class="knob"/><path class="cross" d="M-7 0H7M0 -7V7"/></g></svg>'
    )


def triangle_script() -> str:
    """The script that moves the handle."""
    return files("mopref.serving.page").joinpath("triangle.js").read_text(encoding="utf-8")


def _short(name: str) -> str:
    return name if len(name) <= 16 else f"{name[:15]}…"

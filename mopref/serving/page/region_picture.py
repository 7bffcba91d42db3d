"""Where a visitor's λ lies, by their choices, as markup: a track, a triangle, or a bar for each objective."""

from collections.abc import Sequence

from mopref.personal import CredibleRegion
from mopref.serving.page.texts import escaped, preference_text

__all__ = ["CORNERS", "point_in", "region_markup", "region_sentence"]

_WIDTH, _HEIGHT = 460, 380
# Of a triangle the corners of objectives 1, 2 and 3: above, below on the left, below on the right.
CORNERS = ((230.0, 40.0), (50.0, 330.0), (410.0, 330.0))


def point_in(preference: Sequence[float]) -> tuple[float, float]:
    """Where λ of three objectives lies in the triangle: Σ_i λ_i · corner_i.

    Example:
        >>> point_in((1.0, 0.0, 0.0))
        (230.0, 40.0)
    """
    x, y = (sum(weight * corner[axis] for weight, corner in zip(preference, CORNERS, strict=True)) for axis in (0, 1))
    return x, y


def region_sentence(region: CredibleRegion, preference: Sequence[float]) -> str:
    """λ and its bounds in words; not escaped."""
    bounds = ", ".join(
        f"{name} between {low:.2f} and {high:.2f}"
        for name, (low, high) in zip(region.names, region.intervals.tolist(), strict=True)
    )
    return (
        f"{preference_text(region.names, preference)}. With a probability of {100 * region.level:g} % each by itself: "
        f"{bounds}. The region holds {100 * region.volume:.0f} % of all balances."
    )


def region_markup(region: CredibleRegion, preference: Sequence[float]) -> str:
    """The region on the simplex, filled where the rest is hollow, with λ as a diamond.

    Args:
        region: of m objectives.
        preference: its λ, ``(m,)``.
    """
    sentence = escaped(region_sentence(region, preference))
    shown, height = {2: _track, 3: _triangle}.get(len(region.names), _bars)(region, preference)
    picture = f'<svg class="picture" viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{sentence}">{shown}</svg>'
    if len(region.names) <= 3:
        told = '<span aria-hidden="true">●</span> where you are, <span aria-hidden="true">·</span> where you are not'
    else:
        told = '<span aria-hidden="true">▬</span> where each of your weights is'
    key = f'<p class="key">{told}, <span class="mark-text" aria-hidden="true">◆</span> you</p>'
    return f"<figure>{picture}{key}<figcaption>{sentence}</figcaption></figure>"


def _track(region: CredibleRegion, preference: Sequence[float]) -> tuple[str, int]:
    left, right = 20.0, _WIDTH - 20.0
    parts = [f'<path class="edge" d="M{left} 60H{right}"/>']
    for point, inside in zip(region.points.tolist(), region.inside.tolist(), strict=True):
        parts.append(_dot(left + (right - left) * point[0], 60, inside, 2.6))
    parts.append(_diamond(left + (right - left) * preference[0], 60))
    first, second = region.names
    parts.append(f'<text class="axis" x="{left}" y="26">all {escaped(_short(second))}</text>')
    parts.append(f'<text class="axis" x="{right}" y="26" text-anchor="end">all {escaped(_short(first))}</text>')
    return "".join(parts), 90


def _triangle(region: CredibleRegion, preference: Sequence[float]) -> tuple[str, int]:
    outline = " ".join(f"{x},{y}" for x, y in CORNERS)
    parts = [f'<polygon class="edge" points="{outline}"/>']
    for point, inside in zip(region.points.tolist(), region.inside.tolist(), strict=True):
        parts.append(_dot(*point_in(point), inside, 5.2))
    parts.append(_diamond(*point_in(preference)))
    places = ((230, 22, "middle"), (4, 358, "start"), (456, 358, "end"))
    for name, (x, y, anchor) in zip(region.names, places, strict=True):
        parts.append(f'<text class="axis" x="{x}" y="{y}" text-anchor="{anchor}">all {escaped(_short(name))}</text>')
    return "".join(parts), _HEIGHT


def _bars(region: CredibleRegion, preference: Sequence[float]) -> tuple[str, int]:
    left, right = 20.0, _WIDTH - 20.0
    parts = []
    rows = zip(region.names, region.intervals.tolist(), preference, strict=True)
    for place, (name, (low, high), weight) in enumerate(rows):
        y = 36 + 50 * place
        start, end, at = (left + (right - left) * value for value in (low, high, weight))
        parts.append(f'<text class="axis" x="{left}" y="{y - 16}">{escaped(_short(name))}, 0 to 1</text>')
        parts.append(f'<path class="edge" d="M{left} {y}H{right}"/>')
        parts.append(f'<path class="span" d="M{start:.1f} {y}H{end:.1f}"/>')
        parts.append(_diamond(at, y))
    return "".join(parts), 36 + 50 * len(region.names)


def _dot(x: float, y: float, inside: bool, radius: float) -> str:
    kind, size = ("inside", radius) if inside else ("outside", 1.2)
    return f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{size}"/>'


def _diamond(x: float, y: float) -> str:
    return f'<path class="mark" d="M{x:.1f} {y - 8:.1f}l8 8l-8 8l-8 -8z"/>'


def _short(name: str) -> str:
    return name if len(name) <= 16 else f"{name[:15]}…"

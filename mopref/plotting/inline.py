"""A figure as markup that stands within an HTML page: SVG that names nothing outside it and disturbs nothing in it."""

import io
import re
from collections.abc import Callable
from xml.etree import ElementTree

import matplotlib as mpl
from matplotlib.figure import Figure

__all__ = ["inline_svg"]

_SVG, _LINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
_REFERENCE = re.compile(r"url\(#([^)]*)\)")
# What matplotlib says of every element in a style sheet, which would hold for the whole page.
_ROOT_STYLE = "stroke-linejoin: round; stroke-linecap: butt"


def inline_svg(figure: Figure, name: str, label: str) -> str:
    """The markup of a figure: the same each time, without a style sheet, and with text as text.

    Args:
        figure: what to draw.
        name: unlike that of any other picture of the page; every id begins with it.
        label: what is to be seen, for readers who do not see it.

    Example:
        >>> from matplotlib.figure import Figure
        >>> inline_svg(Figure((1, 1)), "empty", "nothing")[:54]
        '<svg width="72pt" height="72pt" viewBox="0 0 72 72" ve'
    """
    content = io.BytesIO()
    # Without a salt ids are drawn by chance; without dates and names no metadata are written.
    with mpl.rc_context({"svg.hashsalt": "mopref", "svg.fonttype": "none"}):
        figure.savefig(content, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    root = ElementTree.fromstring(content.getvalue())
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{{{_SVG}}}style", f"{{{_SVG}}}metadata"):
                parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.removeprefix(f"{{{_SVG}}}")
        element.attrib = {key: value for key, value in map(_renamed(name), element.attrib.items())}
    root.attrib |= {"style": _ROOT_STYLE, "role": "img", "aria-label": label}
    return ElementTree.tostring(root, encoding="unicode")


def _renamed(name: str) -> Callable[[tuple[str, str]], tuple[str, str]]:
    """Give ids, and what refers to them, the picture's own beginning."""

    def renamed(attribute: tuple[str, str]) -> tuple[str, str]:
        key, value = attribute
        if key == "id":
            return key, f"{name}-{value}"
        if key == f"{{{_LINK}}}href":
            # What is no part of the picture is a bar of colours, as data.
            return "href", f"#{name}-{value[1:]}" if value.startswith("#") else value
        return key, _REFERENCE.sub(rf"url(#{name}-\1)", value)

    return renamed

"""What is wrong with a body that is no form, in sentences for whoever sent it."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from mopref._repr import short_repr

__all__ = ["Malformation", "malformation"]

_HEADER = "'Content-Type: application/json'"
_STOP = "give a text of 1 to 64 characters, or up to four of them"
_MOST = 3


class Malformation(NamedTuple):
    """A sentence, and the field that it is about."""

    sentence: str
    param: str | None


def malformation(
    problems: Sequence[Mapping[str, Any]], body: Any, content_type: str | None, example: str
) -> Malformation:
    """What is wrong with a body.

    Args:
        problems: as pydantic tells them.
        body: what was sent, as far as it was read.
        content_type: the header of that name.
        example: how a preference is given.
    """
    whole = next(
        (problem for problem in problems if len(problem["loc"]) < 2 or problem["type"] == "json_invalid"), None
    )
    if whole is not None:
        return Malformation(f"{_of_the_whole(whole, content_type)}.", None)
    # Of any kind that these two may be of, none fits; what each of them lacks says little.
    for name, remedy in (("preference", example), ("stop", _STOP)):
        if any(problem["loc"][1] == name for problem in problems):
            return Malformation(f"{_of_a_field(name, body)}: {remedy}.", name)
    told = "; ".join(map(_told, problems[:_MOST]))
    more = f"; and {len(problems) - _MOST} more" if len(problems) > _MOST else ""
    return Malformation(f"{told}{more}.", _place(problems[0]["loc"]))


def _of_the_whole(problem: Mapping[str, Any], content_type: str | None) -> str:
    if problem["type"] == "json_invalid":
        return f"the body is no JSON, from character {problem['loc'][-1]} on: mend it there"
    if problem["type"] == "missing":
        return "the body is empty: send JSON with messages and a preference"
    if content_type is None or "json" not in content_type.lower():
        return f"the body is not said to be JSON: send it with the header {_HEADER}"
    return "the body is JSON, and no object: send one with messages and a preference"


def _of_a_field(name: str, body: Any) -> str:
    value = body.get(name) if isinstance(body, Mapping) else None
    return f"{name} is missing" if value is None else f"{name} is {short_repr(value)}, which is none"


def _told(problem: Mapping[str, Any]) -> str:
    place = _place(problem["loc"])
    if problem["type"] == "missing":
        return f"{place} is missing"
    if problem["type"] == "extra_forbidden":
        return f"{place} is no field of a request here, so leave it out"
    return f"{place}: {problem['msg']}"


def _place(location: Sequence[Any]) -> str:
    """Where in a body a mistake is, bounded: names in it are a stranger's."""
    return ".".join(str(part) for part in location[1:])[:120].encode("utf-8", "backslashreplace").decode()

"""What is called: a right call of a public name, and a check of what comes back where a case is taken."""

import importlib.util
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from benchmarks.bad_input.junk import any_junk, spoilt
from benchmarks.bad_input.outcomes import UsersOwnError

__all__ = ["Target", "cases", "keywords", "options_of", "without"]


@dataclass(frozen=True)
class Target:
    """One call to be spoilt.

    Attributes:
        name: the public name that it covers, such as ``mopref.indicators.igd``.
        group: a row of the table.
        call: a function of the arguments by name.
        arguments: makes a right call's arguments, anew for each case.
        check: looks at the result of a case that was taken and at its arguments, and raises ``Nonsense``.
        weight: how many cases it gets beside others; calls that take long get few.
        covers: other public names that the call runs through.
        strategy: draws a case's arguments in another way than by spoiling the right ones.
        writes: whether the call is handed a scratch folder as ``folder``, in which a refused call may leave nothing.
        stage: puts what the call reads into the scratch folder, before each case.
        refused_alone: why even the right call is refused here; blank where it is taken, as nearly all are.
    """

    name: str
    group: str
    call: Callable[..., Any]
    arguments: Callable[[], Mapping[str, Any]]
    check: Callable[[Any, Mapping[str, Any]], None] | None = None
    weight: float = 1.0
    covers: tuple[str, ...] = ()
    writes: bool = False
    strategy: st.SearchStrategy[Any] | None = None
    stage: Callable[[Path], None] | None = None
    refused_alone: str = ""


@st.composite
def cases(draw: st.DrawFn, target: Target) -> dict[str, Any]:
    """Arguments of which one, seldom two or three, are spoilt."""
    if target.strategy is not None:
        return dict(draw(target.strategy))
    arguments = dict(target.arguments())
    names = [name for name in arguments if not name.startswith("_")]
    if not names:
        return arguments
    count = draw(st.sampled_from([1, 1, 1, 1, 2, 3]))
    for name in draw(st.lists(st.sampled_from(names), min_size=1, max_size=count, unique=True)):
        junk = any_junk() if draw(st.integers(0, 3)) == 0 else spoilt(arguments[name])
        arguments[name] = draw(junk)
    return arguments


def options_of(function: Callable[..., Any], **right: Any) -> dict[str, Any]:
    """The arguments of a function by name: its defaults, and the right values that are given."""
    parameters = inspect.signature(function).parameters.values()
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    defaults = {p.name: p.default for p in parameters if p.kind not in kinds and p.default is not p.empty}
    return {**defaults, **right}


def without(package: str) -> str:
    """Why a call that needs an optional package is refused here; blank where the package is installed."""
    return "" if importlib.util.find_spec(package) else f"{package} is not installed"


def keywords(options: Any) -> dict[str, Any]:
    """Options for ``**``; what Python itself does not take there is no case of the library's."""
    if not isinstance(options, dict) or not all(isinstance(name, str) for name in options):
        raise UsersOwnError
    return options

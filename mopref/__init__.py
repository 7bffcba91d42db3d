"""mopref: one model for every balance of objectives.

A preference λ on the simplex conditions one model, which then stands for the whole Pareto front. See ``ParetoTrainer``.

The names are those of ``mopref._names``. They are loaded, and torch with them, when the first of them is asked for, so
that the command line can print its help at once.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mopref._names import *  # noqa: F403

__version__ = "0.2.0"


if not TYPE_CHECKING:

    def __getattr__(name):
        """A name of the user's, or a room of the house."""
        from importlib import import_module
        from importlib.util import find_spec

        # Rooms first: they import each other while no name can be had yet.
        if not name.startswith("_") and find_spec(f"{__name__}.{name}") is not None:
            return import_module(f"{__name__}.{name}")
        if name.startswith("__") and name != "__all__":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        content = vars(import_module("mopref._names"))
        names = import_module("mopref._faces").public_names(content)
        globals().update({known: content[known] for known in names}, __all__=names)
        if name not in globals():
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return globals()[name]

    def __dir__():
        """The names, also before they are loaded."""
        return sorted({*globals(), *__getattr__("__all__")})

"""What static analysis cannot know of the package: which names its faces give, and how its docstrings name others."""

import re
from typing import Any

import griffe


class Faces(griffe.Extension):
    """Sets what a package exports, which it computes itself (``mopref._faces``); makes code of roles and examples.

    A face gives the names that it imports as they are, ``from .pbi import PBI as PBI``. A role is Sphinx's
    ``:meth:`scalarize```, which editors know and Markdown does not.
    """

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Make code of the roles and of the example in a docstring."""
        if obj.docstring is not None:
            text = re.sub(r":(?:meth|func|attr|class|mod|data):(?=`)", "", obj.docstring.value)
            # Without the plural it would be a box of text, not code.
            obj.docstring.value = re.sub(r"^Example:$", "Examples:", text, flags=re.MULTILINE)

    def on_package(self, *, pkg: griffe.Module, loader: griffe.GriffeLoader, **_: Any) -> None:
        """Set the exports of the package and of all packages below."""
        self._set_exports(pkg)

    def _set_exports(self, module: griffe.Module) -> None:
        if module.is_init_module and not module.exports:
            module.exports = [
                name
                for name, member in module.members.items()
                if isinstance(member, griffe.Alias)
                and member.target_path.startswith("mopref.")
                and not name.startswith("_")
            ]
        for member in module.members.values():
            if not member.is_alias and member.is_module:
                self._set_exports(member)

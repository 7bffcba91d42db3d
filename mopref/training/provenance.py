"""What a result was made with: versions, threads and processes, without which its last digits cannot be had again."""

import platform
from collections.abc import Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

__all__ = ["made_with", "package_versions"]

_PACKAGES = ("mopref", "torch", "numpy", "accelerate")


def package_versions(packages: Sequence[str] = _PACKAGES) -> dict[str, str]:
    """The versions of Python and of packages, by default those that the training's numbers depend on.

    A package that is not installed is left out.
    """
    found = {name: _version(name) for name in packages}
    return {"python": platform.python_version(), **{name: number for name, number in found.items() if number}}


@cache
def _version(package: str) -> str | None:
    # Kept, since every front of a training asks.
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def made_with(num_processes: int = 1) -> dict[str, Any]:
    """Versions, and the numbers of threads and processes: a sum that is cut into other parts is rounded otherwise.

    Args:
        num_processes: of the run.
    """
    return {"versions": package_versions(), "threads": torch.get_num_threads(), "processes": num_processes}

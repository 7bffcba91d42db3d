"""What a result was made with: versions, threads and processes, without which its last digits cannot be had again."""

import platform
from importlib.metadata import version
from typing import Any

import torch

__all__ = ["made_with", "package_versions"]

_PACKAGES = ("mopref", "torch", "numpy", "accelerate")


def package_versions() -> dict[str, str]:
    """The versions of Python and of the packages that the training's numbers depend on."""
    return {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}}


def made_with(num_processes: int = 1) -> dict[str, Any]:
    """Versions, and the numbers of threads and processes: a sum that is cut into other parts is rounded otherwise.

    Args:
        num_processes: of the run.
    """
    return {"versions": package_versions(), "threads": torch.get_num_threads(), "processes": num_processes}

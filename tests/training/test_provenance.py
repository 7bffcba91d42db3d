"""What a result was made with."""

from importlib.metadata import version

import torch

from mopref.training.provenance import made_with, package_versions


def test_versions_are_those_that_are_installed():
    versions = package_versions()
    assert versions["torch"] == version("torch")
    assert {"python", "mopref", "numpy", "accelerate"} <= versions.keys()


def test_threads_and_processes_are_said():
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 2)
    try:
        made = made_with(3)
    finally:
        torch.set_num_threads(threads)
    assert (made["threads"], made["processes"]) == (threads + 2, 3)
    assert made["versions"] == package_versions()

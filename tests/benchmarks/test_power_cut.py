"""Power cuts lose nothing that was reported as written; benchmarks/power_cut.py has them all."""

import importlib
import random
from pathlib import Path

import pytest
import torch


@pytest.fixture
def power_cut(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    return importlib.import_module("power_cut")


@pytest.mark.parametrize(
    "name", ["toy, all kept", "toy, last 2 kept", "adapter", "conditioning", "front.json", "front.csv"]
)
def test_nothing_reported_is_lost_in_a_power_cut(power_cut, name):
    count = power_cut.tried(power_cut.CASES[name](), draws=1, resumes=4, seed=0)
    assert count.cuts > 20
    assert count.reported > 0
    assert (count.lost, count.different) == (0, 0)
    assert count.resumed == (4 if name.startswith("toy") else 0)


@pytest.mark.parametrize("name", ["toy, all kept", "adapter", "front.json"])
def test_without_synchronisation_much_is_lost(power_cut, name):
    """The trial can fail: on a disk that ignores fsync it does."""
    count = power_cut.tried(power_cut.CASES[name](), draws=1, resumes=0, seed=0, synchronises=False)
    assert count.lost > count.reported / 5


# What the model of a disk takes for certain.


def disks(power_cut, folder, work, synchronises=True, count=60):
    """What may be left of a folder after ``work``."""
    start = folder / "start"
    start.mkdir()
    with power_cut.recorded(start, synchronises) as (steps, tell):
        work(start)
        tell("end")
    found = set()
    for number in range(count):
        left = folder / str(number)
        power_cut.left(steps, len(steps) - 1, left, random.Random(number))
        found.add(tuple(sorted((p.name, p.read_bytes() if p.is_file() else b"/") for p in left.rglob("*"))))
    return found


def test_a_file_is_certain_only_with_its_content_and_its_name(power_cut, tmp_path):
    from mopref._atomic_writes import sync

    def write(folder):
        (folder / "a").write_bytes(b"text")

    def write_content(folder):
        write(folder)
        sync(folder / "a")

    def write_both(folder):
        write_content(folder)
        sync(folder)

    (tmp_path / "1").mkdir()
    assert {(), (("a", b""),), (("a", b"te"),), (("a", b"text"),)} <= disks(power_cut, tmp_path / "1", write)
    (tmp_path / "2").mkdir()
    assert disks(power_cut, tmp_path / "2", write_content) == {(), (("a", b"text"),)}
    (tmp_path / "3").mkdir()
    assert disks(power_cut, tmp_path / "3", write_both) == {(("a", b"text"),)}


def test_a_renaming_happens_as_a_whole_or_not_at_all(power_cut, tmp_path):
    from mopref._atomic_writes import sync

    def work(folder):
        (folder / "a").write_bytes(b"text")
        sync(folder / "a")
        sync(folder)
        (folder / "a").rename(folder / "b")

    assert disks(power_cut, tmp_path, work) == {(("a", b"text"),), (("b", b"text"),)}


@pytest.fixture(autouse=True)
def generators():
    with torch.random.fork_rng():
        yield


def test_half_of_a_removed_folder_is_never_there_under_its_name(power_cut, tmp_path):
    from mopref._atomic_writes import remove_folder, replace_folder

    def removed(folder):
        with replace_folder(folder / "a") as unfinished:
            for name in ("x", "y", "z"):
                (unfinished / name).write_bytes(b"text")
        remove_folder(folder / "a")

    # The hidden one's number is another one each time.
    for left in disks(power_cut, tmp_path, removed):
        names = {name for name, _ in left}
        assert "a" not in names or names == {"a", "x", "y", "z"}

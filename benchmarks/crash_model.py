"""What a power cut may leave of a folder: a log of what was done to it, replayed up to a moment.

Only what was synchronised counts as being on the disk: a file's content by fsync of the file, the names in a folder
by fsync of that folder. Of everything since then each operation on names (creation, renaming, removal) may have
reached the disk or not, one without the others, and a content may be there, be the older one, or be empty, cut or
zeros. File systems keep more order than that; what survives here survives on them.
"""

import os
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["Step", "left", "recorded"]

_NAMES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate")
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
# A folder's number and generation, or a file's; the second since numbers are used again.
Node = tuple[int, int]
# The names in every folder, by the folder's own node.
Tree = dict[Node, dict[str, Node]]


class Step(NamedTuple):
    """What was there at one moment, and what was synchronised or told then.

    Attributes:
        tree: the names in every folder.
        contents: of every file.
        synchronised: the file or folder that was just synchronised, if any.
        told: what was told then, "" for nothing.
    """

    tree: Tree
    contents: dict[Node, bytes]
    synchronised: Node | None = None
    told: str = ""


class _Recorder:
    """Looks at a folder before each file operation of this process."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.is_at_work = folder.resolve(), False
        self.steps: list[Step] = []
        self._generations: dict[int, int] = {}
        self._alive: set[int] = set()
        self._files: dict[Node, tuple[tuple[int, int], bytes]] = {}

    def look(self, synchronised: int | None = None, told: str = "") -> None:
        """Add a step: the folder as it is."""
        self.is_at_work, was = False, self.is_at_work
        tree: Tree = {}
        contents: dict[Node, bytes] = {}
        alive: set[int] = set()
        self._enter(str(self.folder), tree, contents, alive)
        self._alive = alive
        node = None if synchronised is None else (synchronised, self._generations.get(synchronised, 0))
        self.steps.append(Step(tree, contents, node, told))
        self.is_at_work = was

    def _node(self, number: int, alive: set[int]) -> Node:
        if number not in self._alive and number not in alive:
            self._generations[number] = self._generations.get(number, 0) + 1
        alive.add(number)
        return number, self._generations[number]

    def _enter(self, path: str, tree: Tree, contents: dict[Node, bytes], alive: set[int]) -> Node:
        node = self._node(os.stat(path).st_ino, alive)
        names = tree.setdefault(node, {})
        for entry in os.scandir(path):
            if entry.is_dir(follow_symlinks=False):
                names[entry.name] = self._enter(entry.path, tree, contents, alive)
                continue
            facts = entry.stat()
            child = names[entry.name] = self._node(facts.st_ino, alive)
            stamp = (facts.st_mtime_ns, facts.st_size)
            if self._files.get(child, (None, b""))[0] != stamp:
                self._files[child] = (stamp, Path(entry.path).read_bytes())
            contents[child] = self._files[child][1]
        return node


@contextmanager
def recorded(folder: Path, synchronises: bool = True) -> Iterator[tuple[list[Step], Callable[[str], None]]]:
    """Record what this process does to a folder; yields the steps, and a function that notes what is told at a moment.

    Args:
        folder: what is in it at the beginning is on the disk.
        synchronises: false for a disk on which fsync does nothing.
    """
    recorder = _Recorder(folder)
    recorder.look()
    synchronise = os.fsync

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if not recorder.is_at_work:
            return
        if event in _NAMES or (event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITES):
            recorder.look()

    def fsync(descriptor: Any) -> None:
        synchronise(descriptor)
        number = descriptor if isinstance(descriptor, int) else descriptor.fileno()
        if synchronises:
            recorder.look(synchronised=os.fstat(number).st_ino)

    def tell(told: str) -> None:
        recorder.look(told=told)

    sys.addaudithook(hook)
    os.fsync = fsync
    recorder.is_at_work = True
    try:
        yield recorder.steps, tell
    finally:
        recorder.is_at_work = False
        os.fsync = synchronise


class _Change(NamedTuple):
    """One operation on names: what each name stands for after it, ``None`` for nothing."""

    names: dict[tuple[Node, str], Node | None]


def _changes(before: Tree, after: Tree) -> list[_Change]:
    """What was done between two moments; a node that changed its name was renamed, which happens as a whole."""
    old = {(folder, name): node for folder, names in before.items() for name, node in names.items()}
    new = {(folder, name): node for folder, names in after.items() for name, node in names.items()}
    removed = {node: place for place, node in old.items() if new.get(place) != node}
    changes, done = [], set()
    for place, node in new.items():
        if old.get(place) == node:
            continue
        names: dict[tuple[Node, str], Node | None] = {place: node}
        if node in removed and removed[node] not in new:
            names[removed[node]] = None
            done.add(removed[node])
        changes.append(_Change(names))
    # What a removed folder held was removed before it.
    gone = [place for place in old if place not in new and place not in done]
    changes += [_Change({place: None}) for place in reversed(gone)]
    return changes


def left(steps: list[Step], cut: int, folder: Path, generator: random.Random) -> None:
    """Write into a new folder what may be there after a power cut behind ``steps[cut]``.

    Args:
        steps: of :func:`recorded`.
        cut: number of the last step before the cut.
        folder: where to; it does not exist.
        generator: decides what of the rest has reached the disk.
    """
    root = next(iter(steps[0].tree))
    durable: Tree = {node: dict(names) for node, names in steps[0].tree.items()}
    contents = dict(steps[0].contents)
    waiting: list[_Change] = []
    for before, step in pairwise(steps[: cut + 1]):
        waiting += _changes(before.tree, step.tree)
        node = step.synchronised
        if node in step.contents:
            contents[node] = step.contents[node]
        elif node is not None and node in step.tree:
            # All that concerns this folder's names, and with a renaming what it did elsewhere.
            for change in [change for change in waiting if any(place[0] == node for place in change.names)]:
                _apply(durable, change)
                waiting.remove(change)
            durable[node] = dict(step.tree[node])
    share = generator.choice([0.0, 0.2, 0.5, 0.8, 1.0])
    for change in waiting:
        if generator.random() < share:
            _apply(durable, change)
    # Also a folder that nothing in it has reached the disk of.
    for step in steps[: cut + 1]:
        for node in step.tree:
            durable.setdefault(node, {})
    _write(durable, root, folder, lambda node: _content(node, contents, steps[cut], generator))


def _apply(durable: Tree, change: _Change) -> None:
    for (folder, name), node in change.names.items():
        names = durable.setdefault(folder, {})
        if node is None:
            names.pop(name, None)
        else:
            names[name] = node


def _content(node: Node, durable: dict[Node, bytes], step: Step, generator: random.Random) -> bytes:
    """A file's content, which is certain only where it is the synchronised one."""
    written = durable.get(node)
    # A file that was removed meanwhile keeps what it had, as long as its removal has not reached the disk.
    now = step.contents.get(node, written or b"")
    if written == now:
        return now
    return generator.choice([written or b"", b"", now, now[: len(now) // 2], bytes(len(now))])


def _write(durable: Tree, node: Node, folder: Path, content: Callable[[Node], bytes]) -> None:
    folder.mkdir()
    for name, child in durable[node].items():
        if child in durable:
            _write(durable, child, folder / name, content)
        else:
            (folder / name).write_bytes(content(child))

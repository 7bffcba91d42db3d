"""Power cuts on a real file system: a run writes to an ext4 image, which is copied at random moments and mounted again.

Needs root. The run's process is stopped while the image is copied, so that the copy is of one moment; what the kernel
had not written by then is not in it, and the journal is replayed when the copy is mounted, as after a power cut.
"""

import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from killable_runs import TRAINERS
from killed_process import forked

from mopref.training.checkpoint import load_state
from mopref.training.checkpoints import checkpoints_in

__all__ = ["main"]

STEPS, MEGABYTES = 400, 64


def main(cuts: int, seed: int) -> int:
    """Cut so often; print a line for each, and 1 where a reported checkpoint was lost."""
    lost = {True: 0, False: 0}
    for synchronises in lost:
        generator, reported = random.Random(seed), 0
        for number in range(cuts):
            kind = list(TRAINERS)[number % len(TRAINERS)]
            told, whole = cut(kind, generator.uniform(0.5, 5.0), synchronises)
            missing = [name for name in told if name not in whole]
            reported, lost[synchronises] = reported + len(told), lost[synchronises] + len(missing)
            print(f"{kind:<5} {len(told):>4} checkpoints reported, {len(missing)} lost {missing[:3] or ''}", flush=True)
        word = "with" if synchronises else "without"
        print(f"{word} fsync: {cuts} cuts, {reported} checkpoints reported as written, {lost[synchronises]} lost")
    # A trial that cannot fail proves nothing.
    return int(lost[True] > 0 or not lost[False])


def cut(kind: str, seconds: float, synchronises: bool = True) -> tuple[list[str], set[str]]:
    """The checkpoints that were reported before the cut, and those that are whole after it."""
    with tempfile.TemporaryDirectory(prefix="disk-image-") as text:
        place = Path(text)
        image, copy = place / "image", place / "copy"
        with image.open("wb") as file:
            file.truncate(MEGABYTES << 20)
        _call("mkfs.ext4", "-q", str(image))
        cutter = _Cutter(seconds, image, copy)
        with _Mounted(image, place / "disk") as disk:
            told = _told_until(kind, disk, cutter, synchronises)
        with _Mounted(copy, place / "after") as disk:
            with tempfile.TemporaryDirectory() as other:
                types = TRAINERS[kind](Path(other), lambda event, **details: None)._record_types
            folder = disk / "run"
            whole = {each.folder.name for each in checkpoints_in(folder) if _loads(each.folder, types)}
        return told, whole


def _told_until(kind: str, disk: Path, cutter: "_Cutter", synchronises: bool) -> list[str]:
    """Train on the disk until the cut; what was reported before it."""

    def life(tell: Any) -> None:
        if not synchronises:
            os.fsync = lambda descriptor: None
        trainer = TRAINERS[kind](disk / "run", tell, steps=STEPS, keep_checkpoints=None)
        trainer.train()

    outcome = forked(life, disk, on_begun=cutter.cut)
    return [entry["folder"] for entry in outcome.of("saved") if entry["at"] < cutter.stopped]


class _Cutter:
    """Stops a process some time after it has begun, copies the image, and kills it."""

    def __init__(self, seconds: float, image: Path, copy: Path) -> None:
        self.seconds, self.image, self.copy = seconds, image, copy
        self.stopped = 0.0

    def cut(self, process: int) -> None:
        """Called in a thread of its own."""
        time.sleep(self.seconds)
        os.kill(process, signal.SIGSTOP)
        self.stopped = time.perf_counter()
        shutil.copyfile(self.image, self.copy)
        os.kill(process, signal.SIGKILL)


class _Mounted:
    """An image as a folder."""

    def __init__(self, image: Path, folder: Path) -> None:
        self.image, self.folder = image, folder

    def __enter__(self) -> Path:
        self.folder.mkdir()
        _call("mount", "-o", "loop", str(self.image), str(self.folder))
        return self.folder

    def __exit__(self, *error: Any) -> None:
        _call("umount", str(self.folder))


def _loads(folder: Path, types: Any) -> bool:
    try:
        load_state(folder, types)
    except (OSError, ValueError):
        return False
    return True


def _call(*command: str) -> None:
    subprocess.run(command, check=True)

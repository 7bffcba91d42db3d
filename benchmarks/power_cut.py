"""Cut the power while checkpoints, adapters and fronts are written: nothing that was reported as written may be lost.

    python benchmarks/power_cut.py
    sudo python benchmarks/power_cut.py --image    # on an ext4 image that is copied at random moments

What a process does to a folder is recorded, and replayed up to every moment in turn as a disk might have it then (see
crash_model.py). "Reported" is a checkpoint whose ``on_checkpoint`` was called, or a ``save`` that has returned. The
second row of each kind is the same on a disk that ignores fsync: what would be lost if nothing were synchronised, and
the proof that the trial can fail.
"""

import argparse
import random
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from crash_model import Step, left, recorded
from killable_runs import TRAINERS, digests

from mopref import Front, ParetoSetModel, PreferenceModel, SVDLoRAConfig
from mopref.training.checkpoint import load_state
from mopref.training.checkpoints import checkpoints_in

__all__ = ["CASES", "Count", "main", "tried"]

Tell = Callable[[str], None]


class Count(NamedTuple):
    """What came of a case.

    Attributes:
        cuts: how often the power was cut.
        reported: what had been reported as written by then, over all cuts.
        lost: what of it was not there afterwards, or not whole.
        resumed: cuts after which the run went on.
        different: of these, runs that did not end as the uninterrupted one.
    """

    cuts: int = 0
    reported: int = 0
    lost: int = 0
    resumed: int = 0
    different: int = 0


class Case(NamedTuple):
    """Something that is written, and what must be there after a cut.

    Attributes:
        write: does it in a folder, telling what is written.
        lost: of what was told, what a folder lacks.
        differs: whether the work, gone on with in a folder, ends otherwise than uninterrupted; ``None`` for no work.
    """

    write: Callable[[Path, Tell], None]
    lost: Callable[[Path, list[str]], list[str]]
    differs: Callable[[Path], bool] | None = None


def _run(kind: str, **settings: Any) -> Case:
    """A training; with pruning only the newest checkpoint that was told must be there."""
    end: dict[str, str] = {}

    def trainer(folder: Path, tell: Tell) -> Any:
        def told(event: str, **details: Any) -> None:
            if event == "saved":
                tell(details["folder"])

        return TRAINERS[kind](folder, told, **settings)

    def write(folder: Path, tell: Tell) -> None:
        run = trainer(folder, tell)
        run.train()
        end.update(digests(run, folder))

    def lost(folder: Path, told: list[str]) -> list[str]:
        whole = {each.folder.name for each in checkpoints_in(folder) if _is_whole(each.folder, types)}
        return [name for name in (told[-1:] if settings["keep_checkpoints"] else told) if name not in whole]

    def differs(folder: Path) -> bool:
        run = trainer(folder, lambda told: None)
        run.train(resume_from="latest")
        return digests(run, folder) != end

    with tempfile.TemporaryDirectory() as place:
        types = trainer(Path(place), lambda told: None)._record_types
    return Case(write, lost, differs)


def _is_whole(folder: Path, types: Any) -> bool:
    try:
        load_state(folder, types)
    except (OSError, ValueError):
        return False
    return True


def _saved(save: Callable[[Path, int], None], version: Callable[[Path], int]) -> Case:
    """Something that is saved again and again under one name: it is the last one told, or one that followed."""

    def write(folder: Path, tell: Tell) -> None:
        for number in range(1, 5):
            save(folder, number)
            tell(str(number))

    def lost(folder: Path, told: list[str]) -> list[str]:
        try:
            number = version(folder)
        except (OSError, ValueError):
            return told[-1:]
        return [] if number >= int(told[-1]) else told[-1:]

    return Case(write, lost)


def _adapter() -> Case:
    def model() -> PreferenceModel:
        torch.manual_seed(0)
        base = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Tanh(), torch.nn.Linear(6, 3))
        return PreferenceModel(base, SVDLoRAConfig(("a", "b"), rank=2))

    def save(folder: Path, number: int) -> None:
        saved = model()
        for layer in saved.adapters.values():
            torch.nn.init.constant_(layer.sigma, float(number))
        saved.save_pretrained(folder / "adapter")

    def version(folder: Path) -> int:
        torch.manual_seed(0)
        base = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Tanh(), torch.nn.Linear(6, 3))
        return int(next(iter(PreferenceModel.load(base, folder / "adapter").adapters.values())).sigma[0])

    return _saved(save, version)


def _conditioning() -> Case:
    def save(folder: Path, number: int) -> None:
        model = ParetoSetModel(2, 3, hidden=(4,), seed=0)
        for parameter in model.parameters():
            torch.nn.init.constant_(parameter, float(number))
        model.save_pretrained(folder / "model")

    return _saved(save, lambda folder: int(next(ParetoSetModel.load(folder / "model").parameters()).flatten()[0]))


def _front(suffix: str) -> Case:
    def save(folder: Path, number: int) -> None:
        Front([[1.0, 0.0], [0.0, 1.0]], [[number, 1.0], [1.0, number]], ("a", "b")).save(folder / f"front{suffix}")

    options = {"maximize": False, "convention": "importance"} if suffix == ".csv" else {}
    return _saved(save, lambda folder: int(Front.load(folder / f"front{suffix}", **options).values[0, 0]))


# What is written, made when it is tried.
CASES: dict[str, Callable[[], Case]] = {
    **{f"{kind}, all kept": lambda kind=kind: _run(kind, keep_checkpoints=None) for kind in TRAINERS},
    **{f"{kind}, last 2 kept": lambda kind=kind: _run(kind, keep_checkpoints=2) for kind in TRAINERS},
    "adapter": _adapter,
    "conditioning": _conditioning,
    "front.json": lambda: _front(".json"),
    "front.csv": lambda: _front(".csv"),
}


def tried(case: Case, draws: int, resumes: int, seed: int, synchronises: bool = True) -> Count:
    """Cut the power at every recorded moment, ``draws`` times each; go on with the work after ``resumes`` of them."""
    generator = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="power-cut-") as place:
        folder = Path(place, "folder")
        folder.mkdir()
        with recorded(folder, synchronises) as (steps, tell):
            case.write(folder, tell)
        cuts = [cut for cut in range(len(steps)) for _ in range(draws)]
        going_on = set(generator.sample(range(len(cuts)), min(resumes, len(cuts)))) if case.differs else set()
        return _cut(case, steps, cuts, going_on, generator, Path(place, "left"))


def _cut(
    case: Case, steps: list[Step], cuts: list[int], going_on: set[int], generator: random.Random, folder: Path
) -> Count:
    count = Count(cuts=len(cuts))
    for index, cut in enumerate(cuts):
        left(steps, cut, folder, generator)
        told = [step.told for step in steps[: cut + 1] if step.told]
        missing = case.lost(folder, told) if told else []
        count = count._replace(reported=count.reported + len(told), lost=count.lost + len(missing))
        if index in going_on and case.differs is not None:
            try:
                differs = case.differs(folder)
            except (OSError, ValueError) as error:
                print(f"cut {cut}: {type(error).__name__}: {error}")
                differs = True
            count = count._replace(resumed=count.resumed + 1, different=count.different + differs)
        shutil.rmtree(folder)
    return count


def main(arguments: list[str] | None = None) -> int:
    """Print a table; 1 where something reported was lost, or a run did not end as the uninterrupted one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=[*CASES, "all"], default="all", help="(default: %(default)s)")
    parser.add_argument("--draws", type=int, default=5, help="disks tried at each moment (default: %(default)s)")
    parser.add_argument("--resumes", type=int, default=20, help="cuts of a run that it goes on after (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    parser.add_argument("--image", type=int, nargs="?", const=8, help="cut so many ext4 images instead (needs root)")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    if options.image is not None:
        from disk_image import main as cut_images

        return cut_images(options.image, options.seed)
    failed = False
    print(f"{'written':<20} {'fsync':<8} {'cuts':>6} {'reported':>9} {'lost':>6} {'resumed':>8} {'different':>10}")
    for name in CASES if options.case == "all" else [options.case]:
        for synchronises in (True, False):
            resumes = options.resumes if synchronises else 0
            count = tried(CASES[name](), options.draws, resumes, options.seed, synchronises)
            word = "obeyed" if synchronises else "ignored"
            print(
                f"{name:<20} {word:<8} {count.cuts:>6} {count.reported:>9} {count.lost:>6} {count.resumed:>8} "
                f"{count.different:>10}",
                flush=True,
            )
            failed |= synchronises and bool(count.lost or count.different)
            # A trial that cannot fail proves nothing.
            failed |= not synchronises and not count.lost
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())

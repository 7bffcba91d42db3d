"""The checkpoints of a run in its output_dir: where they go, which are kept, and which is the newest."""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from mopref._agreement import ended_together, is_first_process
from mopref._atomic_writes import remove_folder, remove_leftovers, settle_folder
from mopref._folder_lock import only_writer
from mopref._warning import warn
from mopref.training.checkpoint import check_replaceable, holds_state
from mopref.training.config import TrainerConfig
from mopref.training.manifest import fault_of, none_is_whole, read_manifest

__all__ = ["Checkpoints", "FoundCheckpoint", "check_places", "checkpoints_in"]

_PREFIX = "checkpoint-"


class FoundCheckpoint(NamedTuple):
    """A checkpoint whose manifest is whole.

    Attributes:
        attempt: how many times the run began in its folder, at its start or at a checkpoint that was named.
        step: steps done.
        folder: where it is.
    """

    attempt: int
    step: int
    folder: Path


def checkpoints_in(
    output_dir: Path, is_own: Callable[[Mapping[str, Any]], bool] = lambda manifest: True
) -> list[FoundCheckpoint]:
    """The checkpoints in a folder whose manifests are whole, and those of the run that is asked of, the newest first.

    The newest is the one of the most steps in the last attempt: of a run that went back to an earlier checkpoint, the
    later ones of the attempt before are no longer its own.
    """
    found = []
    for folder in _folders(output_dir):
        try:
            manifest = read_manifest(folder)
        except (OSError, ValueError):
            continue
        if not is_own(manifest):
            continue
        found.append(FoundCheckpoint(manifest["attempt"], manifest["step"], folder))
    return sorted(found, reverse=True)


def _folders(output_dir: Path) -> list[Path]:
    """Every folder of a checkpoint or of what is left of one, by their numbers."""
    for path in output_dir.glob(f".{_PREFIX}*.replaced"):
        settle_folder(path.with_name(path.name[1:].removesuffix(".replaced")))
    named = [path for path in output_dir.glob(f"{_PREFIX}*") if path.name.removeprefix(_PREFIX).isdecimal()]
    return sorted(filter(holds_state, named), key=lambda path: int(path.name.removeprefix(_PREFIX)))


def check_places(config: TrainerConfig, step: int = 0, lets_checkpoints_be: bool = False) -> None:
    """Refuse a folder that holds something else where a checkpoint will go.

    Args:
        config: with ``output_dir``, ``checkpoint_every`` and ``steps``.
        step: how many are done, whose checkpoints are not written again.
        lets_checkpoints_be: whether a folder with a checkpoint and something else beside it is passed over.

    Raises:
        FileExistsError: the first such folder.
    """
    every = config.checkpoint_every
    if config.output_dir is None or every is None:
        return
    due = {*range(step // every * every + every, config.steps + 1, every), config.steps}
    for number in sorted(number for number in due if number > step):
        folder = Path(config.output_dir) / f"{_PREFIX}{number}"
        if not (lets_checkpoints_be and holds_state(folder) and not folder.is_symlink()):
            check_replaceable(folder)


class Checkpoints:
    """What a run does with its output_dir.

    Args:
        config: with ``output_dir``, ``checkpoint_every`` and ``keep_checkpoints``.
        is_own: whether a manifest is one of this run; another run's checkpoints are neither counted nor removed.

    Attributes:
        attempt: of the checkpoints that are written from now on.
        saved: the last step that was saved or read, ``None`` before.
    """

    def __init__(
        self, config: TrainerConfig, is_own: Callable[[Mapping[str, Any]], bool] = lambda manifest: True
    ) -> None:
        self.folder = None if config.output_dir is None else Path(config.output_dir)
        self.every, self.kept = config.checkpoint_every, config.keep_checkpoints
        self._is_own = is_own
        self.attempt = 1
        self.saved: int | None = None

    def folder_of(self, step: int) -> Path:
        """Where the checkpoint of a step goes."""
        assert self.folder is not None
        return self.folder / f"{_PREFIX}{step}"

    def is_due(self, step: int, is_last: bool) -> bool:
        """Whether a checkpoint is to be written after this step: the last one's in any case."""
        return self.every is not None and (is_last or step % self.every == 0) and self.saved != step

    @contextmanager
    def only_writer(self, resume_from: Any = None) -> Iterator[None]:
        """Within this block no other run writes its checkpoints into output_dir, or goes on from its newest one.

        Raises:
            BlockingIOError: another one does.
        """
        with ExitStack() as stack:
            with ended_together():
                is_to_write = self.every is not None or resume_from == "latest"
                if is_to_write and is_first_process() and self.folder is not None:
                    if self.every is not None or self.folder.is_dir():
                        stack.enter_context(only_writer(self.folder))
            yield

    def begin(self) -> None:
        """Begin a new run: refused where an older one's checkpoints are, between which nobody could tell.

        Raises:
            ValueError: the folder holds checkpoints.
        """
        if self.every is None or self.folder is None or not self.folder.is_dir():
            return
        older = _folders(self.folder)
        if older:
            raise ValueError(
                f"output_dir is {self.folder}, which holds {older[-1].name} of an earlier run: go on with that run by "
                "train(resume_from='latest'), choose another folder, or remove the old checkpoints."
            )
        if is_first_process():
            remove_leftovers(self.folder, _PREFIX)

    def candidates(self) -> list[Path]:
        """The folders that a run may go on from, the newest first; none where it has not saved anything yet.

        Raises:
            FileNotFoundError, ValueError: no ``output_dir``, or folders of checkpoints of which none is whole.

        Warns:
            UserWarning: each one that is damaged.
        """
        if self.folder is None:
            raise ValueError(
                "resume_from is 'latest', which looks into output_dir, and that is None: give output_dir, or the path "
                "of a checkpoint (a folder of that name is './latest')."
            )
        found = [each.folder for each in checkpoints_in(self.folder)]
        for folder in _folders(self.folder):
            if folder in found:
                continue
            try:
                read_manifest(folder)
            except (OSError, ValueError) as error:
                if not found:
                    raise none_is_whole(error, self.folder) from error
                warn(f"passed over a checkpoint: {fault_of(error)} The newest one with a whole manifest is {found[0]}.")
        return found

    def went_on(self, folder: Path, step: int, went_back: bool) -> None:
        """Note that the run went on from a checkpoint, which was named or found as the newest.

        Args:
            folder: of the checkpoint.
            step: of the checkpoint.
            went_back: whether later ones in the folder are no longer this run's: it was named, or they are damaged.
        """
        if self.folder is None:
            return
        if went_back:
            self.attempt = max((each.attempt for each in checkpoints_in(self.folder, self._is_own)), default=0) + 1
        # One that lies elsewhere is no checkpoint of this folder.
        self.saved = step if folder.resolve() == self.folder_of(step).resolve() else None
        if self.every is not None and is_first_process():
            remove_leftovers(self.folder, _PREFIX)

    def wrote(self, step: int, protected: Collection[int]) -> None:
        """Note that a step was saved, and remove the checkpoints that are too many now.

        Args:
            step: the one.
            protected: steps whose checkpoints are kept in any case.
        """
        self.saved = step
        self.prune(protected)

    def prune(self, protected: Collection[int]) -> None:
        """Remove the checkpoints that are too many, but for those of ``protected`` steps."""
        if self.kept is None or self.folder is None or not is_first_process():
            return
        for each in checkpoints_in(self.folder, self._is_own)[self.kept :]:
            if each.step not in protected and self._is_removable(each.folder):
                remove_folder(each.folder)

    def _is_removable(self, folder: Path) -> bool:
        """Whether nothing but a checkpoint is in a folder: what a user put there is not ours to remove."""
        try:
            check_replaceable(folder)
        except FileExistsError:
            return False
        return True

    def newest(self) -> Path | None:
        """The newest whole checkpoint; ``None`` where there is none."""
        found = [] if self.folder is None else checkpoints_in(self.folder, self._is_own)
        return found[0].folder if found else None

"""The log of a run as a file: an entry a line, as it comes."""

import json
from collections.abc import Mapping
from pathlib import Path

from mopref._agreement import ended_together, is_first_process
from mopref._atomic_writes import remove_leftovers, write_atomically
from mopref.training import TrainerCallback
from mopref.training.callbacks import RunningTrainer

__all__ = ["LogFile"]


class LogFile(TrainerCallback):
    """Write each new entry of ``trainer.history`` as a line of JSON; a resumed run keeps those up to its checkpoint.

    Of several processes the first one writes.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_begin(self, trainer: RunningTrainer) -> None:
        """Write what was logged before."""
        with ended_together():
            if is_first_process():
                remove_leftovers(self.path.parent, f"{self.path.name}.")
                write_atomically(self.path, "".join(map(_line, trainer.history)).encode())

    def on_log(self, trainer: RunningTrainer, entry: Mapping[str, float]) -> None:
        """Write the new entry."""
        with ended_together():
            if is_first_process():
                with self.path.open("a", encoding="utf-8") as file:
                    file.write(_line(entry))


def _line(entry: Mapping[str, float]) -> str:
    return json.dumps(dict(entry)) + "\n"

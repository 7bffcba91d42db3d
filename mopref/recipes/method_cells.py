"""Cells of a comparison: what one method with one seed was measured to be, each a folder that is whole or not there."""

import errno
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from mopref._arrays import Array
from mopref._atomic_writes import replace_folder, settle_folder
from mopref._repr import short_repr
from mopref.argument_kinds import checked_fields
from mopref.baselines import Budget, Cost, Trained
from mopref.recipes.mistakes import RunFolderError
from mopref.recipes.run_folder import CELLS

__all__ = ["Cell", "KeptTrainings", "cell_folder", "read_cell", "write_cell"]

_CELL, _LOSSES, _RUN, _ADAPTER = "cell.json", "losses.safetensors", "run.json", "adapter.safetensors"
_CHECKSUM = "sha256"


@dataclass(frozen=True)
class Cell:
    """One method with one seed.

    Args:
        method: its name.
        seed: of its trainings.
        losses: of every held-out row at every preference, ``(N, rows, m)``, minimised.
        columns: more figures at each preference, ``(N,)`` each, such as accuracies, KL and lengths.
        budget: what it took.
        notes: what else the method tells.
    """

    method: str
    seed: int
    losses: Array
    columns: dict[str, list[float]]
    budget: Budget
    notes: dict[str, Any]

    def __post_init__(self) -> None:
        """Refuse fields of another kind."""
        checked_fields(self)


def cell_folder(output: Path, method: str, seed: int) -> Path:
    """Where a cell is kept."""
    return output / CELLS / f"{method}-seed-{seed}"


def write_cell(output: Path, cell: Cell, fingerprint: str) -> None:
    """Write a cell's folder, all of it or none.

    Raises:
        OSError: it cannot be written, as on a full disk.
    """
    import torch

    tree = {
        "method": cell.method,
        "seed": cell.seed,
        "fingerprint": fingerprint,
        "budget": asdict(cell.budget),
        "notes": cell.notes,
        "columns": cell.columns,
    }
    losses = save({"losses": torch.as_tensor(cell.losses).contiguous()})
    _write(cell_folder(output, cell.method, cell.seed), _CELL, tree, _LOSSES, losses)


def read_cell(output: Path, method: str, seed: int, fingerprint: str) -> Cell | None:
    """A cell that is there; ``None`` where it is not.

    Raises:
        RunFolderError: it is damaged, of another method or seed, or was measured with other settings, data or model.
    """
    folder = cell_folder(output, method, seed)
    settle_folder(folder)
    if not (folder / _CELL).is_file():
        return None
    tree, tensors = _read(folder, _CELL, _LOSSES, fingerprint)
    _check_place(folder, tree, {"method": method, "seed": seed})
    try:
        losses = tensors["losses"].double().numpy()
        if any(len(column) != len(losses) for column in tree["columns"].values()):
            raise ValueError(f"its columns have not a figure for each of {len(losses)} preferences")
        return Cell(method, seed, losses, tree["columns"], Budget(**tree["budget"]), tree["notes"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunFolderError(f"{folder} cannot be read ({error!r}): delete it, and it is measured again.") from error


class KeptTrainings:
    """Trainings of one seed, kept in a folder so that an interrupted comparison goes on from the last whole one.

    Args:
        folder: of the comparison.
        seed: of the trainings.
        fingerprint: of settings and data.
    """

    def __init__(self, folder: Path, seed: int, fingerprint: str) -> None:
        self.folder, self.seed, self.fingerprint = folder / "runs" / f"seed-{seed}", seed, fingerprint

    def place(self, name: str) -> Path:
        """The folder of a training, whose name may hold anything."""
        plain = re.sub(r"[^A-Za-z0-9.=,-]+", "-", name)[:80]
        return self.folder / f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"

    def find(self, name: str) -> Trained | None:
        """What was kept under a name; ``None`` where nothing was.

        Raises:
            RunFolderError: it is damaged, another one, or was trained with other settings, data or model.
        """
        folder = self.place(name)
        settle_folder(folder)
        if not (folder / _RUN).is_file():
            return None
        tree, tensors = _read(folder, _RUN, _ADAPTER, self.fingerprint)
        _check_place(folder, tree, {"name": name, "seed": self.seed})
        try:
            return Trained(tensors, Cost(**tree["cost"]))
        except (KeyError, TypeError) as error:
            raise RunFolderError(f"{folder} cannot be read ({error!r}): delete it, and it is trained again.") from error

    def check(self) -> None:
        """Refuse, before any work, what could not be gone on with.

        Raises:
            RunFolderError: a training that is damaged, or was trained with another seed, other settings, data or model.
        """
        # A hidden folder is one that a killed process left.
        for path in sorted(self.folder.glob(f"[!.]*/{_RUN}")):
            tree, _ = _read(path.parent, _RUN, _ADAPTER, self.fingerprint)
            _check_place(path.parent, tree, {"seed": self.seed})

    def put(self, name: str, trained: Trained) -> None:
        """Keep a training under a name."""
        tree = {"name": name, "seed": self.seed, "fingerprint": self.fingerprint, "cost": trained.cost._asdict()}
        tensors = {key: value.contiguous() for key, value in trained.tensors.items()}
        _write(self.place(name), _RUN, tree, _ADAPTER, save(tensors))


def _content(tree: Mapping[str, Any], tensors: bytes) -> str:
    """The SHA-256 of all that a folder holds; of the document as it is after it was read."""
    plain = json.dumps(json.loads(_json(tree)), sort_keys=True)
    return hashlib.sha256(plain.encode() + tensors).hexdigest()


def _json(tree: Any) -> bytes:
    return (json.dumps(tree, indent=1, ensure_ascii=False, default=_number) + "\n").encode()


def _number(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"a {type(value).__name__} is no number or text that JSON holds.")


def _write(folder: Path, document: str, tree: Mapping[str, Any], name: str, tensors: bytes) -> None:
    whole = _json({**tree, _CHECKSUM: _content(tree, tensors)})
    with replace_folder(folder) as unfinished:
        try:
            (unfinished / document).write_bytes(whole)
            (unfinished / name).write_bytes(tensors)
        except OSError as error:
            raise OSError(
                error.errno or errno.EIO,
                f"{folder} could not be written ({error.strerror or error}): make room there, and call again; all that "
                "was made before is kept",
            ) from error


def _read(folder: Path, document: str, name: str, fingerprint: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        tree = json.loads((folder / document).read_text(encoding="utf-8"))
        tensors = (folder / name).read_bytes()
        content = load(tensors)
        # Folders from before there was a checksum have none.
        if isinstance(tree, dict) and tree.pop(_CHECKSUM, None) not in (None, _content(tree, tensors)):
            raise ValueError("its content is not what was written")
        if not isinstance(tree, dict):
            raise ValueError(f"{document} is no object")
    except (OSError, ValueError, RecursionError, SafetensorError) as error:
        raise RunFolderError(f"{folder} cannot be read ({error}): delete it, and it is made again.") from error
    if tree.get("fingerprint") != fingerprint:
        raise RunFolderError(
            f"{folder} was made with other settings, other data or another model than this comparison's: choose "
            "another output, or put them back as they were."
        )
    return tree, content


def _check_place(folder: Path, tree: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Refuse what lies where another one belongs, such as a folder that was renamed."""
    for key, value in asked.items():
        # Trainings from before it was noted have no seed.
        if tree.get(key, value) != value:
            raise RunFolderError(
                f"{folder} holds the {key} {short_repr(tree[key])}, not {short_repr(value)}: move it to where it "
                "belongs, or delete it, and it is made again."
            )

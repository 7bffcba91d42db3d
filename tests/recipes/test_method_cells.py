import errno
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from mopref.baselines import Budget, Cost, Trained
from mopref.recipes import RunFolderError
from mopref.recipes.method_cells import Cell, KeptTrainings, cell_folder, read_cell, write_cell

CELL = Cell(
    "mod",
    3,
    np.arange(12, dtype=np.float64).reshape(2, 3, 2) / 7,
    {"kl": [0.5, 1.5]},
    Budget(2, 10, 20, 0, 5, 5, 2.0, 1.5),
    {"mixing": [[1.75, -0.75]], "block": np.int64(3)},
)


def test_a_cell_is_read_as_it_was_written(tmp_path):
    assert read_cell(tmp_path, "mod", 3, "mark") is None
    write_cell(tmp_path, CELL, "mark")
    again = read_cell(tmp_path, "mod", 3, "mark")
    assert np.array_equal(again.losses, CELL.losses)
    assert (again.columns, again.budget) == (CELL.columns, CELL.budget)
    assert again.notes == {"mixing": [[1.75, -0.75]], "block": 3}
    assert read_cell(tmp_path, "mod", 4, "mark") is None


def test_a_cell_of_other_settings_is_refused(tmp_path):
    write_cell(tmp_path, CELL, "mark")
    with pytest.raises(RunFolderError, match="made with other settings, other data or another model"):
        read_cell(tmp_path, "mod", 3, "another")


@pytest.mark.parametrize("name", ["cell.json", "losses.safetensors"])
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"fingerprint": "mark"}'])
def test_a_damaged_cell_is_told_with_what_to_do(tmp_path, name, content):
    write_cell(tmp_path, CELL, "mark")
    (cell_folder(tmp_path, "mod", 3) / name).write_bytes(content)
    with pytest.raises(RunFolderError, match="delete it"):
        read_cell(tmp_path, "mod", 3, "mark")


@pytest.mark.parametrize(
    ("method", "seed", "told"), [("ours", 3, "method 'mod', not 'ours'"), ("mod", 4, "seed 3, not 4")]
)
def test_a_cell_under_another_ones_name_is_refused(tmp_path, method, seed, told):
    write_cell(tmp_path, CELL, "mark")
    cell_folder(tmp_path, "mod", 3).rename(cell_folder(tmp_path, method, seed))
    with pytest.raises(RunFolderError, match=f"holds the {told}: move it to where it belongs"):
        read_cell(tmp_path, method, seed, "mark")


def test_a_training_under_another_ones_name_is_refused(tmp_path):
    kept, other = (KeptTrainings(tmp_path, seed, "mark") for seed in (0, 1))
    for name in ("ours", "plain"):
        kept.put(name, Trained({"layer.U": torch.ones(2)}, Cost(1, 2, 3)))
    kept.check()
    shutil.copytree(kept.folder, other.folder)
    for refused in (other.check, lambda: other.find("ours")):
        with pytest.raises(RunFolderError, match="holds the seed 0, not 1"):
            refused()
    shutil.rmtree(kept.place("ours"))
    kept.place("plain").rename(kept.place("ours"))
    with pytest.raises(RunFolderError, match="holds the name 'plain', not 'ours'"):
        kept.find("ours")


def test_a_full_disk_is_told_and_leaves_the_older_cell(tmp_path, monkeypatch):
    write_cell(tmp_path, CELL, "mark")

    def full(self, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", full)
        with pytest.raises(OSError, match=r"mod-seed-3 could not be written \(No space left on device\): make room"):
            write_cell(tmp_path, CELL, "mark")
    assert read_cell(tmp_path, "mod", 3, "mark") is not None
    assert [path.name for path in (tmp_path / "cells").iterdir()] == ["mod-seed-3"]


@pytest.mark.parametrize("name", ["cell.json", "losses.safetensors"])
def test_other_numbers_than_were_written_are_told(tmp_path, name):
    write_cell(tmp_path, CELL, "mark")
    path = cell_folder(tmp_path, "mod", 3) / name
    content = path.read_bytes()
    changed = content.replace(b"0.5", b"0.6") if name == "cell.json" else content[:-8] + bytes(8)
    assert changed != content
    path.write_bytes(changed)
    with pytest.raises(RunFolderError, match=r"not what was written.*delete it"):
        read_cell(tmp_path, "mod", 3, "mark")


@pytest.mark.parametrize("columns", [{"kl": [0.5]}, {"kl": 3}, [], None])
def test_an_older_cell_without_a_checksum_is_read_if_it_is_whole(tmp_path, columns):
    write_cell(tmp_path, CELL, "mark")
    path = cell_folder(tmp_path, "mod", 3) / "cell.json"
    tree = json.loads(path.read_text())
    del tree["sha256"]
    path.write_text(json.dumps(tree))
    assert read_cell(tmp_path, "mod", 3, "mark").columns == CELL.columns
    path.write_text(json.dumps({**tree, "columns": columns}))
    with pytest.raises(RunFolderError, match="delete it"):
        read_cell(tmp_path, "mod", 3, "mark")


def test_a_write_that_fails_leaves_the_older_cell(tmp_path, monkeypatch):
    write_cell(tmp_path, CELL, "mark")
    monkeypatch.setattr("mopref.recipes.method_cells.save", lambda tensors: None)
    with pytest.raises(TypeError):
        write_cell(tmp_path, CELL, "mark")
    assert read_cell(tmp_path, "mod", 3, "mark") is not None
    assert [path.name for path in (tmp_path / "cells").iterdir()] == ["mod-seed-3"]


def test_trainings_are_kept_under_any_name(tmp_path):
    names = ["plain a/b=0.5,../c=0.5", "plain a/b=0.5,../c=0.25", "x" * 300]
    kept = KeptTrainings(tmp_path, 0, "mark")
    for place, name in enumerate(names):
        assert kept.find(name) is None
        kept.put(name, Trained({"layer.U": torch.full((2, 2), float(place))}, Cost(place, 2, 3, seconds=0.5)))
    for place, name in enumerate(names):
        found = KeptTrainings(tmp_path, 0, "mark").find(name)
        assert found.cost == Cost(place, 2, 3, seconds=0.5)
        assert torch.equal(found.tensors["layer.U"], torch.full((2, 2), float(place)))
    assert all(path.parent == tmp_path / "runs" / "seed-0" for path in (tmp_path / "runs" / "seed-0").iterdir())
    assert KeptTrainings(tmp_path, 1, "mark").find(names[0]) is None
    with pytest.raises(RunFolderError, match="other settings"):
        KeptTrainings(tmp_path, 0, "another").find(names[0])


def test_a_damaged_training_is_told(tmp_path):
    kept = KeptTrainings(tmp_path, 0, "mark")
    kept.put("ours", Trained({"layer.U": torch.ones(2)}, Cost(1, 2, 3)))
    path = kept.place("ours") / "run.json"
    path.write_text(json.dumps({"fingerprint": "mark", "cost": {"step": 1}}))
    with pytest.raises(RunFolderError, match="it is trained again"):
        kept.find("ours")

"""Nested states survive the disk, and an interrupted write leaves nothing that looks complete."""

import json
from typing import NamedTuple

import numpy as np
import pytest
import torch
from _checkpoints import seal

from mopref import TrainerConfig
from mopref.training.checkpoint import check_replaceable, load_state, save_state
from mopref.training.checkpoints import Checkpoints
from mopref.training.manifest import read_manifest


class Inner(NamedTuple):
    values: torch.Tensor
    nothing: None = None


class Outer(NamedTuple):
    inner: Inner
    number: float
    names: list


def test_nested_state_round_trip(tmp_path):
    shared = torch.arange(6.0).view(2, 3)
    state = {
        "tensors": [shared, shared.T, torch.tensor(3, dtype=torch.int64), torch.empty(0)],
        "state": {0: {"step": torch.tensor(2.0)}, 7: None},
        "betas": (0.9, 0.999),
        "text": "λ",
        "flag": True,
        "big": 2**100,
        "dict": {"tensor": "not a tensor", "list": [1, [2]], "record": ["Inner", []]},
        "floats": [float("inf"), 0.1 + 0.2, 1e-300],
    }
    save_state(state, tmp_path)
    loaded = load_state(tmp_path)
    for mine, theirs in zip(state["tensors"], loaded["tensors"], strict=True):
        assert torch.equal(mine, theirs)
        assert mine.dtype == theirs.dtype
    assert torch.equal(loaded["state"][0]["step"], torch.tensor(2.0))
    assert loaded["state"][7] is None
    for key in ("betas", "text", "flag", "big", "dict", "floats"):
        assert loaded[key] == state[key]
    assert isinstance(loaded["betas"], tuple)


def test_a_state_of_no_run_is_one_before_the_first_step_of_a_first_attempt(tmp_path):
    """As a trainer's own before it starts, so that a run's checkpoints come after it."""
    save_state({}, tmp_path)
    manifest = read_manifest(tmp_path)
    assert (manifest["step"], manifest["attempt"]) == (0, Checkpoints(TrainerConfig()).attempt)
    assert manifest["settings"] == manifest["identity"] == {}


def test_named_tuples_come_back_as_what_they_were(tmp_path):
    record = Outer(Inner(torch.arange(3)), 0.5, ["a", Inner(torch.ones(1, dtype=torch.bool))])
    save_state({"pending": [[record], []]}, tmp_path, [Inner, Outer])
    ((loaded,), nothing) = load_state(tmp_path, [Outer, Inner])["pending"]
    assert nothing == []
    assert type(loaded) is Outer
    assert type(loaded.inner) is type(loaded.names[1]) is Inner
    assert torch.equal(loaded.inner.values, record.inner.values)
    assert loaded.inner.nothing is None
    assert (loaded.number, loaded.names[0]) == (0.5, "a")
    assert torch.equal(loaded.names[1].values, record.names[1].values)


def test_a_named_tuple_that_could_not_be_read_again_is_not_written(tmp_path):
    state = {"pending": [Outer(Inner(torch.zeros(1)), 0.0, [])]}
    with pytest.raises(TypeError, match=r"state\.pending\.0\.0 is a Inner, a named tuple that could not be read again"):
        save_state(state, tmp_path, [Outer])
    with pytest.raises(TypeError, match="add it to the objective's record_types"):
        save_state(state, tmp_path)


def test_no_type_is_made_of_its_name_alone(tmp_path):
    save_state({"record": Inner(torch.zeros(1))}, tmp_path, [Inner])
    for record_types in ([], [Outer]):
        with pytest.raises(ValueError, match="the checkpoint holds a Inner, which this objective's batches do not"):
            load_state(tmp_path, record_types)


def test_unknown_value_is_refused(tmp_path):
    with pytest.raises(TypeError, match=r"state\.bad is a set: a checkpoint holds tensors, numbers, strings"):
        save_state({"bad": {1, 2}}, tmp_path)


def test_loaded_tensors_are_copies(tmp_path):
    values = torch.zeros(3)
    save_state({"a": values}, tmp_path)
    values += 1
    assert load_state(tmp_path)["a"].tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("name", ["state.safetensors", "state.json"])
def test_incomplete_folder_is_refused(name, tmp_path):
    save_state({"a": torch.ones(1)}, tmp_path)
    check_replaceable(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(FileNotFoundError, match=rf"is no whole checkpoint: it has no {name}"):
        load_state(tmp_path)


def test_no_pickle(tmp_path):
    save_state({"a": torch.ones(1), "b": [Inner(torch.zeros(2))]}, tmp_path, [Inner])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["manifest.json", "state.json", "state.safetensors"]
    json.loads((tmp_path / "state.json").read_text())


@pytest.mark.parametrize(
    "value", [np.int64(4), np.float32(0.5), np.float64(0.1), np.bool_(True), np.str_("x"), np.uint8(3)], ids=repr
)
def test_numbers_of_numpy_are_written_as_pythons_own(tmp_path, value):
    save_state({"value": value, "nested": [{"deep": (value,)}], "keys": {np.int64(3): value}}, tmp_path)
    state = load_state(tmp_path)
    assert state == {"value": value.item(), "nested": [{"deep": (value.item(),)}], "keys": {3: value.item()}}
    assert type(state["value"]) is type(value.item())


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"a": {(1, 2): 3}}, r"state\.a has the key \(1, 2\), a tuple: a checkpoint's keys are texts or numbers"),
        ({"a": np.zeros(3)}, "state.a is a ndarray: a checkpoint holds"),
        ({"a": np.datetime64("2020-01-01")}, "state.a is a datetime64: a checkpoint holds"),
        ({"a": np.complex64(1)}, "state.a is a complex64: a checkpoint holds"),
    ],
)
def test_what_cannot_be_read_again_is_refused(tmp_path, state, message):
    with pytest.raises(TypeError, match=message):
        save_state(state, tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_a_checkpoint_may_be_written_over(tmp_path):
    """Nothing, an empty folder, or a checkpoint, also what is left of one; but nothing of the user's own."""
    check_replaceable(tmp_path / "new")
    check_replaceable(tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(
        FileExistsError, match=r"holds something other than a checkpoint \('file'\), which would be lost"
    ):
        check_replaceable(tmp_path)
    with pytest.raises(FileExistsError, match="file is no folder"):
        check_replaceable(tmp_path / "file")
    (tmp_path / "file").unlink()
    save_state({"a": torch.ones(1)}, tmp_path)
    check_replaceable(tmp_path)
    (tmp_path / "state.json").unlink()
    check_replaceable(tmp_path)
    (tmp_path / "adapter").mkdir()
    with pytest.raises(FileExistsError, match=r"holds something other than a checkpoint \('adapter'\)"):
        check_replaceable(tmp_path)


def test_a_link_is_not_written_through(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "latest").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError, match="latest is a symbolic link: choose a new or empty folder"):
        check_replaceable(tmp_path / "latest")


def test_files_of_two_checkpoints_do_not_go_together(tmp_path):
    for number in (1, 2):
        (tmp_path / str(number)).mkdir()
        save_state({f"part {number}": torch.zeros(1), "both": torch.ones(1)}, tmp_path / str(number))
    (tmp_path / "1" / "state.json").replace(tmp_path / "2" / "state.json")
    with pytest.raises(
        ValueError, match=r"2 is a damaged checkpoint: state\.json is no longer what was written \(sha256"
    ):
        load_state(tmp_path / "2")
    seal(tmp_path / "2")
    with pytest.raises(
        ValueError, match=r"2 is a damaged checkpoint: state\.json does not say what .* \(KeyError: 'st"
    ):
        load_state(tmp_path / "2")


@pytest.mark.parametrize(("name", "content"), [("state.json", b"{"), ("state.safetensors", b"{")])
def test_a_file_that_cannot_be_read_is_named_with_its_folder(name, content, tmp_path):
    save_state({"a": torch.ones(1)}, tmp_path)
    (tmp_path / name).write_bytes(content)
    seal(tmp_path)
    with pytest.raises(ValueError, match=rf"{tmp_path.name} is a damaged checkpoint: {name} cannot be read \("):
        load_state(tmp_path)


@pytest.mark.parametrize(
    "tree", ['{"list": [1]}', "3", "[1, 2]", '{"dict": [["a", [1, 2]]]}', '{"set": []}', '{"array": []}']
)
def test_a_tree_of_another_shape_is_refused_also_beside_no_tensors(tree, tmp_path):
    save_state({"a": 1}, tmp_path)
    (tmp_path / "state.json").write_text(tree)
    seal(tmp_path)
    with pytest.raises(ValueError, match=r"is a damaged checkpoint: state\.json does not say what state\.safetensors"):
        load_state(tmp_path)


def test_a_tree_too_deep_to_be_put_together_is_refused(monkeypatch, tmp_path):
    """JSON may follow a tree further than this can."""
    save_state({"a": 1}, tmp_path)
    tree: dict = {"list": []}
    for _ in range(100_000):
        tree = {"list": [tree]}
    monkeypatch.setattr("mopref.training.checkpoint.check_files", lambda *_: None)
    monkeypatch.setattr("mopref.training.checkpoint.read_manifest", lambda _: {})
    monkeypatch.setattr("mopref.training.checkpoint.json.loads", lambda text: tree)
    with pytest.raises(ValueError, match=r"is a damaged checkpoint: state\.json does not say what .* \(RecursionError"):
        load_state(tmp_path)

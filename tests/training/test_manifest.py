"""The manifest of a checkpoint: what it says, and that nothing of it or beside it can change unnoticed."""

import json
import os
from contextlib import suppress
from importlib.metadata import version

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

import mopref
from mopref.training.manifest import FORMAT_VERSION, MANIFEST, check_files, read_manifest, write_manifest

ABOUT = {"step": 3, "attempt": 2, "settings": {"seed": 0, "max_grad_norm": float("inf")}, "identity": {"sampler": "λ"}}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "one").write_bytes(b"content")
    (tmp_path / "two").write_bytes(b"")
    write_manifest(tmp_path, ABOUT, ["one", "two"])
    return tmp_path


def test_what_was_written_is_read(folder):
    manifest = read_manifest(folder)
    assert {name: manifest[name] for name in ABOUT} == ABOUT
    assert manifest["format_version"] == FORMAT_VERSION
    # Without the build that torch.__version__ may tell, as in 2.6.0+cu124.
    assert manifest["versions"]["torch"] == version("torch")
    assert manifest["versions"]["mopref"] == mopref.__version__
    assert manifest["threads"] == torch.get_num_threads()
    assert manifest["files"]["one"] == {
        "bytes": 7,
        # Of coreutils' sha256sum.
        "sha256": "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73",
    }
    check_files(folder, manifest, ["one", "two"])


@settings(max_examples=60)
@given(data=st.data())
def test_no_byte_of_it_can_change_unnoticed(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("changed")
    (folder / "one").write_bytes(b"content")
    write_manifest(folder, ABOUT, ["one"])
    written = read_manifest(folder)
    content = bytearray((folder / MANIFEST).read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    (folder / MANIFEST).write_bytes(content)
    with suppress(ValueError):
        # Where it is taken: white space between its parts, or another spelling of the same.
        assert read_manifest(folder) == written


def test_a_file_of_other_content_or_size_is_refused(folder):
    manifest = read_manifest(folder)
    for content, message in (
        (b"contens", r"one is no longer .* \(sha256\)"),
        (b"conten", r"one is no .* \(6 bytes\)"),
        (b"contents", r"one is no .* \(8 bytes\)"),
    ):
        (folder / "one").write_bytes(content)
        with pytest.raises(ValueError, match=f"{folder.name} is a damaged checkpoint: {message}"):
            check_files(folder, manifest, ["two", "one"])
    (folder / "one").unlink()
    with pytest.raises(FileNotFoundError, match="no whole checkpoint: it has no one"):
        check_files(folder, manifest, ["two", "one"])
    (folder / "three").write_bytes(b"")
    with pytest.raises(ValueError, match="three is no longer what was written"):
        check_files(folder, manifest, ["three"])


def test_no_manifest_and_one_of_an_older_version(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"is no checkpoint: it has no manifest\.json\.$"):
        read_manifest(tmp_path)
    (tmp_path / "state.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match=r"has no manifest\.json, as those of versions before 0\.3"):
        read_manifest(tmp_path)


def test_a_newer_format_is_refused_by_name(folder):
    manifest = json.loads((folder / MANIFEST).read_text())
    newer = {**manifest, "format_version": FORMAT_VERSION + 1, "versions": {"mopref": "9.9"}}
    (folder / MANIFEST).write_text(json.dumps(newer))
    with pytest.raises(ValueError, match=rf"has format version {FORMAT_VERSION + 1}, and this .* '9\.9'"):
        read_manifest(folder)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff", b"[]", b"3", b"{}", b"[" * 100_000, b"9" * 5000, b'{"format_version": 2}', b" " * (1 << 23)],
    ids=lambda content: content[:9].hex() + f" of {len(content)}",
)
def test_what_is_no_manifest_is_refused_in_words(content, folder):
    (folder / MANIFEST).write_bytes(content)
    with pytest.raises(ValueError, match="is a damaged checkpoint: "):
        read_manifest(folder)


@pytest.mark.parametrize("name", ["step", "attempt", "settings", "identity", "versions", "threads", "files", "sha256"])
@pytest.mark.parametrize("value", [None, "text", 2.5])
def test_an_entry_that_is_something_else_is_named(name, value, folder):
    manifest = json.loads((folder / MANIFEST).read_text())
    if isinstance(manifest[name], type(value)):
        value = 3
    (folder / MANIFEST).write_text(json.dumps({**manifest, name: value}))
    with pytest.raises(ValueError, match=rf"'{name}' in manifest\.json is {value!r}"):
        read_manifest(folder)


def test_a_manifest_too_large_is_refused_before_it_is_read(folder):
    """A whole one with white space behind it, of 4 MiB, and of a byte more."""
    content = (folder / MANIFEST).read_bytes()
    (folder / MANIFEST).write_bytes(content.ljust(4 * 1024**2))
    assert read_manifest(folder) == json.loads(content)
    (folder / MANIFEST).write_bytes(content.ljust(4 * 1024**2 + 1))
    with pytest.raises(ValueError, match=r"manifest\.json holds 4194305 bytes, and a description at most 4194304"):
        read_manifest(folder)


def test_the_order_of_its_entries_says_nothing(folder):
    """Nor does the text's encoding, which is ASCII."""
    content = (folder / MANIFEST).read_bytes()
    assert content.isascii()
    manifest = json.loads(content)
    (folder / MANIFEST).write_text(json.dumps(dict(reversed(manifest.items()))))
    assert read_manifest(folder) == manifest


def test_the_version_of_the_format_is_written(folder):
    """Whoever raises it has to say what becomes of the checkpoints of this one."""
    assert json.loads((folder / MANIFEST).read_text())["format_version"] == 2


def test_files_of_any_size_are_checked(tmp_path):
    for size in (0, 1, 300, 70_000):
        (tmp_path / "file").write_bytes(b"x" * size)
        write_manifest(tmp_path, ABOUT, ["file"])
        check_files(tmp_path, read_manifest(tmp_path), ["file"])


def test_numbers_of_numpy_are_not_written_in_silence(tmp_path):
    with pytest.raises(TypeError, match="not JSON serializable"):
        write_manifest(tmp_path, {**ABOUT, "step": np.int64(3)}, [])


@pytest.mark.parametrize("name", ["one", MANIFEST])
@pytest.mark.parametrize("kind", ["link", "folder", "pipe"])
def test_only_plain_files_of_the_folder_are_read(kind, name, folder, tmp_path_factory):
    manifest = read_manifest(folder)
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "file"
    (folder / name).rename(elsewhere)
    if kind == "link":
        (folder / name).symlink_to(elsewhere)
    elif kind == "folder":
        (folder / name).mkdir()
    else:
        os.mkfifo(folder / name)
    with pytest.raises(ValueError, match=rf"is a damaged checkpoint: .*{name} is (a link to|no plain file)"):
        check_files(folder, read_manifest(folder) if name == MANIFEST else manifest, ["one"])


@pytest.mark.parametrize(("step", "attempt"), [(0, 1), (2**62 - 1, 2**62 - 1)])
def test_the_smallest_and_the_largest_counts_are_read(step, attempt, tmp_path):
    write_manifest(tmp_path, ABOUT | {"step": step, "attempt": attempt}, [])
    manifest = read_manifest(tmp_path)
    assert (manifest["step"], manifest["attempt"]) == (step, attempt)


@pytest.mark.parametrize(
    "change",
    [
        {"step": True},
        {"step": -1},
        {"step": 2**62},
        {"attempt": 0},
        {"attempt": True},
        {"attempt": 2**62},
        {"attempt": 10**400},
    ],
)
def test_counts_that_nothing_could_go_on_from(change, folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    about = {name: manifest[name] for name in ("step", "attempt", "settings", "identity")}
    write_manifest(folder, about | change, list(manifest["files"]))
    with pytest.raises(ValueError, match=f"is a damaged checkpoint: '{next(iter(change))}' in manifest.json is"):
        read_manifest(folder)

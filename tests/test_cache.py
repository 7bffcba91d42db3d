"""Folders that are built once and appear when they are complete."""

import os

import pytest

from mopref import simplex_lattice
from mopref._cache import build_once, cache_folder, content_sum, is_complete


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_depends_on_its_key(tmp_path):
    def build(text):
        return lambda folder: (folder / "x").write_text(text, encoding="utf-8")

    target = tmp_path / "made"
    assert build_once(target, {"version": 1}, build("one")) == target
    assert build_once(target, {"version": 1}, build("never")) == target
    assert (target / "x").read_text(encoding="utf-8") == "one"
    build_once(target, {"version": 2}, build("two"))
    assert (target / "x").read_text(encoding="utf-8") == "two"
    assert is_complete(target, {"version": 2})
    assert not is_complete(target, {"version": 1})
    assert not is_complete(tmp_path / "nothing", {})


def test_a_damaged_folder_is_not_complete(tmp_path):
    def build(folder):
        (folder / "sub").mkdir()
        (folder / "sub" / "x").write_text("whole", encoding="utf-8")

    target = build_once(tmp_path / "made", {}, build)
    (target / "sub" / "x").write_text("cut", encoding="utf-8")
    assert not is_complete(target, {})
    build_once(target, {}, build)
    assert (target / "sub" / "x").read_text(encoding="utf-8") == "whole"
    (target / "manifest.json").write_text("[]", encoding="utf-8")
    assert not is_complete(target, {})


def test_an_interruption_leaves_nothing(tmp_path):
    def build(folder):
        (folder / "x").write_text("half", encoding="utf-8")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_once(tmp_path / "made", {}, build)
    assert names(tmp_path) == []


def test_old_partial_folders_are_removed(tmp_path):
    old, young = tmp_path / ".partial-old", tmp_path / ".partial-young"
    old.mkdir()
    young.mkdir()
    os.utime(old, (0, 0))
    build_once(tmp_path / "made", {}, lambda folder: None)
    assert names(tmp_path) == [".partial-young", "made"]


def test_cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("MOPREF_CACHE", raising=False)
    assert cache_folder() == tmp_path / "home" / ".cache" / "mopref"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "mopref"
    monkeypatch.setenv("MOPREF_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
    assert cache_folder(tmp_path / "given") == tmp_path / "given"


def one_file(text="AAAA"):
    return lambda folder: (folder / "model.safetensors").write_text(text)


@pytest.mark.parametrize("variable", ["MOPREF_CACHE", "XDG_CACHE_HOME"])
def test_a_home_that_nobody_knows_is_told(variable, monkeypatch):
    monkeypatch.delenv("MOPREF_CACHE", raising=False)
    monkeypatch.setenv(variable, "~nobody-of-this-name/x")
    with pytest.raises(ValueError, match=r"the cache folder is '~nobody.*', which is nowhere .*MOPREF_CACHE"):
        cache_folder()


@pytest.mark.parametrize("kind", ["file", "under a file", "pipe", "loop", "long name"])
def test_what_can_hold_no_cache_is_told(kind, tmp_path, monkeypatch):
    place = tmp_path / ("x" * 300 if kind == "long name" else "cache")
    if kind == "pipe":
        os.mkfifo(place)
    elif kind == "loop":
        place.symlink_to(place)
    elif "file" in kind:
        place.write_text("")
    monkeypatch.setenv("MOPREF_CACHE", str(place / "x" if "under" in kind else place))
    with pytest.raises((ValueError, OSError)) as refusal:
        build_once(cache_folder() / "model", {}, lambda folder: None)
    message = str(refusal.value)
    assert "shorten it" in message if kind == "long name" else "MOPREF_CACHE to a folder of your own" in message


@pytest.mark.parametrize("place", ["~nobody-of-this-name/x", "x" * 300])
def test_points_of_lattices_are_computed_where_there_can_be_no_cache(place, monkeypatch):
    monkeypatch.setenv("MOPREF_CACHE", place)
    with pytest.warns(UserWarning, match=r"the cache folder is .* were computed, and not looked for or kept there"):
        assert simplex_lattice(3, 5, "riesz-energy").shape == (5, 3)


def test_content_of_the_same_size_is_told_apart(tmp_path):
    target = build_once(tmp_path / "made", {}, one_file())
    assert is_complete(target, {})
    (target / "model.safetensors").write_text("BBBB")
    assert not is_complete(target, {})
    build_once(target, {}, one_file())
    assert (target / "model.safetensors").read_text() == "AAAA"


def test_a_manifest_of_anybody_does_not_stand_for_a_content_that_is_known(tmp_path):
    content = content_sum(build_once(tmp_path / "right", {}, one_file()))
    forged = build_once(tmp_path / "forged", {}, one_file("BBBB"))
    assert is_complete(forged, {})
    assert not is_complete(forged, {}, content)
    assert is_complete(build_once(forged, {}, one_file(), content), {}, content)
    with pytest.raises(
        RuntimeError, match=f"for the cache .other. is not what it must be: it has the sum .*, not {content}"
    ):
        build_once(tmp_path / "other", {}, one_file("CCCC"), content)
    assert names(tmp_path) == ["forged", "right"]


def test_a_manifest_of_sizes_only_is_an_older_ones(tmp_path):
    target = build_once(tmp_path / "made", {}, one_file())
    (target / "manifest.json").write_text('{"key": {}, "files": {"model.safetensors": 4}}')
    assert not is_complete(target, {})


def test_files_that_came_later_make_it_incomplete_but_for_hidden_ones(tmp_path):
    target = build_once(tmp_path / "made", {}, one_file())
    (target / ".DS_Store").write_text("x")
    assert is_complete(target, {})
    (target / "adapter_config.json").write_text("{}")
    assert not is_complete(target, {})


@pytest.mark.parametrize("what", ["file", "folder", "manifest", "target"])
def test_links_are_not_followed(tmp_path, what):
    def build(folder):
        (folder / "sub").mkdir()
        (folder / "sub" / "x").write_text("whole")

    target = build_once(tmp_path / "made", {}, build)
    path = {"file": target / "sub" / "x", "folder": target / "sub", "manifest": target / "manifest.json"}.get(
        what, target
    )
    moved = tmp_path / "elsewhere"
    os.replace(path, moved)
    path.symlink_to(moved)
    # The manifest is only read, and says what else must be there.
    assert is_complete(target, {}) is (what == "manifest")
    build_once(target, {}, build)
    assert is_complete(target, {})
    assert moved.exists()
    if what == "target":
        assert not target.is_symlink()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
def test_what_others_could_have_written_is_built_anew(tmp_path):
    target = build_once(tmp_path / "made", {}, one_file())
    for path in (target, target / "model.safetensors"):
        path.chmod(0o777)
        assert not is_complete(target, {})
        path.chmod(0o700)
        assert is_complete(target, {})
    if os.geteuid() == 0:
        os.chown(target / "model.safetensors", 4_321, -1)
        assert not is_complete(target, {})


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
def test_a_cache_folder_is_this_users_alone_or_refused(tmp_path):
    before = os.umask(0)
    try:
        target = build_once(tmp_path / "cache" / "made", {}, one_file())
    finally:
        os.umask(before)
    assert (target.parent.stat().st_mode & 0o777, target.stat().st_mode & 0o777) == (0o700, 0o700)
    target.parent.chmod(0o777)
    for call in (lambda: build_once(target, {}, one_file()), lambda: is_complete(target, {})):
        with pytest.raises(
            ValueError, match=r"other users may write into .*cache .*MOPREF_CACHE to a folder of your own"
        ):
            call()


def test_all_is_on_the_disk_before_it_takes_its_name(tmp_path, monkeypatch):
    done = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: (done.append(os.path.realpath(f"/proc/self/fd/{file}")), fsync(file)))
    monkeypatch.setattr(os, "replace", lambda old, new: (done.append("replace"), replace(old, new)))
    build_once(tmp_path / "made", {}, one_file())
    files = [os.path.basename(path) for path in done]
    assert sorted(files[:3]) == ["made", "manifest.json", "model.safetensors"]
    assert files[3:] == ["replace", tmp_path.name]

"""Folders that are built once and appear when they are complete."""

import os

import pytest

from mopref._cache import build_once, cache_folder, is_complete


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

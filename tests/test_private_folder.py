"""Folders into which other users can write are refused, by name and with what to do."""

import grp
import os
import pwd
from types import SimpleNamespace

import pytest

from mopref import _private_folder
from mopref._private_folder import check_private, is_own

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no such owners")


def check(folder):
    check_private(folder, "take another")


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "above" / "cache"
    path.mkdir(parents=True)
    return path


def test_an_own_folder_and_one_that_is_not_there_yet_are_taken(folder):
    for mode in (0o700, 0o755, 0o500):
        folder.chmod(mode)
        check(folder)
    check(folder / "none")


@pytest.mark.parametrize("mode", [0o777, 0o707, 0o1777, 0o722])
def test_a_folder_that_all_write_into_is_refused(folder, mode):
    folder.chmod(mode)
    with pytest.raises(
        ValueError, match=rf"write into the folder {folder} \(permissions {mode:o}\).*go-w.*take another"
    ):
        check(folder)


def test_above_all_may_write_where_they_cannot_rename(folder):
    folder.parent.chmod(0o1777)
    check(folder)
    folder.parent.chmod(0o777)
    with pytest.raises(
        ValueError, match=rf"{folder.parent} \(permissions 777\), and files are loaded from a folder in it"
    ):
        check(folder)
    with pytest.raises(ValueError, match="permissions 777"):
        check(folder.parent / "none")


def test_a_link_is_followed_to_its_folder(folder, tmp_path):
    (tmp_path / "link").symlink_to(folder)
    check(tmp_path / "link")
    folder.chmod(0o777)
    with pytest.raises(ValueError, match="permissions 777"):
        check(tmp_path / "link")
    folder.chmod(0o755)
    folder.parent.chmod(0o777)
    with pytest.raises(ValueError, match="permissions 777"):
        check(tmp_path / "link")


def test_a_folder_of_another_user_is_refused_and_roots_is_not(folder, monkeypatch):
    owner = folder.stat().st_uid
    monkeypatch.setattr(_private_folder.os, "geteuid", lambda: owner + 1)
    if owner == 0:
        check(folder)
        os.chown(folder, 4_321, -1)
        with pytest.raises(ValueError, match="belongs to the user 4321, and files are loaded from it: take another"):
            check(folder)
    else:
        with pytest.raises(ValueError, match=r"belongs to the user .*: take another"):
            check(folder)


@pytest.mark.parametrize(
    ("name", "group", "members", "is_private"),
    [
        ("me", 77, [], True),
        ("me", 77, ["me"], True),
        ("me", 77, ["me", "other"], False),
        ("users", 77, [], False),
        ("me", 78, [], False),
    ],
)
def test_a_group_of_one_user_is_no_other(folder, monkeypatch, name, group, members, is_private):
    """Some systems give every user a group, and let it write."""
    monkeypatch.setattr(grp, "getgrgid", lambda number: SimpleNamespace(gr_name=name, gr_mem=members))
    monkeypatch.setattr(pwd, "getpwuid", lambda number: SimpleNamespace(pw_name="me", pw_gid=group))
    status = SimpleNamespace(st_mode=0o40775, st_gid=77, st_uid=1_000)
    assert _private_folder._is_open(status) is not is_private
    assert _private_folder._is_open(SimpleNamespace(st_mode=0o40777, st_gid=77, st_uid=1_000))
    assert not _private_folder._is_open(SimpleNamespace(st_mode=0o40755, st_gid=78, st_uid=1_000))


def test_a_group_that_nobody_knows_is_another(monkeypatch):
    def unknown(number):
        raise KeyError(number)

    monkeypatch.setattr(grp, "getgrgid", unknown)
    assert _private_folder._is_open(SimpleNamespace(st_mode=0o40775, st_gid=77, st_uid=1_000))
    assert not _private_folder._is_open(SimpleNamespace(st_mode=0o40775, st_gid=0, st_uid=0))
    assert is_own(SimpleNamespace(st_uid=0))

from pathlib import Path

import pytest

from mopref._paths import checked_path


def test_a_path_is_given_back():
    assert checked_path("a/b", "folder") == Path("a/b")
    assert checked_path(Path("a"), "folder") == Path("a")
    assert checked_path("/".join(["x" * 255] * 3), "folder").name == "x" * 255


@pytest.mark.parametrize(
    ("path", "kind", "message"),
    [
        (None, TypeError, "folder is None, of type NoneType: give a path"),
        (b"a", TypeError, "folder is b'a', of type bytes: give a path"),
        (range(3), TypeError, "folder is range"),
        ("a\0b", ValueError, "has a character that no name of a file can have"),
        ("\ud800", ValueError, "has a character that no name of a file can have"),
        ("x" * 256, ValueError, "a name in it has more than 255 bytes"),
        ("a/" + "ä" * 128, ValueError, "a name in it has more than 255 bytes"),
    ],
)
def test_what_no_path_can_be_is_refused_by_name(path, kind, message):
    with pytest.raises(kind, match=message):
        checked_path(path, "folder")

"""Files of strangers: plain ones, of their folder, of a bounded size, and with nothing that acts on a terminal."""

import errno
import os
import tracemalloc
from pathlib import Path

import pytest

from mopref._checked_files import (
    MAX_DESCRIPTION_BYTES,
    file_digest,
    is_readable_text,
    parsed_description,
    parsed_json,
    printable,
    regular_file,
)
from mopref._write_ahead import PENDING


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="there is no file that fails to be read")
@pytest.mark.parametrize("read", [file_digest, parsed_description])
def test_an_error_of_the_disk_names_the_file(read):
    """Its first page is none, so that reading it is the error of a failing disk, which comes without a name."""
    with pytest.raises(OSError, match="Input/output error: '/proc/self/mem'") as failure:
        read(Path("/proc/self/mem"))
    assert failure.value.errno == errno.EIO


def test_a_plain_file_is_found_and_a_missing_one_is_none(tmp_path):
    assert regular_file(tmp_path, "file") is None
    (tmp_path / "file").write_text("x")
    assert regular_file(tmp_path, "file") == tmp_path / "file"
    (tmp_path / PENDING).mkdir()
    (tmp_path / PENDING / "file").write_text("newer")
    assert regular_file(tmp_path, "file") == tmp_path / PENDING / "file"


@pytest.mark.parametrize("pending", [False, True])
def test_links_are_followed_within_the_folder_only(pending, tmp_path):
    folder, outside = tmp_path / "folder", tmp_path / "outside.json"
    place = folder / PENDING if pending else folder
    place.mkdir(parents=True)
    (folder / "other").write_text("x")
    outside.write_text("x")
    (place / "inside").symlink_to(folder / "other")
    assert regular_file(folder, "inside") == place / "inside"
    for name, target in {"out": outside, "up": "../" * 8 + "etc/passwd", "device": "/dev/zero"}.items():
        (place / name).symlink_to(target)
        with pytest.raises(ValueError, match=rf"{name} is a link to .*, which is not in that folder: .* Copy the file"):
            regular_file(folder, name)
    for name, target in {"nowhere": "none", "loop": "loop"}.items():
        (place / name).symlink_to(target)
        with pytest.raises(ValueError, match=rf"{name} is a link that leads nowhere: copy the file"):
            regular_file(folder, name)


def test_a_folder_that_is_itself_a_link_is_that_folder(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_text("x")
    (tmp_path / "folder" / "inside").symlink_to("file")
    (tmp_path / "link").symlink_to("folder", target_is_directory=True)
    for name in ("file", "inside"):
        assert regular_file(tmp_path / "link", name) == tmp_path / "link" / name


def test_links_of_the_hubs_cache_lead_to_its_blobs(tmp_path):
    repository = tmp_path / "hub" / "models--OWNER--NAME"
    snapshot, deeper = repository / "snapshots" / "abc", repository / "snapshots" / "abc" / "adapter"
    deeper.mkdir(parents=True)
    for place in (repository, tmp_path / "hub" / "models--OTHER--NAME"):
        (place / "blobs").mkdir(parents=True)
        (place / "blobs" / "123").write_text("x")
    (snapshot / "file").symlink_to("../../blobs/123")
    (deeper / "file").symlink_to("../../../blobs/123")
    assert regular_file(snapshot, "file") == snapshot / "file"
    assert regular_file(deeper, "file") == deeper / "file"
    (snapshot / "other").symlink_to(tmp_path / "hub" / "models--OTHER--NAME" / "blobs" / "123")
    (snapshot / "refs").symlink_to("../../refs")
    (repository / "refs").write_text("x")
    for name in ("other", "refs"):
        with pytest.raises(ValueError, match="which is not in that folder"):
            regular_file(snapshot, name)


def test_what_is_no_plain_file_is_refused_and_not_waited_for(tmp_path):
    (tmp_path / "folder").mkdir()
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
    for path in tmp_path.iterdir():
        with pytest.raises(ValueError, match=rf"{path.name} is no plain file, but a folder, a pipe or a device"):
            regular_file(tmp_path, path.name)


def test_a_large_description_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "description.json"
    with path.open("wb") as file:
        file.truncate(200_000_000)
    tracemalloc.start()
    with pytest.raises(
        ValueError, match=rf"json holds 200000000 bytes, and a description at most {MAX_DESCRIPTION_BYTES}"
    ):
        parsed_description(path)
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()
    path.write_text('{"a": 1}')
    assert parsed_description(path, limit=8) == {"a": 1}
    with pytest.raises(ValueError, match="holds 8 bytes, and a description at most 7"):
        parsed_description(path, limit=7)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "is not valid JSON"),
        (b'{"a": "\xff"}', "is not valid JSON"),
        (b"[" * 100_000 + b"]" * 100_000, "is not valid JSON"),
        (b"[" * 40 + b"]" * 40, "nested more than 32 deep"),
        (b'{"a":' * 40 + b"1" + b"}" * 40, "nested more than 32 deep"),
        (b"1" * 4301, "is not valid JSON"),
        (rb'"a\u001b[2J"', r"holds control characters, in 'a\\x1b\[2J'"),
        (rb'[{"k\u0007": 1}]', "holds control characters"),
        (rb'{"a": ["\ud800"]}', "holds control characters"),
        ('{"a": "\u202eabc"}'.encode(), "holds control characters"),
        (rb'{"a": "one\ntwo"}', "holds control characters"),
    ],
)
def test_what_is_no_description_is_refused_in_our_words(content, message):
    with pytest.raises(ValueError, match=f"^it .*{message}") as error:
        parsed_json(content, "it")
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 300


def test_other_json_is_read():
    text = '{"größe": [1, 2.5, null, "λ 👨‍👩‍👧 नी"]}'
    assert parsed_json(text.encode(), "it") == {"größe": [1, 2.5, None, "λ 👨‍👩‍👧 नी"]}


@pytest.mark.parametrize(
    "sign", ["\x00", "\x1b", "\x7f", "\x9b", "\r", "\n", "\t", "\u2028", "\u2029", "\u202e", "\ud800"]
)
def test_what_acts_on_a_terminal_is_escaped(sign):
    assert not is_readable_text(f"a{sign}b")
    assert printable(f"a{sign}b") == f"a{sign.encode('unicode_escape').decode()}b"
    assert printable("größe λ 👨‍👩‍👧") == "größe λ 👨‍👩‍👧"


@pytest.mark.parametrize("text", ['{"a": 1, "a": 2}', '[{"b": {"a": 1, "c": 2, "a": 1}}]'])
def test_a_key_that_is_there_twice(text):
    """Readers would take the first or the last of them, and a checksum of what was read does not tell."""
    with pytest.raises(ValueError, match=r"f is not valid JSON .the key 'a' is there twice"):
        parsed_json(text.encode(), "f")

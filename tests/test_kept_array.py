"""An array comes back bit for bit, or its file is refused."""

import hashlib
import io
import os

import numpy as np
import pytest

from mopref._kept_array import read_array, write_array

POINTS = np.random.default_rng(0).random((9, 3))


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "cache" / "lattices" / "points.npy"
    write_array(path, POINTS)
    return path


def test_an_array_comes_back(path):
    assert np.array_equal(read_array(path, POINTS.nbytes), POINTS)
    if os.name != "nt":
        assert [folder.stat().st_mode & 0o777 for folder in (path.parent, path.parent.parent)] == [0o700, 0o700]


def test_every_flipped_bit_and_every_cut_is_noticed(path):
    whole = path.read_bytes()
    spoilt = [whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :] for place in range(len(whole))]
    for content in [*spoilt, *(whole[:length] for length in range(len(whole))), whole + b"0", whole + b"0" * 10_000]:
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"damaged|more than"):
            read_array(path, POINTS.nbytes)


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def test_nothing_is_unpickled(path, tmp_path):
    content = io.BytesIO()
    np.save(content, np.array([Payload(tmp_path / "unpickled")], dtype=object), allow_pickle=True)
    path.write_bytes(content.getvalue() + hashlib.sha256(content.getvalue()).digest())
    with pytest.raises(ValueError, match="pickle"):
        read_array(path, POINTS.nbytes)
    assert not (tmp_path / "unpickled").exists()

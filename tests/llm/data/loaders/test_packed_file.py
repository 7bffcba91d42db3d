"""Packed files are read to their end, and refused while they unpack to more than any text does."""

import bz2
import gzip
import lzma

import pytest

from mopref.llm.data.loaders import packed_file
from mopref.llm.data.loaders.files import file_kind, file_rows


def rows_of(path, content):
    path.write_bytes(content)
    return list(file_rows(path, file_kind(path.name), path.name))


def refusal(path, content):
    with pytest.raises(ValueError) as refused:
        rows_of(path, content)
    return str(refused.value)


@pytest.mark.parametrize("ending", [".jsonl", ".json", ".csv"])
@pytest.mark.parametrize(("packing", "pack"), [(".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)])
def test_what_unpacks_to_very_much_is_refused_while_it_is_unpacked(tmp_path, monkeypatch, ending, packing, pack):
    monkeypatch.setattr(packed_file, "ALWAYS_UNPACKED", 1 << 16)
    row = {".jsonl": '{"text": "x"}\n', ".json": '{"text": "x"},', ".csv": "x\n"}[ending]
    head, tail = {".jsonl": ("", ""), ".json": ("[", "{}]"), ".csv": ("text\n", "")}[ending]
    content = (head + row * 1_000 + tail).encode()
    path = tmp_path / f"a{ending}{packing}"
    assert len(rows_of(path, pack(content))) in (1_000, 1_001)
    refused = refusal(path, pack((head + row * 500_000 + tail).encode()))
    assert refused.startswith(f"a{ending}{packing} unpacks to more than 100 times its size, which no text does")
    # What is large by itself is no such file.
    plain = tmp_path / f"b{ending}"
    assert len(rows_of(plain, (head + row * 10_000 + tail).encode())) in (10_000, 10_001)

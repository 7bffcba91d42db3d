"""A file of tensors is described by its header alone; nothing is allocated for what it claims."""

import hashlib
import json
import tracemalloc

import pytest
import torch
from safetensors.torch import save_file

from mopref._checked_files import file_digest
from mopref.conditioning.tensor_files import described_tensors, noted_text, read_tensors

DTYPES = [torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool, torch.complex64]


def write(path, header, size=0):
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + size)


@pytest.mark.parametrize("dtype", [*DTYPES, torch.float8_e4m3fn, torch.uint32])
def test_names_shapes_and_types_are_described(dtype, tmp_path):
    path = tmp_path / "tensors.safetensors"
    tensors = {"a": torch.zeros(2, 3).to(dtype), "b.c": torch.ones(()).to(dtype)}
    save_file(tensors, path, metadata={"mopref": "a note"})
    described = described_tensors(path)
    assert {name: (value.shape, value.dtype, value.device.type) for name, value in described.items()} == {
        name: (value.shape, dtype, "meta") for name, value in tensors.items()
    }
    assert read_tensors(path).keys() == tensors.keys()
    assert file_digest(path) == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (noted_text(path, "mopref"), noted_text(path, "other")) == ("a note", None)


def test_a_huge_claim_takes_no_memory(tmp_path):
    path, size = tmp_path / "tensors.safetensors", 2**33
    write(path, {"a": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}, size)
    tracemalloc.start()
    assert described_tensors(path)["a"].shape == (size,)
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read"),
        (b"\x02", "cannot be read"),
        (b"no tensors", r"it says that its header takes \d+ bytes, and it may take 16777216"),
        ((2**60).to_bytes(8, "little") + b"{}", "it says that its header takes"),
        ((16 * 2**20 + 1).to_bytes(8, "little") + b"{}", "it says that its header takes 16777217 bytes"),
        ((2).to_bytes(8, "little") + b"{}x", "cannot be read"),
        ((2).to_bytes(8, "little") + b"{\xff", "cannot be read"),
    ],
)
def test_what_is_no_file_of_tensors_is_refused(content, message, tmp_path):
    path = tmp_path / "tensors.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        described_tensors(path)
    assert str(error.value).startswith(f"{path} cannot be read (")
    assert str(error.value).isprintable()
    assert noted_text(path, "mopref") is None


@pytest.mark.parametrize(
    "header",
    [
        {"a\x1b[2J": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}},
        {"a": {"dtype": "F\x1b[2J", "shape": [1], "data_offsets": [0, 4]}},
        {"a": {"dtype": "F32", "shape": [2**62, 2**62], "data_offsets": [0, 4]}},
        {"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}},
        {"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}},
        {"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 8]}},
        [],
    ],
)
def test_a_header_that_cannot_be_is_refused_and_prints_no_escape_code(header, tmp_path):
    path = tmp_path / "tensors.safetensors"
    write(path, header, 4)
    with pytest.raises(ValueError, match="cannot be read") as error:
        described_tensors(path)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 700


def test_a_file_that_is_not_there_has_no_note(tmp_path):
    assert noted_text(tmp_path / "none", "mopref") is None

"""Files of tensors that another wrote: what their header says is checked before any tensor is read."""

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from mopref._checked_files import is_readable_text, printable

__all__ = ["described_tensors", "noted_text", "read_tensors"]

# The header of 100,000 tensors is smaller.
_MAX_HEADER_BYTES = 16 * 2**20
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "C64": torch.complex64,
}


def described_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by name, with shape and type but on the meta device: no memory is taken for their content.

    Raises:
        ValueError: no file of safetensors, or one whose header is larger than any of ours.
    """
    _check_header_size(path)
    tensors = {}
    try:
        with safe_open(path, "pt") as file:
            for name in file.keys():
                described = file.get_slice(name)
                dtype = _DTYPES.get(str(described.get_dtype()))
                if not is_readable_text(name):
                    raise ValueError(f"the name {name!r:.200} has control characters in it")
                if dtype is None:
                    found = str(described.get_dtype())
                    raise ValueError(f"{name!r:.200} is of the type {found:.20}, which is none of ours")
                tensors[name] = torch.empty(described.get_shape(), dtype=dtype, device="meta")
    except (SafetensorError, OSError, RuntimeError, OverflowError) as error:
        raise ValueError(f"{path} cannot be read ({printable(str(error)):.300})") from error
    except ValueError as error:
        raise ValueError(f"{path} cannot be read ({error})") from error
    return tensors


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by name, whose header was checked before.

    Raises:
        ValueError: a file that changed since.
    """
    try:
        return dict(load_file(path))
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} cannot be read ({printable(str(error)):.300})") from error


def noted_text(path: Path, key: str) -> str | None:
    """A text among the notes in the header of a file of tensors; ``None`` where there is no such file or note."""
    try:
        _check_header_size(path)
        with safe_open(path, "pt") as file:
            text = (file.metadata() or {}).get(key)
    except (OSError, ValueError, SafetensorError):
        return None
    return None if text is None else str(text)


def _check_header_size(path: Path) -> None:
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
    if size > _MAX_HEADER_BYTES:
        raise ValueError(
            f"{path} cannot be read (it says that its header takes {size} bytes, and it may take {_MAX_HEADER_BYTES})"
        )

"""The reference's log-probabilities on the disk, so that a second run with the same ones computes none.

They are found by what they depend on: every weight of the base model and its configuration, the precision, the token
ids of all rows in their order, and how they were computed. Whatever is another one is another entry, never a wrong one.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mopref._warning import warn
from mopref.conditioning.adapter_layer import AdapterLayer
from mopref.llm.data.kept_tables import found_table, keep_table, kept_place, versions_key

__all__ = ["ReferenceCache", "base_digest", "base_key", "reference_columns", "reference_features"]

# Raised where the same key would stand for other numbers.
_FORMAT = 1
_ROWS_AT_ONCE = 10_000


class ReferenceCache:
    """Where references are kept, and whether those asked for last were there.

    Args:
        folder: the cache folder; by default ``$MOPREF_CACHE``, ``$XDG_CACHE_HOME/mopref`` or ``~/.cache/mopref``.

    Attributes:
        found: whether the references that were asked for last were there; ``None`` before.
        place: the folder of those; ``None`` before.

    Raises:
        ValueError: what no folder can be.
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None) -> None:
        self._folder = folder
        self.found: bool | None = None
        self.place: Path | None = None

    @classmethod
    def of(cls, cache: Any) -> Self | None:
        """The cache of an argument: ``True`` for mopref's folder, a folder, a cache itself; ``None`` for ``False``.

        Raises:
            TypeError: anything else.
        """
        if isinstance(cache, cls) or cache is None:
            return cache
        if isinstance(cache, bool):
            return cls() if cache else None
        if isinstance(cache, str | os.PathLike):
            return cls(cache)
        raise TypeError(f"cache is a {type(cache).__name__}: give True, False or a folder.")

    def find(self, key: Mapping[str, Any]) -> Any:
        """The references of this key, a ``datasets.Dataset``; ``None`` where they are not there.

        Warns:
            UserWarning: what is there is damaged, or the folder cannot be used.
        """
        place = kept_place("references", key, self._folder)
        self.found, self.place = False, place
        try:
            table = found_table(place, key)
        except (OSError, ValueError) as error:
            warn(f"the references are neither looked for nor kept on the disk: {error}")
            self.place = None
            return None
        self.found = table is not None
        return table

    def keep(self, key: Mapping[str, Any], pairs: NDArray[np.float64], notes: Mapping[str, str]) -> Any:
        """Keep references ``(rows, 2)``; ``None`` where that cannot be, which ends no run.

        Warns:
            UserWarning: nothing could be written, such as on a full disk.
        """
        if self.place is None:
            return None

        def batches() -> Iterator[dict[str, list[Any]]]:
            for start in range(0, len(pairs), _ROWS_AT_ONCE):
                yield reference_columns(pairs[start : start + _ROWS_AT_ONCE], notes)

        try:
            return keep_table(self.place, key, reference_features(), batches)
        except (OSError, ValueError) as error:
            warn(f"the references are used, but not kept on the disk for another run: {error}")
            return None


def reference_features() -> dict[str, Any]:
    """The columns of a table of references."""
    from datasets import List, Value

    texts = {name: Value("string") for name in ("reference_precision", "reference_model")}
    return {"reference_log_probabilities": List(Value("float64")), **texts}


def reference_columns(pairs: NDArray[np.float64], notes: Mapping[str, str]) -> dict[str, list[Any]]:
    """References ``(rows, 2)`` and what is noted of them, by column."""
    texts = {name: [text] * len(pairs) for name, text in notes.items()}
    return {"reference_log_probabilities": pairs.tolist(), **texts}


def base_key(base: nn.Module) -> dict[str, Any] | None:
    """What a base model's log-probabilities depend on; ``None`` where its weights cannot be told whole."""
    weights = base_digest(base)
    if weights is None:
        return None
    config: Any = getattr(base, "config", None)
    settings = dict(config.to_dict()) if hasattr(config, "to_dict") else {"config": repr(config)}
    # Where it was loaded from says nothing.
    settings.pop("_name_or_path", None)
    return {
        **versions_key(),
        "format": _FORMAT,
        "weights": weights,
        "model": f"{type(base).__module__}.{type(base).__qualname__}",
        "config": hashlib.sha256(json.dumps(settings, sort_keys=True, default=repr).encode()).hexdigest(),
        "attention": str(getattr(config, "_attn_implementation", None)),
        "device": next(base.parameters()).device.type,
        "matmul precision": torch.get_float32_matmul_precision(),
    }


def base_digest(base: nn.Module) -> str | None:
    """A sha256 of every number of a base model's parameters and buffers, the same beside any adapters.

    ``None`` where they are not all here: spread over processes, on the meta device, or of a kind whose content cannot
    be read.
    """
    adapters = tuple(f"{path}." for path, layer in base.named_modules() if isinstance(layer, AdapterLayer))
    digest = hashlib.sha256()
    # What quantised layers add to their state, and buffers that no state holds.
    values = {**dict(base.named_buffers()), **base.state_dict(keep_vars=True)}
    for name in sorted(values):
        owner = next((path for path in adapters if name.startswith(path)), None)
        if owner is not None and not name.startswith(f"{owner}base_layer."):
            continue
        # With the adapters in place the names are longer.
        digest.update(name.replace(".base_layer.", ".").encode())
        if not _add(digest, values[name]):
            return None
    return digest.hexdigest()


def _add(digest: Any, value: Any) -> bool:
    """Add a tensor's type, shape and numbers; whether that could be."""
    if not isinstance(value, Tensor) or value.is_meta or hasattr(value, "placements") or value.layout != torch.strided:
        return False
    plain = value.detach()
    if type(plain) is not Tensor and hasattr(plain, "__tensor_flatten__"):
        names, context = plain.__tensor_flatten__()
        digest.update(repr((type(plain).__qualname__, names, context)).encode())
        return all(_add(digest, getattr(plain, name)) for name in names)
    digest.update(repr((str(plain.dtype), tuple(plain.shape))).encode())
    if plain.numel():
        digest.update(plain.cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return True

"""Sentence embeddings by a model that is loaded once."""

import os
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from mopref._pickled_weights import tensors_alone
from mopref._progress import progress_bar
from mopref._repr import OptionsRepr, short_repr
from mopref.argument_kinds import checked_path, checked_texts, checks_arguments
from mopref.llm.data.lengths import batches_of_like_length

__all__ = ["Embedder", "shared_embedder"]


class Embedder(OptionsRepr):
    """Unit-length embeddings of texts: the last hidden states averaged over a text, which is cut at 256 tokens.

    The cosine of two texts is the dot product of their rows.

    Args:
        folder: holds a sentence-embedding model and its tokenizer, such as ``mopref.llm.demo.minilm()``.
        device: where the model runs.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: a folder that cannot be read as a model with its tokenizer, or a device that torch does not know.
    """

    @checks_arguments
    def __init__(self, folder: str | os.PathLike[str], device: str | torch.device = "cpu") -> None:
        from transformers import AutoModel, AutoTokenizer

        path = checked_path(folder, "folder")
        if not path.is_dir():
            raise FileNotFoundError(f"{path} is no folder: give that of a sentence-embedding model, as minilm() does.")
        try:
            self.device = torch.device(device)
        except (RuntimeError, TypeError) as error:
            raise ValueError(
                f"device is {short_repr(device)}: give 'cpu', 'cuda' or another that torch knows."
            ) from error
        self.folder = str(path)
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
            safe = {"trust_remote_code": False, "weights_only": True}
            with tensors_alone(path):
                model = AutoModel.from_pretrained(path, dtype=torch.float32, **safe)
            self.model = model.eval().to(self.device)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ValueError(f"{path} cannot be read as a model with its tokenizer: {error}") from error

    def options(self) -> dict[str, Any]:
        """The options by name."""
        return {"folder": self.folder, "device": str(self.device)}

    def embed(self, texts: Sequence[str], batch_size: int = 32, progress: bool = False) -> np.ndarray:
        """The embeddings of N texts, float32 of shape ``(N, d)``; a text that occurs twice is embedded once.

        Args:
            texts: N texts.
            batch_size: texts in one forward pass.
            progress: show a progress bar.

        Raises:
            ValueError: ``texts`` is one string instead of a sequence of strings.
        """
        if isinstance(texts, str):
            raise ValueError(f"texts is one string of {len(texts)} characters: put it in a list.")
        texts = checked_texts(texts, "texts")
        distinct = sorted(set(texts))
        rows = {text: row for row, text in enumerate(distinct)}
        embeddings = np.zeros((len(distinct), self.model.config.hidden_size), dtype=np.float32)
        with progress_bar(None, "embedding texts", enabled=progress, total=len(distinct), unit="text") as bar:
            for batch in batches_of_like_length([len(text) for text in distinct], batch_size):
                embeddings[batch] = self._embed_batch([distinct[row] for row in batch])
                bar.update(len(batch))
        return embeddings[[rows[text] for text in texts]]

    @torch.inference_mode()
    def _embed_batch(self, texts: list[str]) -> np.ndarray:
        batch = self.tokenizer(texts, padding=True, truncation=True, max_length=256, return_tensors="pt")
        batch = batch.to(self.device)
        hidden = self.model(**batch).last_hidden_state
        mask = batch["attention_mask"].unsqueeze(-1).to(hidden.dtype)
        mean = (hidden * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1.0)
        return torch.nn.functional.normalize(mean, dim=-1).cpu().numpy()


@checks_arguments
def shared_embedder(folder: str | os.PathLike[str]) -> Embedder:
    """The embedder of a folder, the same one at each call, so that several rewards hold one model.

    Raises:
        TypeError: no path.
        FileNotFoundError, ValueError: as :class:`Embedder` does.
    """
    return _shared_embedder(str(checked_path(folder, "folder").resolve()))


@lru_cache(maxsize=2)
def _shared_embedder(folder: str) -> Embedder:
    return Embedder(folder)

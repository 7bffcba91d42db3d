"""Sentence embeddings by a model that is loaded once."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

__all__ = ["Embedder", "shared_embedder"]


class Embedder:
    """Unit-length embeddings of texts: the last hidden states averaged over a text, which is cut at 256 tokens.

    ``folder`` holds a sentence-embedding model and its tokenizer, such as `mopref.llm.demo.assets.minilm` returns.
    The cosine of two texts is the dot product of their rows.
    """

    def __init__(self, folder: str | os.PathLike[str], device: str | torch.device = "cpu") -> None:
        from transformers import AutoModel, AutoTokenizer

        self.device = torch.device(device)
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval().to(self.device)

    def embed(self, texts: Sequence[str], batch_size: int = 32, progress: bool = False) -> np.ndarray:
        """Return the embeddings of N texts, float32 of shape ``(N, d)``; a text that occurs twice is embedded once.

        Raises:
            ValueError: ``texts`` is one string instead of a sequence of strings.
        """
        if isinstance(texts, str):
            raise ValueError(
                f"texts must be a sequence of strings, but is one string of {len(texts)} characters; put it in a list"
            )
        # Texts of like length share a batch, so that little of the work goes into padding.
        different = sorted(set(texts), key=lambda text: (len(text), text))
        rows = {text: row for row, text in enumerate(different)}
        embeddings = np.zeros((len(different), self.model.config.hidden_size), dtype=np.float32)
        with tqdm(total=len(different), desc="embedding texts", unit="text", disable=not progress, leave=False) as bar:
            for start in range(0, len(different), batch_size):
                chosen = different[start : start + batch_size]
                embeddings[start : start + len(chosen)] = self._embed_batch(chosen)
                bar.update(len(chosen))
        return embeddings[[rows[text] for text in texts]]

    @torch.inference_mode()
    def _embed_batch(self, texts: list[str]) -> np.ndarray:
        batch = self.tokenizer(texts, padding=True, truncation=True, max_length=256, return_tensors="pt")
        batch = batch.to(self.device)
        hidden = self.model(**batch).last_hidden_state
        mask = batch["attention_mask"].unsqueeze(-1).to(hidden.dtype)
        mean = (hidden * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1.0)
        return torch.nn.functional.normalize(mean, dim=-1).cpu().numpy()


def shared_embedder(folder: str | os.PathLike[str]) -> Embedder:
    """Return the embedder of a folder, the same one at each call, so that several rewards hold one model."""
    return _shared_embedder(str(Path(folder).resolve()))


@lru_cache(maxsize=2)
def _shared_embedder(folder: str) -> Embedder:
    return Embedder(folder)

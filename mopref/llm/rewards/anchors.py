"""A reward for answers that are nearer to some sentences than to others."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mopref._repr import short_repr
from mopref.argument_kinds import checked_texts, checks_arguments

from .embedder import Embedder
from .reward import REWARDS, Prompt, Reward

__all__ = ["Anchors"]


@REWARDS.register("anchors")
class Anchors(Reward):
    """How much nearer the response is to some sentences than to others; the prompt is not read.

    With e(·) the sentence embedding, of unit length, K sentences a_k that a good response is like, and L sentences b_l
    that it is unlike:

        r(y) = 1/K Σ_k e(y) · e(a_k) − 1/L Σ_l e(y) · e(b_l),    −2 to 2.

    What the two sets have in common, such as their subject, cancels where they are written as counterparts. It sees a
    tone no better than the embedding does. Only the first 256 tokens of a text count.

    Args:
        embedder: the sentence-embedding model, such as ``shared_embedder(minilm())`` with ``mopref.llm.demo.minilm``.
        like: sentences that a good response is like, one at least.
        unlike: sentences that it is unlike, one at least.

    Raises:
        TypeError: something that embeds no texts, or sentences that are no list of texts.
        ValueError: no sentence, or an empty one.
    """

    direction = "higher is nearer to the sentences it should be like, less those it should not"

    @checks_arguments(but=("embedder",))
    def __init__(self, embedder: Embedder, like: tuple[str, ...], unlike: tuple[str, ...]) -> None:
        if not callable(getattr(embedder, "embed", None)):
            raise TypeError(
                f"embedder is of type {type(embedder).__name__}: give an Embedder, as shared_embedder makes."
            )
        self.embedder = embedder
        self.like, self.unlike = _sentences(like, "like"), _sentences(unlike, "unlike")
        vectors = torch.from_numpy(embedder.embed([*self.like, *self.unlike])).double()
        first = len(self.like)
        self._axis = vectors[:first].mean(dim=0) - vectors[first:].mean(dim=0)

    @checks_arguments
    def __call__(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> Tensor:
        """The rewards of N responses, shape ``(N,)``."""
        texts = checked_texts(responses, "responses")
        return torch.from_numpy(self.embedder.embed(texts)).double() @ self._axis


def _sentences(texts: Sequence[str], name: str) -> tuple[str, ...]:
    sentences = tuple(checked_texts(texts, name))
    if not sentences or not all(text.strip() for text in sentences):
        raise ValueError(f"{name} is {short_repr(sentences)}: give one sentence at least, none of them empty.")
    return sentences

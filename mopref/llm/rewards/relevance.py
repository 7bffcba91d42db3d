"""A reward for answers that take up the request."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mopref.argument_kinds import checks_arguments

from .embedder import Embedder
from .reward import REWARDS, Prompt, Reward, check_counts, last_request

__all__ = ["Relevance"]


@REWARDS.register("relevance")
class Relevance(Reward):
    """The cosine of the sentence embeddings of request and response, −1 to 1.

    A stand-in for helpfulness where no helpfulness reward is at hand: an answer that takes up the request is nearer to
    it than a refusal or a digression is. It cannot tell right from wrong, and a response that repeats the request
    scores highest. Of chat messages the request is the last one by the user. Only the first 256 tokens of a text
    count.

    Args:
        embedder: the sentence-embedding model, such as ``shared_embedder(minilm())`` with ``mopref.llm.demo.minilm``.

    Raises:
        TypeError: something that embeds no texts.
    """

    direction = "higher is nearer to the request"

    @checks_arguments(but=("embedder",))
    def __init__(self, embedder: Embedder) -> None:
        if not callable(getattr(embedder, "embed", None)):
            raise TypeError(
                f"embedder is of type {type(embedder).__name__}: give an Embedder, as shared_embedder makes."
            )
        self.embedder = embedder

    @checks_arguments
    def __call__(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> Tensor:
        """The cosines of N prompts and responses, shape ``(N,)``."""
        check_counts({"prompts": prompts, "responses": responses})
        requests = [last_request(prompt) for prompt in prompts]
        vectors = torch.from_numpy(self.embedder.embed([*requests, *responses])).double()
        return (vectors[: len(requests)] * vectors[len(requests) :]).sum(dim=1)

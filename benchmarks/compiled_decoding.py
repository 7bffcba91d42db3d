"""One token's forward compiled by torch.compile, with a cache of fixed size: what it saves, and what compiling costs.

    OMP_NUM_THREADS=1 python benchmarks/compiled_decoding.py --model small --rows 8

The models are those of ``generation_speed.py``, the conditioned one with another λ in every row. Both make the same
tokens one after the other in turns: with a cache that grows, with one of fixed size, and compiled with that one.
"""

import argparse
import random
import statistics
import time
from collections.abc import Sequence
from typing import Any, cast

import torch
from generation_speed import OBJECTIVES, SHAPES, make_model
from torch import Tensor, nn

from mopref.samplers import UniformSampler

WAYS = ("growing cache", "fixed cache", "fixed cache, compiled")
PROMPT_TOKENS = 32


class Decoder:
    """Greedy decoding of one model in one way, a token at a time."""

    def __init__(self, model: nn.Module, way: str, prompts: Tensor, new_tokens: int) -> None:
        from transformers import StaticCache

        self.model, self.tokens = cast(Any, model), []
        self.cache = None
        if way != "growing cache":
            self.cache = StaticCache(config=self.model.config, max_cache_len=prompts.shape[1] + new_tokens)
        self.position = prompts.shape[1]
        output = self._forward(prompts, torch.arange(self.position).expand_as(prompts))
        self.cache = output.cache
        self._take(output.logits)
        if way == "fixed cache, compiled":
            self._forward = torch.compile(self._forward, dynamic=False)  # type: ignore[method-assign]

    def _forward(self, ids: Tensor, positions: Tensor) -> Any:
        return self.model(input_ids=ids, position_ids=positions, cache=self.cache, use_cache=True, logits_to_keep=1)

    def _take(self, logits: Tensor) -> None:
        self.tokens.append(logits[:, -1].argmax(-1, keepdim=True))

    def step(self) -> tuple[float, float]:
        """Make one token: seconds of this thread's processor time, and by the clock."""
        start, clock = time.thread_time(), time.perf_counter()
        output = self._forward(self.tokens[-1], torch.full_like(self.tokens[-1], self.position))
        seconds = time.thread_time() - start, time.perf_counter() - clock
        self.position += 1
        self._take(output.logits)
        return seconds


@torch.no_grad()
def main(arguments: Sequence[str] | None = None) -> None:
    """Print a line for each model and way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=list(SHAPES), default="small", help="(default: %(default)s)")
    parser.add_argument("--blocks", type=int, help="(default: those of the shape)")
    parser.add_argument("--rows", type=int, default=8, help="(default: %(default)s)")
    parser.add_argument("--new-tokens", type=int, default=30, help="(default: %(default)s)")
    options = parser.parse_args(arguments)
    model = make_model(options.model, options.blocks, "cpu")
    merged = model.merge([1 / len(OBJECTIVES)] * len(OBJECTIVES))
    prompts = torch.randint(
        3, model.config.vocab_size, (options.rows, PROMPT_TOKENS), generator=torch.Generator().manual_seed(0)
    )
    preferences = UniformSampler(len(OBJECTIVES), seed=0).sample(options.rows)
    with model.decoding(preferences, options.rows) as base:
        decoders = {
            (name, way): Decoder(network, way, prompts, options.new_tokens + 1)
            for name, network in (("merged", merged), ("conditioned", base))
            for way in WAYS
        }
        seconds: dict[tuple[str, str], list[tuple[float, float]]] = {key: [] for key in decoders}
        order, shuffle = list(decoders), random.Random(0)
        for _ in range(options.new_tokens):
            shuffle.shuffle(order)
            for key in order:
                seconds[key].append(decoders[key].step())
    print("Processor time of a token over the merged model's with a growing cache; the first token's by the clock.")
    # Compiling and warming up are in the first ones.
    medians = {key: statistics.median(own for own, _ in times[1 + len(times) // 5 :]) for key, times in seconds.items()}
    for (name, way), median in medians.items():
        same = torch.equal(torch.cat(decoders[name, way].tokens, 1), torch.cat(decoders[name, WAYS[0]].tokens, 1))
        ratio, first = median / medians["merged", WAYS[0]], seconds[name, way][0][1]
        told = "the same" if same else "OTHERS"
        print(f"{name:<12} {way:<22} {ratio:.3f}, first token {first:.1f} s, tokens {told}")


if __name__ == "__main__":
    main()

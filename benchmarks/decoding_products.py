"""What one token costs in the linear layers alone, by the way that a layer and its adapter are multiplied.

    OMP_NUM_THREADS=1 python benchmarks/decoding_products.py --rows 8 32 1024

The linear layers of some blocks of SmolLM2-135M's shape with adapters of the default rank at three objectives, another
gate in every row, float32. Each way has weights of its own, and they take turns block by block in random order, so that
none finds its weights in the processor's cache. The ratio is to the products of a merged model, in processor time: of
the sums over blocks of medians, and of minima, which other work on the machine moves less. The ways make the same
numbers, which is checked first.
"""

import argparse
import random
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from mopref import SVDLoRAConfig
from mopref.conditioning.packed_weights import pack, packed_product

# (n_out, n_in) of q, k, v, o, gate, up and down.
SIZES = ((576, 576), (192, 576), (192, 576), (576, 576), (1536, 576), (1536, 576), (576, 1536))
RANK = SVDLoRAConfig(("a", "b", "c")).total_rank

# One layer: W, V, U and, for some ways, W in another form.
Layer = tuple[Tensor, Tensor, Tensor, Any]


def coordinates(x: Tensor, directions: Tensor, gate: Tensor) -> Tensor:
    """(x V) ∘ g, the faster way round as in the library."""
    return ((directions.T @ x.T).T if len(x) >= 32 else x @ directions) * gate


def _small_first(x: Tensor, gate: Tensor, layer: Layer) -> Tensor:
    weight, into, out, _ = layer
    return (coordinates(x, into, gate) @ out.T).addmm_(x, weight.T)


def _in_view(x: Tensor, gate: Tensor, layer: Layer) -> Tensor:
    return _small_first(x, gate, (layer[3], *layer[1:]))


def _large_first(x: Tensor, gate: Tensor, layer: Layer) -> Tensor:
    weight, into, out, _ = layer
    return functional.linear(x, weight).addmm_(coordinates(x, into, gate), out.T)


def _beside(x: Tensor, gate: Tensor, layer: Layer) -> Tensor:
    return functional.linear(torch.cat([x, coordinates(x, layer[1], gate)], dim=1), layer[3])


def _packed(x: Tensor, gate: Tensor, layer: Layer) -> Tensor:
    return packed_product(x, layer[3], None).addmm_(coordinates(x, layer[1], gate), layer[2].T)


def _packed_beside(x: Tensor, gate: Tensor, layer: Layer) -> Tensor:
    return packed_product(torch.cat([x, coordinates(x, layer[1], gate)], dim=1), layer[3], None)


def _in_padded(weight: Tensor, out: Tensor) -> Tensor:
    """[W | U] with rows that begin at multiples of 16 numbers."""
    width = weight.shape[1] + RANK
    buffer = torch.zeros(len(weight), -(-width // 16) * 16)[:, :width]
    buffer[:, : weight.shape[1]], buffer[:, weight.shape[1] :] = weight, out
    return buffer


# By name: how the weight is laid out for it, and how the layer is multiplied.
WAYS: dict[str, tuple[Callable[[Tensor, Tensor], Any], Callable[[Tensor, Tensor, Layer], Tensor]]] = {
    "merged": (lambda *_: None, lambda x, _, layer: functional.linear(x, layer[0])),
    "merged, W a view of [W | U]": (
        lambda weight, out: _in_padded(weight, out)[:, : weight.shape[1]],
        lambda x, _, layer: functional.linear(x, layer[3]),
    ),
    "small product first": (lambda *_: None, _small_first),
    "large product first": (lambda *_: None, _large_first),
    "small first, W a view": (lambda weight, out: _in_padded(weight, out)[:, : weight.shape[1]], _in_view),
    "[W | U]": (lambda weight, out: torch.cat([weight, out], dim=1), _beside),
    "[W | U], aligned": (_in_padded, _beside),
    "merged, packed": (lambda weight, _: pack(weight), lambda x, _, layer: packed_product(x, layer[3], None)),
    "packed": (lambda weight, _: pack(weight), _packed),
    "packed [W | U]": (lambda weight, out: pack(torch.cat([weight, out], dim=1)), _packed_beside),
}


def make_blocks(blocks: int, way: str) -> list[list[Layer]]:
    """The layers of each block, laid out for a way; of the same numbers for all."""
    generator = torch.Generator().manual_seed(0)

    def layer(n_out: int, n_in: int) -> Layer:
        weight = torch.randn(n_out, n_in, generator=generator) / n_in**0.5
        into = torch.randn(n_in, RANK, generator=generator) / n_in**0.5
        out = 0.02 * torch.randn(RANK, n_out, generator=generator).T
        return weight, into, out, WAYS[way][0](weight, out)

    return [[layer(*sizes) for sizes in SIZES] for _ in range(blocks)]


def measure(rows: int, blocks: int, turns: int) -> dict[str, tuple[float, float]]:
    """For each way, the ratio to a merged model's products: of medians, and of minima.

    Raises:
        RuntimeError: a way makes other numbers.
    """
    generator = torch.Generator().manual_seed(1)
    inputs = {size: torch.randn(rows, size, generator=generator) for size in {n_in for _, n_in in SIZES}}
    gate = torch.rand(rows, RANK, generator=generator)
    laid_out = {way: make_blocks(blocks, way) for way in WAYS}
    for way, (_, output) in WAYS.items():
        x, like = inputs[SIZES[-1][1]], "merged" if way.startswith("merged") else "small product first"
        expected = WAYS[like][1](x, gate, laid_out[like][0][-1])
        if not torch.allclose(output(x, gate, laid_out[way][0][-1]), expected, atol=1e-4):
            raise RuntimeError(f"{way!r} makes other numbers than {like!r}.")
    seconds: dict[str, list[list[float]]] = {way: [[] for _ in range(blocks)] for way in WAYS}
    order, shuffle = list(WAYS), random.Random(0)
    for _ in range(turns + 1):
        for block in range(blocks):
            shuffle.shuffle(order)
            for way in order:
                output = WAYS[way][1]
                start = time.process_time()
                for layer in laid_out[way][block]:
                    output(inputs[layer[1].shape[0]], gate, layer)
                seconds[way][block].append(time.process_time() - start)
    # The first of each warms up.
    sums = {
        way: tuple(sum(of(own[1:]) for own in found) for of in (statistics.median, min))
        for way, found in seconds.items()
    }
    return {way: (median / sums["merged"][0], least / sums["merged"][1]) for way, (median, least) in sums.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table for each number of rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[8, 32], help="(default: 8 32)")
    parser.add_argument("--blocks", type=int, default=12, help="(default: %(default)s)")
    parser.add_argument("--turns", type=int, default=20, help="(default: %(default)s)")
    options = parser.parse_args(arguments)
    print("Processor time over a merged model's products: ratio of medians, of minima.")
    with torch.no_grad():
        for rows in options.rows:
            for way, (median, least) in measure(rows, options.blocks, options.turns).items():
                print(f"{rows:>5} rows  {way:<28} {median:>6.3f} {least:>6.3f}", flush=True)


if __name__ == "__main__":
    main()

"""The least time that a DPO step can take here: its necessary matrix products, at the speed torch multiplies with.

Counted are multiply-adds of the policy's forward and of the backward that leads to its inputs and its adapters (base
weights are frozen, and the first block's query, key and value need no gradient of the embeddings), with

* every prompt once a pair, and each response without its last token, which predicts nothing;
* the attention of each token to itself and what is before it;
* the output head at the tokens that predict a response's;
* where the reference is not cached, one forward of the base and its head more.

Nothing else is counted: no norm, softmax, activation, optimiser or copy, and nothing that Python does. The seconds of
each product are measured at its own shape, in turn with the steps.
"""

import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from step_parts import Setting, make_rows
from torch import Tensor

# The head is multiplied in pieces of so many tokens of the vocabulary, so that it takes little memory.
_PIECE = 8192


class Product(NamedTuple):
    """``count`` products of ``(rows, inner)`` and ``(inner, columns)``; count may be a fraction, of one measured.

    Attributes:
        batch: products in one call, as attention's heads.
    """

    kind: str
    count: float
    rows: int
    inner: int
    columns: int
    batch: int = 1

    @property
    def multiply_adds(self) -> float:
        """Of all of them."""
        return self.count * self.batch * self.rows * self.inner * self.columns


def linear_sizes(setting: Setting) -> list[tuple[int, int]]:
    """``(n_out, n_in)`` of a block's linear layers, query, key and value first."""
    narrow = setting.hidden // setting.heads * setting.key_value_heads
    wide, inner = setting.hidden, setting.intermediate
    return [(wide, wide), (narrow, wide), (narrow, wide), (wide, wide), (inner, wide), (inner, wide), (wide, inner)]


def necessary_products(setting: Setting) -> list[Product]:
    """Every product of one step."""
    lengths = [
        (len(row["prompt_ids"]), len(row[f"response_{index}_ids"]) - 1)
        for row in make_rows(setting, 1)
        for index in (0, 1)
    ]
    prompts = lengths[::2]
    tokens = sum(prompt for prompt, _ in prompts) + sum(response for _, response in lengths)
    targets = sum(response + 1 for _, response in lengths)
    products: list[Product] = []
    for place, (n_out, n_in) in enumerate(linear_sizes(setting)):
        backward = setting.layers - (place < 3)
        forward = setting.layers * (1 if setting.cached else 2)
        products += [
            Product("base", forward, tokens, n_in, n_out),
            Product("base", backward, tokens, n_out, n_in),
            # x V, and the gradients of V and of x; the same of U.
            Product("adapters", setting.layers, tokens, n_in, setting.rank),
            Product("adapters", setting.layers, n_in, tokens, setting.rank),
            Product("adapters", backward, tokens, setting.rank, n_in),
            Product("adapters", setting.layers, tokens, setting.rank, n_out),
            Product("adapters", setting.layers, n_out, tokens, setting.rank),
            Product("adapters", setting.layers, tokens, n_out, setting.rank),
        ]
    pairs = sum(prompt * (prompt + 1) // 2 for prompt, _ in prompts)
    pairs += sum(prompt * response + response * (response + 1) // 2 for prompt, response in lengths)
    longest, width = max(map(sum, lengths)), setting.hidden // setting.heads
    # Scores and values forward, four products backward, as a share of full squares of the longest sequence.
    share = setting.layers * (6 if setting.cached else 8) * pairs / longest**2
    products.append(Product("attention", share / 2, longest, width, longest, setting.heads))
    products.append(Product("attention", share / 2, longest, longest, width, setting.heads))
    piece = min(_PIECE, setting.vocabulary)
    pieces = setting.vocabulary / piece
    products.append(Product("head", pieces * (1 if setting.cached else 2), targets, setting.hidden, piece))
    products.append(Product("head", pieces, targets, piece, setting.hidden))
    return products


def measured(product: Product, weights: dict[tuple[int, ...], Tensor]) -> tuple[float, float]:
    """Seconds and processor seconds of all of a product, each from the faster of two calls."""

    def factor(*size: int) -> Tensor:
        return weights.setdefault(size, torch.randn(size))

    leading = (product.batch,) if product.batch > 1 else ()
    first = factor(*leading, product.rows, product.inner)
    # As a linear layer has it: its weight is (columns, inner).
    second = factor(*leading, product.columns, product.inner).transpose(-1, -2)
    result = torch.empty(*leading, product.rows, product.columns)
    spent = []
    for _ in range(2):
        start = time.perf_counter(), time.process_time()
        torch.matmul(first, second, out=result)
        spent.append((time.perf_counter() - start[0], time.process_time() - start[1]))
    seconds, processor = map(min, zip(*spent, strict=True))
    return product.count * seconds, product.count * processor


def run_floor(setting: Setting, turn: Callable[..., None]) -> None:
    """A turn for each step, with the floor as what it spent."""
    products, weights = necessary_products(setting), dict[tuple[int, ...], Tensor]()
    turn(None)
    for _ in range(setting.steps):
        # Each shape once a turn.
        known = {
            product[2:]: measured(product._replace(count=1.0), weights)
            for product in {product[2:]: product for product in products}.values()
        }
        seconds, processor = (
            sum(product.count * known[product[2:]][which] for product in products) for which in (0, 1)
        )
        turn(0.0, spent=(seconds, processor))

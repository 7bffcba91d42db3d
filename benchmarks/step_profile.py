"""Where the time of a training step goes: torch's profile of its operators, each put into one of a few groups.

An operator is told by its name and by the shapes that it is given, not by its module, since the backward pass has none:

* what runs within the optimiser's own range, or is a norm over all gradients: the optimiser and clipping;
* attention's kernels, and batched products: attention;
* what has the vocabulary among its last two sizes: the output head and the log-probabilities;
* what has the adapters' rank there: the adapters, their products and gates;
* every other product: the base model's;
* every other operator on activations as wide as the hidden size, the block's inner size or a head: norms, activations,
  rotary embeddings, residuals, and the copies between them;
* the rest, and what is no operator at all (the time by the clock less all of the above): Python, batches, bookkeeping.

So the rank and the vocabulary must be no other size of the model.
"""

import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from step_parts import Setting, make_trainer

GROUPS = (
    "base matrix products",
    "adapters: products and gates",
    "attention",
    "head and log-probabilities",
    "norms, activations, rotary, residuals",
    "optimiser and clipping",
    "the rest: Python, batches, bookkeeping",
)
BASE, ADAPTERS, ATTENTION, HEAD, POINTWISE, OPTIMISER, REST = GROUPS
_PRODUCTS = ("aten::mm", "aten::addmm", "aten::matmul", "aten::linear", "aten::_unsafe_view")
_ATTENTION = ("scaled_dot_product", "attention", "aten::bmm", "aten::baddbmm", "softmax")
_NORMS = ("aten::_foreach_norm", "aten::_foreach_mul_", "aten::linalg_vector_norm", "aten::_fused_adamw_")


def group_of(name: str, shapes: Iterable[Any], setting: Setting, in_optimiser: bool = False) -> str:
    """The group of an operator on tensors of these shapes."""
    sizes = [tuple(shape) for shape in shapes if shape and all(isinstance(size, int) for size in shape)]
    last = {size for shape in sizes for size in shape[-2:]}
    if in_optimiser or name.startswith(_NORMS):
        return OPTIMISER
    if name.startswith(("aten::embedding", "aten::index_select")):
        return REST
    # Log-softmax is no attention.
    if setting.vocabulary in last:
        return HEAD
    if any(part in name.lower() for part in _ATTENTION):
        return ATTENTION
    if setting.rank in last:
        return ADAPTERS
    if name in _PRODUCTS:
        return BASE
    widths = {setting.hidden, setting.intermediate, setting.hidden // setting.heads}
    # A mean over the width keeps it as 1; rotary embeddings turn halves.
    widths |= {width // 2 for width in widths}
    if last & widths or any(len(shape) == 3 and shape[-1] == 1 for shape in sizes):
        return POINTWISE
    return REST


def grouped_seconds(events: Iterable[Any], setting: Setting, wall: float) -> dict[str, float]:
    """Seconds of each group, which add up to ``wall``, from a profile's events."""
    events = list(events)
    ranges = [
        (event.time_range.start, event.time_range.end) for event in events if event.name.startswith("Optimizer.step")
    ]
    seconds: dict[str, float] = defaultdict(float)
    for event in events:
        # A range of the profiler's own is no operator: its own time is Python's.
        if not event.name.startswith("aten::"):
            continue
        inside = any(start <= event.time_range.start <= end for start, end in ranges)
        group = group_of(event.name, event.input_shapes, setting, inside)
        seconds[group] += event.self_cpu_time_total / 1e6
    seconds[REST] += wall - sum(seconds.values())
    return {group: seconds[group] for group in GROUPS}


def profile(variant: str, setting: Setting, repeats: int) -> dict[str, float]:
    """Seconds of each group in one step, the mean of ``repeats`` steps after one that warms up, in this process."""
    profiler = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], record_shapes=True)
    ends: list[float] = []

    def turn(loss: float | None) -> None:
        if loss is None:
            return
        ends.append(time.perf_counter())
        if len(ends) == 1:
            profiler.start()
            ends[0] = time.perf_counter()
        elif len(ends) == repeats + 1:
            profiler.stop()

    make_trainer(variant, replace(setting, steps=repeats + 1), turn).train()
    seconds = grouped_seconds(profiler.events(), setting, ends[-1] - ends[0])
    return {group: value / repeats for group, value in seconds.items()}

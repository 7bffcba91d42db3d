"""A DPO step and decoding at the size of a 1B model on one GPU: seconds and peak memory of every variant.

    python benchmarks/gpu.py --json outputs/gpu.json
    python benchmarks/gpu.py --tiny --device cpu

A random Llama of the shape of Llama 3.2 1B in bfloat16, adapters on every linear layer of its blocks, 16 pairs of up to
256 prompt and 256 response tokens, the reference cached. Every variant of ``VARIANTS`` trains for a few steps, alone on
the GPU; seconds are the median after the first step, which warms up, and memory is what torch's allocator held at most,
and that less what it held before the first step. TRL's ``DPOTrainer`` with PEFT's LoRA of the same rank is beside
them where it is installed. Then 64 prompts are continued, each at a preference of its own, and by the model merged at
one preference. Nothing is downloaded. Without a GPU it ends with 2.
"""

import argparse
import gc
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from generation_speed import compare
from step_parts import Setting, Turn, make_base, mopref_trainer, trl_trainer
from torch import nn

from mopref import PreferenceModel, SVDLoRAConfig

_LLAMA_1B = Setting(
    vocabulary=128256,
    layers=16,
    hidden=2048,
    intermediate=8192,
    heads=32,
    key_value_heads=8,
    prompt=(64, 256),
    response=(64, 256),
    rank=24,
    device="cuda",
    dtype="bfloat16",
)
_TINY = Setting(
    vocabulary=96,
    layers=1,
    hidden=16,
    intermediate=32,
    heads=2,
    key_value_heads=1,
    pairs=4,
    prompt=(3, 6),
    response=(3, 6),
    rank=12,
)


@dataclass(frozen=True)
class Variant:
    """One way to train.

    Attributes:
        objectives: m; 0 for TRL.
        setting: what is other than in the common setting.
        trainer: options of ``TrainerConfig``.
        objective: options of ``DPO``.
        checkpointing: whether activations are recomputed in the backward pass.
    """

    name: str
    objectives: int
    setting: dict[str, Any] = field(default_factory=dict)
    trainer: dict[str, Any] = field(default_factory=dict)
    objective: dict[str, Any] = field(default_factory=dict)
    checkpointing: bool = False


# To measure another path of the library, add a line with its public settings.
VARIANTS = (
    Variant("TRL", 0),
    Variant("TRL, reference not cached", 0, {"cached": False}),
    Variant("mopref, m = 1", 1),
    Variant("mopref, m = 2", 2),
    Variant("mopref, m = 10", 10),
    Variant("mopref, m = 2, reference not cached", 2, {"cached": False}),
    Variant("mopref, m = 2, autocast", 2, trainer={"mixed_precision": "bf16"}),
    Variant("mopref, m = 10, autocast", 10, trainer={"mixed_precision": "bf16"}),
    Variant("mopref, m = 2, autocast, checkpointing", 2, trainer={"mixed_precision": "bf16"}, checkpointing=True),
)


class Clock:
    """Takes the time and the memory at the end of every step."""

    def __init__(self, device: str) -> None:
        self._on_gpu = device != "cpu"
        self.times: list[float] = []
        self.losses: list[float] = []
        self.before = 0

    def __call__(self, loss: float | None) -> None:
        """What a training calls when it begins and after each step."""
        if self._on_gpu:
            torch.cuda.synchronize()
        if loss is None:
            if self._on_gpu:
                torch.cuda.reset_peak_memory_stats()
                self.before = torch.cuda.memory_allocated()
        else:
            self.losses.append(loss)
        self.times.append(time.perf_counter())

    def figures(self) -> dict[str, float | None]:
        """Median seconds without the first step's, losses, and bytes; no bytes on a CPU."""
        # From the end of the first step on.
        spans = [end - start for start, end in zip(self.times[1:-1], self.times[2:], strict=True)]
        peak = torch.cuda.max_memory_allocated() if self._on_gpu else None
        return {
            "seconds": statistics.median(spans),
            "first_loss": self.losses[0],
            "peak_bytes": peak,
            "step_bytes": None if peak is None else peak - self.before,
        }


def make_trainer(variant: Variant, common: Setting, turn: Turn) -> Any:
    """The trainer of a variant."""
    setting = replace(common, **variant.setting)
    if variant.objectives == 0:
        return trl_trainer(setting, turn)
    trainer = mopref_trainer(setting, variant.objectives, turn, variant.trainer, variant.objective)
    if variant.checkpointing:
        trainer.unwrapped_model.gradient_checkpointing_enable()
    return trainer


def step_figures(variant: Variant, common: Setting) -> dict[str, Any]:
    """A variant's figures; where it fails, for want of memory say, what it said."""
    clock = Clock(common.device)
    try:
        make_trainer(variant, common, clock).train()
        return {"variant": asdict(variant), **clock.figures()}
    except (RuntimeError, ValueError, TypeError) as error:
        return {"variant": asdict(variant), "error": f"{type(error).__name__}: {str(error)[:200]}"}


def decoding_figures(setting: Setting, prompts: int, new_tokens: int, repeats: int) -> dict[str, float]:
    """Tokens a second with a preference of its own in every row, and of the merged model."""
    base: Any = make_base(setting)
    base.generation_config.eos_token_id = None
    base.generation_config.pad_token_id = 0
    model = PreferenceModel(base, SVDLoRAConfig(("a", "b", "c"), rank=setting.rank - 3, preference_rank=1)).eval()
    for layer in model.adapters.values():
        nn.init.normal_(layer.U, std=0.02)
    merged = model.merge([1 / 3] * 3)
    generator = torch.Generator().manual_seed(setting.seed)
    ids = torch.randint(3, setting.vocabulary, (prompts, setting.prompt[0]), generator=generator)
    return compare(model, merged, ids.to(setting.device), new_tokens, repeats, do_sample=False)


def freed(measure: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """What it measures, after which nothing of it stays on the GPU."""
    figures = measure(*arguments)
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return figures


def print_row(figures: dict[str, Any], first: dict[str, Any]) -> None:
    """A line of the table; the ratio is to the first variant that went through."""
    name = figures["variant"]["name"]
    if "error" in figures:
        print(f"{name:<44}{figures['error']}", flush=True)
        return
    bytes_of = [figures[key] for key in ("peak_bytes", "step_bytes")]
    memory = "".join(f"{'–' if count is None else f'{count / 2**30:.2f}':>12}" for count in bytes_of)
    print(f"{name:<44}{figures['seconds']:>10.4f}{figures['seconds'] / first['seconds']:>8.3f}{memory}", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all variants, then decoding; print a table and JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="(default: %(default)s)")
    parser.add_argument("--tiny", action="store_true", help="a model of one small block, to try the script")
    parser.add_argument("--repeats", type=int, default=5, help="timed steps of each (default: %(default)s)")
    parser.add_argument("--pairs", type=int, default=16, help="in a step (default: %(default)s)")
    parser.add_argument("--prompts", type=int, default=64, help="continued at once (default: %(default)s)")
    parser.add_argument("--new-tokens", type=int, default=64, help="of each (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="a file for the figures, which are printed as well")
    given = parser.parse_args(arguments)
    if given.device != "cpu" and not torch.cuda.is_available():
        print(f"device is {given.device!r}, and torch sees no GPU here: try --tiny --device cpu.", file=sys.stderr)
        raise SystemExit(2)
    common = _TINY if given.tiny else replace(_LLAMA_1B, pairs=given.pairs)
    common = replace(common, device=given.device, steps=given.repeats + 1)
    results: list[dict[str, Any]] = []
    print(f"{'':<44}{'s / step':>10}{'ratio':>8}{'peak, GiB':>12}{'of steps':>12}")
    with tempfile.TemporaryDirectory(prefix="gpu_") as folder:
        tempfile.tempdir = folder
        for variant in VARIANTS:
            if variant.objectives == 0 and not (find_spec("trl") and find_spec("peft")):
                print(f"{variant.name:<44}left out: pip install trl peft")
                continue
            results.append(freed(step_figures, variant, common))
            print_row(results[-1], next((row for row in results if "seconds" in row), {}))
        tempfile.tempdir = None
    tokens = 4 if given.tiny else given.new_tokens
    decoding = freed(decoding_figures, common, given.prompts, tokens, given.repeats)
    print(f"decoding {given.prompts} prompts, each at its own preference: {decoding['conditioned']:.0f} tokens / s;")
    print(f"merged at one preference: {decoding['merged']:.0f} tokens / s; ratio {decoding['ratio']:.3f}")
    name = torch.cuda.get_device_name() if given.device != "cpu" else "cpu"
    numbers = {"device": name, "setting": asdict(common), "steps": results, "decoding": decoding}
    print(json.dumps(numbers))
    if given.json is not None:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

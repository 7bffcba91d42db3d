"""What does a base in 8 or 4 bits save and cost beside the same one in float? Memory, time and losses, in turn.

    python benchmarks/quantised_bases.py --json outputs/quantised_bases.json

The same random Llama, stored in float32, in bfloat16, and by bitsandbytes in 8 bits (LLM.int8) and 4 (NF4), the
quantised ones with activations of both types. Adapters are in float32 on every linear layer of the blocks.

First a DPO step of mopref on each, in processes of their own that take turns (see dpo_step.py): the bytes of the loaded
weights, the peak of a step above the loaded model, seconds, and the first loss less that of the float32 base, which is
the rounding of the base. The peak is of a process more, whose C library gives every freed block of 128 KB or more back
to the system (glibc's ``MALLOC_MMAP_THRESHOLD_``): how many of them it keeps otherwise depends on their sizes, so that
bases that need the same differ by half.

Then, in one process, a forward and backward of a next-token loss of the base alone (with gradients to its embeddings'
output), of PEFT's LoRA on it, and of mopref with the same numbers in its adapters, on the same batch with the same
kernels: their losses must agree.
"""

import argparse
import json
import logging
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
import transformers
from step_parts import Setting, adapter_weights, make_base
from step_workers import Worker, take_turns
from torch import Tensor, nn

from mopref import PreferenceModel, SVDLoRAConfig
from mopref.conditioning.base_model import keep_gradients, keep_statistics

BASES: dict[str, dict[str, str]] = {
    "float32": {},
    "8bit": {"quantization": "8bit"},
    "4bit": {"quantization": "4bit"},
    "bfloat16": {"dtype": "bfloat16"},
    "8bit-bfloat16": {"quantization": "8bit", "dtype": "bfloat16"},
    "4bit-bfloat16": {"quantization": "4bit", "dtype": "bfloat16"},
}
_GIVEN_BACK = {"MALLOC_MMAP_THRESHOLD_": "131072"}
# How far PEFT's and mopref's first losses may be apart, by the type of the activations.
_TOLERANCE = {"float32": 1e-4, "bfloat16": 1e-2}


def stored_bytes(base: nn.Module) -> int:
    """Bytes of all that a model's state holds, its quantisation's scales and tables included, each tensor once."""
    tensors = {value.data_ptr(): value for value in base.state_dict().values() if isinstance(value, Tensor)}
    return sum(value.numel() * value.element_size() for value in tensors.values())


def measure_steps(setting: Setting, bases: Sequence[str], threads: int) -> dict[str, dict[str, float]]:
    """Figures of a DPO step on each base; ratios are medians over the turns, to the first one."""
    settings = [replace(setting, **BASES[base]) for base in bases]  # type: ignore[arg-type]
    weights = [stored_bytes(make_base(own)) for own in settings]
    taken = take_turns([Worker("mopref-1", own, threads) for own in settings], setting.steps)
    frugal = [Worker("mopref-1", own, threads, _GIVEN_BACK) for own in settings]
    peaks = [max(step["peak"] for step in steps) for steps in take_turns(frugal, 2)]
    rows = {}
    for base, own_bytes, peak, steps in zip(bases, weights, peaks, taken, strict=True):
        pairs = list(zip(steps[1:], taken[0][1:], strict=True))
        rows[base] = {
            "weights_bytes": own_bytes,
            "peak_bytes": peak,
            **{key: statistics.median(step[key] for step in steps[1:]) for key in ("seconds", "processor")},
            "processor_ratio": statistics.median(own["processor"] / first["processor"] for own, first in pairs),
            "first_loss": steps[0]["loss"],
            "loss_difference": steps[0]["loss"] - taken[0][0]["loss"],
        }
    return rows


def _adapted(setting: Setting) -> dict[str, Callable[[Tensor], Tensor]]:
    """The next-token loss of the base alone, of PEFT's LoRA and of mopref, by the ids of a batch."""
    from peft import LoraConfig, get_peft_model

    alone, other, own = (make_base(setting) for _ in range(3))
    alone.requires_grad_(False)
    alone.get_input_embeddings().register_forward_hook(lambda part, given, made: made.requires_grad_())  # type: ignore[operator]
    model = PreferenceModel(own, SVDLoRAConfig(("one",), rank=setting.rank - 1, preference_rank=1))
    targets = list(model.adapters)
    lora = get_peft_model(other, LoraConfig(r=setting.rank, lora_alpha=setting.rank, target_modules=targets))  # type: ignore[arg-type]
    with torch.no_grad():
        for name, layer in model.adapters.items():
            out_directions, in_directions = adapter_weights(name, layer.n_out, layer.n_in, setting.rank)
            layer.U.copy_(out_directions)
            layer.V.copy_(in_directions)
            its: Any = other.get_submodule(name)
            its.lora_A["default"].weight.copy_(in_directions.T)
            its.lora_B["default"].weight.copy_(out_directions)
    for part in (alone, lora, model):
        # The same kernels for all.
        keep_gradients(part)
        part.train()
        keep_statistics(part)
    return {
        "base": lambda ids: alone(input_ids=ids, labels=ids, use_cache=False).loss,
        "peft": lambda ids: lora(input_ids=ids, labels=ids, use_cache=False).loss,
        "mopref": lambda ids: model(input_ids=ids, labels=ids, use_cache=False, preferences=[1.0]).loss,
    }


def measure_layers(setting: Setting) -> dict[str, dict[str, float]]:
    """Processor seconds of a forward and backward of each, in turns, their ratios to PEFT's, and the first losses.

    Raises:
        RuntimeError: PEFT's loss and mopref's differ.
    """
    losses = _adapted(setting)
    ids = torch.randint(3, setting.vocabulary, (8, 128), generator=torch.Generator().manual_seed(setting.seed))
    spent: dict[str, list[float]] = {name: [] for name in losses}
    values: dict[str, float] = {}
    for _ in range(setting.steps):
        for name, loss_of in losses.items():
            start = time.process_time()
            loss = loss_of(ids)
            loss.backward()
            spent[name].append(time.process_time() - start)
            values.setdefault(name, loss.item())
    if abs(values["peft"] - values["mopref"]) > _TOLERANCE[setting.dtype]:
        raise RuntimeError(f"the losses are {values}: PEFT's and mopref's must agree.")
    return {
        name: {
            "processor": statistics.median(own[1:]),
            "ratio": statistics.median(a / b for a, b in zip(own[1:], spent["peft"][1:], strict=True)),
            "loss": values[name],
        }
        for name, own in spent.items()
    }


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    whole = {"type": int, "help": "(default: %(default)s)"}
    for name in ("vocabulary", "layers", "hidden", "intermediate", "heads", "pairs", "rank"):
        parser.add_argument(f"--{name}", default=getattr(Setting, name), **whole)  # type: ignore[arg-type]
    parser.add_argument("--bases", nargs="+", choices=BASES, default=tuple(BASES), help="the first is compared with")
    parser.add_argument("--repeats", default=5, **whole)  # type: ignore[arg-type]
    parser.add_argument("--threads", default=1, **whole)  # type: ignore[arg-type]
    parser.add_argument("--json", type=Path, help="a file for all figures")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every base; print two tables, write JSON."""
    given = parse(arguments)
    # bitsandbytes says at every product that it rounds.
    for package in ("bitsandbytes", "torchao"):
        logging.getLogger(package).setLevel(logging.ERROR)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(given.threads)
    names = ("vocabulary", "layers", "hidden", "intermediate", "heads", "pairs", "rank")
    sizes = {name: getattr(given, name) for name in names}
    setting = Setting(**sizes, key_value_heads=given.heads, steps=given.repeats + 1)
    titles = f"{'weights, MB':>12}{'peak, MB':>10}{'s / step':>10}{'/ ' + given.bases[0]:>12}{'loss':>14}"
    print(f"{'a DPO step':<16}{titles}", flush=True)
    steps = measure_steps(setting, given.bases, given.threads)
    for base, row in steps.items():
        memory = f"{row['weights_bytes'] / 2**20:>12.1f}{row['peak_bytes'] / 2**20:>10.0f}"
        times = f"{row['processor']:>10.2f}{row['processor_ratio']:>12.3f}"
        print(f"{base:<16}{memory}{times}{row['loss_difference']:>+14.5f}")
    print(f"\n{'layers':<16}{'base, s':>10}{'PEFT, s':>10}{'mopref, s':>10}{'/ PEFT':>10}{'loss':>14}")
    layers = {}
    for base in given.bases:
        layers[base] = own = measure_layers(replace(setting, **BASES[base]))  # type: ignore[arg-type]
        times = "".join(f"{own[name]['processor']:>10.3f}" for name in ("base", "peft", "mopref"))
        apart = own["mopref"]["loss"] - own["peft"]["loss"]
        print(f"{base:<16}{times}{own['mopref']['ratio']:>10.3f}{apart:>+14.6f}", flush=True)
    if given.json is not None:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        result = {"setting": asdict(setting), "threads": given.threads, "steps": steps, "layers": layers}
        given.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

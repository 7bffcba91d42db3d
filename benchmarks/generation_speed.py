"""Does generation cost more with a preference per row? The conditioned model against a merged one, plain transformers.

    OMP_WAIT_POLICY=PASSIVE python benchmarks/generation_speed.py --output outputs/generation_speed.json

The same prompts are continued in turn by ``model.generate(..., preferences=λ)`` with another λ in every row, and by
``model.merge(λ).generate(...)``, which has no adapter left and one λ for all rows. Both use the key-value cache and
make the same number of tokens. They take turns, and each ratio is of neighbouring runs, so that a machine whose speed
drifts slows both alike. The prompt's own forward is part of the time. The ratio of processor seconds is printed as
well: on a machine that others use too it moves less than the clock's.

With ``--peft`` plain LoRAs of the same preferences, one for each row, run beside them in PEFT's mixed batch
(``generate(adapter_names=…)``), on a copy of the base; with greedy decoding their tokens must be the same.

With ``--packed`` the conditioned model generates within ``packed_weights()``, and the merged model is run once more,
with its weights packed in the same way. The copies are made in the first run, which is not timed.

The model is random, of the size of SmolLM2-135M, and nothing is downloaded; ``--model small`` is that of
``benchmarks/dpo_step.py``, and ``--model demo`` takes SmolLM2 itself.
"""

import argparse
import copy
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from mopref import PreferenceModel, SVDLoRAConfig
from mopref.conditioning.packed_weights import PackedWeights
from mopref.samplers import UniformSampler

OBJECTIVES = ("a", "b", "c")
SHAPES: dict[str, dict[str, int]] = {
    "random": {
        "vocab_size": 49152,
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
    },
    "small": {
        "vocab_size": 8000,
        "hidden_size": 384,
        "intermediate_size": 1024,
        "num_hidden_layers": 6,
        "num_attention_heads": 6,
        "num_key_value_heads": 6,
    },
}
MODES: dict[str, dict[str, Any]] = {"greedy": {"do_sample": False}, "sampling": {"do_sample": True, "top_k": 50}}


def make_model(name: str, blocks: int | None, device: str) -> PreferenceModel:
    """A model with adapters of the default settings on every linear layer, whose parameters are all away from zero."""
    from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    if name == "demo":
        from mopref.llm.demo.assets import smollm2

        base: Any = AutoModelForCausalLM.from_pretrained(smollm2())
    else:
        shape = SHAPES[name] | ({} if blocks is None else {"num_hidden_layers": blocks})
        base = LlamaForCausalLM(LlamaConfig(**shape, tie_word_embeddings=True))
    # Both must make all the tokens that are asked for.
    base.generation_config.eos_token_id = None
    base.generation_config.pad_token_id = 0
    model = PreferenceModel(base, SVDLoRAConfig(OBJECTIVES))
    for layer in model.adapters.values():
        nn.init.normal_(layer.U, std=0.02)
    return model.to(device).eval()


def run(model: nn.Module, prompts: Tensor, new_tokens: int, **options: Any) -> tuple[float, float]:
    """Tokens a second of one ``generate``, and tokens a second of processor time."""
    if prompts.is_cuda:
        torch.cuda.synchronize()
    start, start_processor = time.perf_counter(), time.process_time()
    output = cast(Any, model).generate(
        input_ids=prompts, attention_mask=torch.ones_like(prompts), max_new_tokens=new_tokens, **options
    )
    if prompts.is_cuda:
        torch.cuda.synchronize()
    seconds, processor_seconds = time.perf_counter() - start, time.process_time() - start_processor
    count = output.shape[1] - prompts.shape[1]
    if count != new_tokens:
        raise RuntimeError(f"generation ended early, after {count} of {new_tokens} tokens: speeds cannot be compared.")
    tokens = prompts.shape[0] * new_tokens
    return tokens / seconds, tokens / processor_seconds


def compare(
    model: PreferenceModel,
    merged_model: nn.Module,
    prompts: Tensor,
    new_tokens: int,
    repeats: int,
    peft_model: Callable[[Tensor], nn.Module] | None = None,
    packed_merged: nn.Module | None = None,
    **options: Any,
) -> dict[str, float]:
    """Median tokens a second of each, and the median of the ratios conditioned / other of neighbouring runs.

    Raises:
        RuntimeError: PEFT's mixed batch made other tokens.
    """
    preferences = UniformSampler(len(OBJECTIVES), seed=0).sample(len(prompts))
    runs: dict[str, tuple[nn.Module, dict[str, Any]]] = {
        "conditioned": (model, {"preferences": preferences}),
        "merged": (merged_model, {}),
    }
    if packed_merged is not None:
        runs["packed"] = (packed_merged, {})
    if peft_model is not None:
        runs["peft"] = (peft_model(preferences), {"adapter_names": [str(row) for row in range(len(prompts))]})
        if not options["do_sample"]:
            _check_same_tokens(runs, prompts, new_tokens)
    turns = [
        {name: run(one, prompts, new_tokens, **own, **options) for name, (one, own) in runs.items()}
        for _ in range(repeats + 1)
    ]
    # The first of each warms up.
    turns = turns[1:]
    result = {name: statistics.median(turn[name][0] for turn in turns) for name in runs}
    for name in list(runs)[1:]:
        before = "" if name == "merged" else f"{name}_"
        ratios = [turn["conditioned"][0] / turn[name][0] for turn in turns]
        result |= {
            f"{before}ratio": statistics.median(ratios),
            f"{before}ratio_min": min(ratios),
            f"{before}ratio_max": max(ratios),
            f"{before}processor_ratio": statistics.median(turn["conditioned"][1] / turn[name][1] for turn in turns),
        }
    return result


def mixed_batch_model(model: PreferenceModel, preferences: Tensor) -> nn.Module:
    """A copy of the base with one plain LoRA for each preference, called by its number, as stock PEFT loads them."""
    from peft import PeftModel

    base = copy.deepcopy(_plain_base(model))
    with tempfile.TemporaryDirectory() as folder:
        for row, preference in enumerate(preferences):
            model.export_lora(Path(folder, str(row)), preference)
        loaded = PeftModel.from_pretrained(base, str(Path(folder, "0")), adapter_name="0")
        for row in range(1, len(preferences)):
            loaded.load_adapter(str(Path(folder, str(row))), adapter_name=str(row))
    return loaded.eval()


def _plain_base(model: PreferenceModel) -> nn.Module:
    """The base without adapters: what is merged where every adapter is 0."""
    zero = copy.deepcopy(model)
    for layer in zero.adapters.values():
        nn.init.zeros_(layer.U)
    return zero.merge([1 / len(OBJECTIVES)] * len(OBJECTIVES))


def _check_same_tokens(runs: dict[str, tuple[nn.Module, dict[str, Any]]], prompts: Tensor, new_tokens: int) -> None:
    options = {"attention_mask": torch.ones_like(prompts), "max_new_tokens": new_tokens, "do_sample": False}
    ours, theirs = (
        cast(Any, runs[name][0]).generate(input_ids=prompts, **options, **runs[name][1])
        for name in ("conditioned", "peft")
    )
    if not torch.equal(ours, theirs):
        raise RuntimeError(
            f"{int((ours != theirs).any(dim=1).sum())} of {len(prompts)} rows have other tokens in PEFT."
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Compare at every batch size; print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=[*SHAPES, "demo"], default="random", help="(default: %(default)s)")
    parser.add_argument("--blocks", type=int, help="of a random model (default: those of its shape)")
    parser.add_argument("--peft", action="store_true", help="beside PEFT's mixed batch, too")
    parser.add_argument("--packed", action="store_true", help="with packed weights, beside the merged model's, too")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 8, 32], help="(default: 1 8 32)")
    parser.add_argument("--modes", choices=list(MODES), nargs="+", default=list(MODES), help="(default: all)")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="of torch (default: 1 2)")
    parser.add_argument("--prompt-tokens", type=int, default=32, help="(default: %(default)s)")
    parser.add_argument("--new-tokens", type=int, default=32, help="(default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="timed runs of each (default: %(default)s)")
    parser.add_argument("--device", default="cpu", help="(default: %(default)s)")
    parser.add_argument("--output", type=Path, help="a JSON file for the figures")
    options = parser.parse_args(arguments)

    model = make_model(options.model, options.blocks, options.device)
    merged_model = model.merge([1 / len(OBJECTIVES)] * len(OBJECTIVES))
    own: dict[str, Any] = {"peft_model": partial(mixed_batch_model, model)} if options.peft else {}
    with ExitStack() as stack:
        if options.packed:
            own["packed_merged"] = copy.deepcopy(merged_model).requires_grad_(False)
            stack.enter_context(PackedWeights(own["packed_merged"]).in_place())
            stack.enter_context(model.packed_weights())
        results = _compare_all(model, merged_model, options, own)
    if options.output is not None:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        names = ("model", "blocks", "peft", "packed", "prompt_tokens", "new_tokens", "repeats", "device")
        settings = {name: getattr(options, name) for name in names}
        options.output.write_text(json.dumps({"settings": settings, "results": results}, indent=2), encoding="utf-8")


def _compare_all(
    model: PreferenceModel, merged_model: nn.Module, options: argparse.Namespace, own: dict[str, Any]
) -> list[dict[str, Any]]:
    """The rows of the table, each printed when it is there; beside what else is in ``own``."""
    others = {"packed": ("packed", options.packed), "peft": ("PEFT", options.peft)}
    beside = {name: title for name, (title, asked) in others.items() if asked}
    results: list[dict[str, Any]] = []
    print("Tokens a second; ratios conditioned / merged by the clock and in processor time.")
    head = f"{'threads':>7} {'mode':<9} {'batch':>5} {'conditioned':>12} {'merged':>9} {'ratio':>6} {'processor':>9}"
    print(head + "".join(f" {title:>9} {'ratio':>6} {'processor':>9}" for title in beside.values()))
    for threads in options.threads:
        torch.set_num_threads(threads)
        for mode in options.modes:
            for size in options.batch_sizes:
                generator = torch.Generator().manual_seed(size)
                prompts = torch.randint(3, model.config.vocab_size, (size, options.prompt_tokens), generator=generator)
                prompts = prompts.to(options.device)
                row = compare(model, merged_model, prompts, options.new_tokens, options.repeats, **own, **MODES[mode])
                results.append({"threads": threads, "mode": mode, "batch_size": size, **row})
                line = (
                    f"{threads:>7} {mode:<9} {size:>5} {row['conditioned']:>12.1f} {row['merged']:>9.1f} "
                    f"{row['ratio']:>6.3f} {row['processor_ratio']:>9.3f}"
                )
                for name in beside:
                    line += f" {row[name]:>9.1f} {row[f'{name}_ratio']:>6.3f} {row[f'{name}_processor_ratio']:>9.3f}"
                print(line, flush=True)
    return results


if __name__ == "__main__":
    main()

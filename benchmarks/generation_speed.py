"""Does generation cost more with a preference per row? The conditioned model against a merged one, plain transformers.

    OMP_WAIT_POLICY=PASSIVE python benchmarks/generation_speed.py --output outputs/generation_speed.json

The same prompts are continued in turn by ``model.generate(..., preferences=λ)`` with another λ in every row, and by
``model.merge(λ).generate(...)``, which has no adapter left and one λ for all rows. Both use the key-value cache and
make the same number of tokens. They take turns, and each ratio is of neighbouring runs, so that a machine whose speed
drifts slows both alike. The prompt's own forward is part of the time. The ratio of processor seconds is printed as
well: on a machine that others use too it moves less than the clock's.

The model is random, of the size of SmolLM2-135M, and nothing is downloaded; ``--model demo`` takes SmolLM2 itself.
"""

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from mopref import PreferenceModel, SVDLoRAConfig
from mopref.samplers import UniformSampler

OBJECTIVES = ("a", "b", "c")
MODES: dict[str, dict[str, Any]] = {"greedy": {"do_sample": False}, "sampling": {"do_sample": True, "top_k": 50}}


def make_model(name: str, blocks: int, device: str) -> PreferenceModel:
    """A model with adapters of the default settings on every linear layer, whose parameters are all away from zero."""
    from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    if name == "demo":
        from mopref.llm.demo.assets import smollm2

        base: Any = AutoModelForCausalLM.from_pretrained(smollm2())
    else:
        shape = LlamaConfig(
            vocab_size=49152,
            hidden_size=576,
            intermediate_size=1536,
            num_hidden_layers=blocks,
            num_attention_heads=9,
            num_key_value_heads=3,
            tie_word_embeddings=True,
        )
        base = LlamaForCausalLM(shape)
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
    model: PreferenceModel, merged_model: nn.Module, prompts: Tensor, new_tokens: int, repeats: int, **options: Any
) -> dict[str, float]:
    """Median tokens a second of both, and the median of the ratios conditioned / merged of neighbouring runs."""
    preferences = UniformSampler(len(OBJECTIVES), seed=0).sample(len(prompts))
    pairs = []
    for _ in range(repeats + 1):
        conditioned = run(model, prompts, new_tokens, preferences=preferences, **options)
        pairs.append((conditioned, run(merged_model, prompts, new_tokens, **options)))
    # The first of each warms up.
    pairs = pairs[1:]
    ratios = [first[0] / second[0] for first, second in pairs]
    return {
        "conditioned": statistics.median(first[0] for first, _ in pairs),
        "merged": statistics.median(second[0] for _, second in pairs),
        "ratio": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
        "processor_ratio": statistics.median(first[1] / second[1] for first, second in pairs),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Compare at every batch size; print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=["random", "demo"], default="random", help="(default: %(default)s)")
    parser.add_argument("--blocks", type=int, default=30, help="of the random model (default: %(default)s)")
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
    vocabulary = model.config.vocab_size
    results = []
    print("Tokens a second; ratios conditioned / merged by the clock and in processor time.")
    print(f"{'threads':>7} {'mode':<9} {'batch':>5} {'conditioned':>12} {'merged':>9} {'ratio':>6} {'processor':>9}")
    for threads in options.threads:
        torch.set_num_threads(threads)
        for mode in options.modes:
            for size in options.batch_sizes:
                generator = torch.Generator().manual_seed(size)
                prompts = torch.randint(3, vocabulary, (size, options.prompt_tokens), generator=generator)
                prompts = prompts.to(options.device)
                row = compare(model, merged_model, prompts, options.new_tokens, options.repeats, **MODES[mode])
                results.append({"threads": threads, "mode": mode, "batch_size": size, **row})
                print(
                    f"{threads:>7} {mode:<9} {size:>5} {row['conditioned']:>12.1f} {row['merged']:>9.1f} "
                    f"{row['ratio']:>6.3f} {row['processor_ratio']:>9.3f}",
                    flush=True,
                )
    if options.output is not None:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        settings = {
            name: getattr(options, name)
            for name in ("model", "blocks", "prompt_tokens", "new_tokens", "repeats", "device")
        }
        options.output.write_text(json.dumps({"settings": settings, "results": results}, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()

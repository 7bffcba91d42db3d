"""What does a DPO step cost beside TRL's, and beside what it cannot do without? Time and peak memory, in turn.

    python benchmarks/dpo_step.py --vocabulary 8000 49152 --json outputs/dpo_step.json
    python benchmarks/dpo_step.py --vocabulary 151936 --repeats 2
    python benchmarks/dpo_step.py --profile mopref-2

The same random Llama, the same pairs, adapters of the same total rank on every linear layer of its blocks, float32:
TRL's ``DPOTrainer`` with PEFT's LoRA on one objective, and mopref on one, two and ten. Every variant trains in a
process of its own and does a step when its turn comes, so that a machine whose speed drifts slows all alike; ratios are
medians over the turns, to the first variant named. A step is all that happens from the end of one to the end of the
next: batch, forward, backward, clipping, optimiser, logs. The first turn warms up. On a machine that others use too,
the processor's seconds move less than the clock's, so both are there.

With one objective mopref and TRL start with the same adapters, random and not zero: their first losses must agree.

"floor" is the time of the necessary matrix products alone (see step_floor.py), measured in the same turns; the peak
memory is that of the steps, above the resident set with model, adapters and trainer (see step_workers.py).

TRL's settings were looked through for the fastest: no gradient checkpointing (on by default), the fused AdamW, no
dropout, ``precompute_ref_log_probs`` where the reference is cached. ``padding_free`` is switched off by TRL 1.16
itself, and its head is chunked in any case ("use_logits_to_keep" is gone). The others are variants: trl-plain-adamw,
trl-checkpointing; and trl-compact, whose head is evaluated at response tokens only, as TRL does on a GPU.
"""

import argparse
import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from step_floor import necessary_products
from step_parts import PEERS, Setting, objectives_of
from step_workers import Worker, take_turns

_TOLERANCE = 1e-5
VARIANTS = ("trl", "trl-compact", "mopref-1", "mopref-2", "mopref-10")


def check_losses(losses: dict[str, float]) -> float:
    """How far the first losses of TRL and of mopref with one objective are apart at most.

    Raises:
        RuntimeError: they differ, or are those of a policy that is still its reference, where every loss is log 2.
    """
    compared = [loss for variant, loss in losses.items() if variant in PEERS or variant == "mopref-1"]
    difference = max(compared, default=0.0) - min(compared, default=0.0)
    if difference > _TOLERANCE:
        raise RuntimeError(f"the first losses are {losses}: TRL's and mopref's with one objective must agree.")
    if any(abs(loss - math.log(2)) < 10 * _TOLERANCE for loss in compared):
        raise RuntimeError(f"the first losses are {losses}: log 2 says nothing, the adapters must change something.")
    return difference


def figures(steps: dict[str, list[dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Of each variant medians of its seconds, and of its ratios to the first one and to the floor in each turn.

    The first turn counts for the memory alone.
    """
    peaks = {variant: max(step["peak"] for step in own) for variant, own in steps.items()}
    first = next(iter(steps))

    def median(variant: str, key: str) -> float:
        return statistics.median(step[key] for step in steps[variant][1:])

    def ratio(variant: str, other: str, key: str) -> float:
        pairs = zip(steps[variant][1:], steps[other][1:], strict=True)
        return statistics.median(own[key] / its[key] for own, its in pairs)

    return {
        variant: {
            **{key: median(variant, key) for key in ("seconds", "processor")},
            **{f"{key}_ratio": ratio(variant, first, key) for key in ("seconds", "processor")},
            **{f"{key}_to_floor": ratio(variant, "floor", key) for key in ("seconds", "processor")},
            "peak_bytes": peaks[variant],
            "peak_ratio": peaks[variant] / peaks[first],
        }
        for variant in steps
    }


def measure(setting: Setting, variants: Sequence[str], threads: int) -> dict[str, Any]:
    """All figures of one setting."""
    names = [*variants, "floor"]
    taken = take_turns([Worker(name, setting, threads) for name in names], setting.steps)
    steps = dict(zip(names, taken, strict=True))
    difference = check_losses({variant: own[0]["loss"] for variant, own in steps.items()})
    return {
        "setting": asdict(setting),
        "threads": threads,
        "floor_multiply_adds": sum(product.multiply_adds for product in necessary_products(setting)),
        "first_loss_difference": difference,
        "variants": figures(steps),
        "steps": steps,
    }


def print_table(result: dict[str, Any]) -> None:
    """A line for each variant."""
    setting, rows = result["setting"], result["variants"]
    first = next(iter(rows))
    reference = "cached" if setting["cached"] else "not cached"
    apart = result["first_loss_difference"]
    print(f"\nvocabulary {setting['vocabulary']}, reference {reference}; first losses {apart:.1e} apart; ", end="")
    print(f"floor of {result['floor_multiply_adds'] / 1e9:.1f} thousand million multiply-adds")
    titles = [title for title in ("s / step", f"/ {first}", "/ floor") for _ in range(2)]
    print(f"{'':<18}" + "".join(f"{title:>10}" for title in [*titles, "peak, MB", f"/ {first}"]))
    print(f"{'':<18}" + f"{'clock':>10}{'processor':>10}" * 3)
    for variant, row in rows.items():
        kinds = ("", "_ratio", "_to_floor")
        times = "".join(f"{row[key + kind]:>10.3f}" for kind in kinds for key in ("seconds", "processor"))
        memory = "" if variant == "floor" else f"{row['peak_bytes'] / 2**20:>10.0f}{row['peak_ratio']:>10.3f}"
        print(f"{variant:<18}{times}{memory}")


def print_profile(variant: str, setting: Setting, repeats: int, threads: int) -> dict[str, float]:
    """Where the time of a variant's step goes."""
    import torch
    from step_profile import profile

    torch.set_num_threads(threads)
    seconds = profile(variant, setting, repeats)
    total = sum(seconds.values())
    print(
        f"\n{variant}, vocabulary {setting.vocabulary}, {'cached' if setting.cached else 'not cached'}: {total:.3f} s"
    )
    for group, value in seconds.items():
        print(f"{group:<42}{value:>9.3f} s{100 * value / total:>7.1f} %")
    return seconds


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options, checked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    whole = {"type": int, "help": "(default: %(default)s)"}
    parser.add_argument("--vocabulary", nargs="+", type=int, default=[8000, 49152], help="(default: 8000 49152)")
    for name in ("layers", "hidden", "intermediate", "heads", "pairs", "rank"):
        parser.add_argument(f"--{name}", default=getattr(Setting, name), **whole)
    for name in ("prompt", "response"):
        text = "least and most tokens (default: %(default)s)"
        parser.add_argument(f"--{name}", nargs=2, type=int, default=getattr(Setting, name), help=text)
    parser.add_argument("--repeats", default=7, **{**whole, "help": "timed steps of each (default: %(default)s)"})
    parser.add_argument("--modes", nargs="+", choices=("cached", "uncached"), default=("cached", "uncached"))
    parser.add_argument("--threads", default=1, **whole)
    parser.add_argument("--attention", choices=("sdpa", "eager"), default="sdpa", help="(default: %(default)s)")
    parser.add_argument("--variants", nargs="+", default=VARIANTS, help=f"of {', '.join(PEERS)}, mopref-m")
    parser.add_argument("--profile", metavar="VARIANT", help="print where the time of this one goes, and nothing else")
    parser.add_argument("--json", type=Path, help="a file for all figures")
    given = parser.parse_args(arguments)
    for variant in [*given.variants, *([given.profile] if given.profile else [])]:
        if variant not in PEERS and objectives_of(variant) > given.rank:
            parser.error(f"{variant} needs a rank of at least {objectives_of(variant)}, and it is {given.rank}.")
    return given


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every vocabulary in every mode; print tables, write JSON."""
    given = parse(arguments)
    results = []
    for vocabulary in given.vocabulary:
        for mode in given.modes:
            setting = Setting(
                vocabulary=vocabulary,
                layers=given.layers,
                hidden=given.hidden,
                intermediate=given.intermediate,
                heads=given.heads,
                key_value_heads=given.heads,
                pairs=given.pairs,
                prompt=tuple(given.prompt),
                response=tuple(given.response),
                rank=given.rank,
                cached=mode == "cached",
                attention=given.attention,
                steps=given.repeats + 1,
            )
            if given.profile:
                seconds = print_profile(given.profile, setting, given.repeats, given.threads)
                results.append({"setting": asdict(setting), "variant": given.profile, "seconds": seconds})
            else:
                results.append(measure(setting, given.variants, given.threads))
                print_table(results[-1])
    if given.json is not None:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

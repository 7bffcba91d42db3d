"""Are the answers of one training better than those of another, for a reader who does not know which is which?

    python benchmarks/blind_comparison.py answers RECIPE TRAINING --preference 1 0 --output first.json
    python benchmarks/blind_comparison.py answers RECIPE --output base.json
    python benchmarks/blind_comparison.py pair first.json second.json --output blind
    python benchmarks/blind_comparison.py tally blind

The requests are the 40 everyday ones of benchmarks/blind_prompts.txt. A training is a folder of `mopref compare`,
runs/seed-N/NAME; without one the base model answers. `pair` writes requests with answers A and B, blind/order_1.json
and order_2.json: the sides are drawn for each request, and are the other way round in the second, in another order of
requests. Whose they are is in blind.key.json, beside the folder and not for the judge, who writes order_1_verdicts.json
and order_2_verdicts.json, {"0": "A", "1": "tie", …} by number. `tally` counts: an answer is better where it is in both
orders, or in one with a tie in the other.
"""

import argparse
import json
import random
from pathlib import Path
from typing import Any

import torch
from scipy.stats import binomtest

PROMPTS = Path(__file__).parent / "blind_prompts.txt"


def main(words: list[str] | None = None) -> None:
    """Do what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    answers = commands.add_parser("answers")
    answers.add_argument("recipe", type=Path, help="of the comparison; model and adapters are as it says")
    answers.add_argument("training", type=Path, nargs="?", help="its folder, with adapter.safetensors")
    answers.add_argument("--preference", type=float, nargs="+", help="λ; needed with a training")
    answers.add_argument("--max-new-tokens", type=int, default=80)
    answers.add_argument("--temperature", type=float, default=0.7)
    answers.add_argument("--seed", type=int, default=1)
    answers.add_argument("--output", type=Path, required=True, help="a new JSON file")
    pair = commands.add_parser("pair")
    pair.add_argument("first", type=Path)
    pair.add_argument("second", type=Path)
    pair.add_argument("--seed", type=int, default=0)
    pair.add_argument("--output", type=Path, required=True, help="a new folder")
    tally = commands.add_parser("tally")
    tally.add_argument("folder", type=Path)
    options = parser.parse_args(words)
    try:
        run(options)
    except (OSError, ValueError) as error:
        parser.exit(1, f"{error}\n")


def run(options: argparse.Namespace) -> None:
    """Do what is asked for.

    Raises:
        FileNotFoundError, FileExistsError: a file that is not there, or is.
        ValueError: what cannot be paired or counted.
    """
    if options.command == "answers":
        if (options.training is None) != (options.preference is None):
            raise ValueError("a training answers at a --preference, and the base model at none.")
        refuse_existing(options.output)
        write(options.output, answered(options))
    elif options.command == "pair":
        parts = paired(read(options.first), read(options.second), options.seed)
        refuse_existing(options.output, key_of(options.output))
        options.output.mkdir(parents=True)
        write(key_of(options.output), parts.pop("key"))
        for name, content in parts.items():
            write(options.output / f"{name}.json", content)
    else:
        verdicts = [read(options.folder / f"order_{order}_verdicts.json") for order in (1, 2)]
        first, second, undecided, agreed = counted(read(key_of(options.folder)), *verdicts)
        print(f"first better: {first}, second better: {second}, undecided: {undecided}; sign test p = ", end="")
        print(f"{sign_test(first, second):.3f}; both orders say the same of {agreed}")


def key_of(folder: Path) -> Path:
    """The file that says whose answers a folder has at A."""
    return folder.with_name(f"{folder.name}.key.json")


def refuse_existing(*paths: Path) -> None:
    """Refuse to write over what is there."""
    for path in paths:
        if path.exists():
            raise FileExistsError(f"{path} is there already, and would be lost: choose another one, or delete it.")


def read(path: Path) -> Any:
    """The content of a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def write(path: Path, content: Any) -> None:
    """Write a JSON file."""
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def answered(options: argparse.Namespace) -> dict[str, str]:
    """The answer to each of the requests."""
    from safetensors.torch import load_file

    from mopref.baselines import Cost, Trained
    from mopref.llm.data import tokenize_prompts
    from mopref.llm.evaluation import sample_answers
    from mopref.llm.policy.generation import Sampling
    from mopref.recipes import load_recipe
    from mopref.recipes.method_plan import MethodRecipe
    from mopref.recipes.models import adapted_model, load_tokenizer
    from mopref.recipes.parts import make_parts

    recipe = load_recipe(options.recipe, kind=MethodRecipe).completed()
    parts, tokenizer = make_parts(recipe), load_tokenizer(recipe.model)
    if options.preference is not None and len(options.preference) != len(recipe.objectives):
        raise ValueError(f"--preference is {options.preference}: give one weight for each of {recipe.objectives}.")
    model = adapted_model(recipe.model, parts.adapter, parts.device)
    if options.training is not None:
        cost = Cost(**read(options.training / "run.json")["cost"])
        Trained(load_file(options.training / "adapter.safetensors"), cost).put_into(model)
    prompts = PROMPTS.read_text(encoding="utf-8").splitlines()
    rows = tokenize_prompts(tokenizer, prompts, 128, "error")
    at = None if options.preference is None else torch.tensor([options.preference])
    sampling = Sampling(max_new_tokens=options.max_new_tokens, temperature=options.temperature)
    settings: dict[str, Any] = {"batch_size": 32, "with_kl": False, "seed": options.seed}
    texts = sample_answers(model.eval(), tokenizer, rows, at, sampling, **settings).texts[0]
    return dict(zip(prompts, texts, strict=True))


def paired(first: dict[str, str], second: dict[str, str], seed: int) -> dict[str, Any]:
    """The key, and what is judged in both orders."""
    if first.keys() != second.keys():
        raise ValueError("the two files answer different requests: make them with the same prompts.")
    if first == second:
        raise ValueError("the two files hold the same answers, or none: give those of two trainings.")
    generator = random.Random(seed)
    # Which answers stand at A in the first order.
    key = {str(number): generator.choice(("first", "second")) for number in range(len(first))}
    orders = []
    for is_swapped in (False, True):
        items = []
        for number, request in enumerate(first):
            answers = (first[request], second[request])
            a, b = answers if (key[str(number)] == "first") != is_swapped else answers[::-1]
            items.append({"number": number, "request": request, "A": a, "B": b})
        generator.shuffle(items)
        orders.append(items)
    return {"key": key, "order_1": orders[0], "order_2": orders[1]}


def counted(key: dict[str, str], *verdicts: dict[str, str]) -> tuple[int, int, int, int]:
    """How often the first and the second are better, how often neither, and how often both orders say the same."""
    for own in verdicts:
        if not isinstance(own, dict) or not own.keys() <= key.keys():
            raise ValueError("verdicts are no object of numbers with A, B or tie, or have one that was not asked for.")
    first = second = agreed = 0
    for number, at_a in key.items():
        points = []
        for order, own in enumerate(verdicts):
            if own.get(number) not in ("A", "B", "tie"):
                raise ValueError(f"the verdict on {number} is {own.get(number)!r}: it must be A, B or tie.")
            is_first = (own[number] == "A") == ((at_a == "first") != bool(order))
            points.append(0 if own[number] == "tie" else 1 if is_first else -1)
        first, second = first + (sum(points) > 0), second + (sum(points) < 0)
        agreed += points[0] == points[1]
    return first, second, len(key) - first - second, agreed


def sign_test(first: int, second: int) -> float:
    """p of so uneven a split or a more uneven one, two-sided, if each were as likely to be better."""
    return float(binomtest(first, first + second).pvalue) if first + second else 1.0


if __name__ == "__main__":
    main()

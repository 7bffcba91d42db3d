"""What does one model for all preferences cost against K models, one for each of K of them, at equal quality?

    python benchmarks/one_against_many.py
    python benchmarks/one_against_many.py --steps 100 400 --models 5 --seeds 0

On the bandit of bandit_methods.py (exact gradients of KL-regularised rewards, m = 2): one model gets all steps, each of
K LoRAs of the same total rank an equal share of them; a step evaluates one preference either way. Both are measured at
the K preferences of a lattice, which is all that K models can serve, and trained at each of three learning rates, so
that neither has the other's; the picture shows each at its best one. Cells append to a file of JSON lines and are not
run again; a table and a picture are made of all of them.
"""

import argparse
import json
from itertools import product
from pathlib import Path

import pandas as pd
import torch
from bandit_methods import key_of, measure, parsed, recorded
from studies import Picture, Study, draw, table

STEPS = [55, 110, 220, 440, 880, 1760, 3520]
METHODS = {"ours": "one model", "dps-total": "a LoRA for each λ"}


def main(words: list[str] | None = None) -> None:
    """Run the cells that are not recorded yet, and write table and picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", nargs="+", type=int, default=STEPS, help="of all runs together")
    parser.add_argument("--models", nargs="+", type=int, default=[5, 11], help="K")
    parser.add_argument("--learning-rates", nargs="+", type=float, default=[5e-3, 2e-2, 5e-2])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--output", type=Path, default=Path("outputs/studies"))
    options = parser.parse_args(words)
    options.output.mkdir(parents=True, exist_ok=True)
    path = options.output / "one_against_many.jsonl"
    done, rows = recorded(path), []
    cells = product(options.models, options.learning_rates, options.steps, options.seeds)
    for points, rate, steps, seed in cells:
        words_of_cell = ["--points", str(points), "--steps", str(steps), "--learning-rate", str(rate)]
        # One preference a step, so that a step is as much work for either.
        own = parsed([*words_of_cell, "--preferences-per-step", "1", "--beds", "rewards", "--methods", *METHODS])
        keys = {name: key_of("rewards", own, seed, name) for name in METHODS}
        if missing := [name for name in METHODS if keys[name] not in done]:
            for name, result in measure("rewards", own, seed, missing).items():
                done[keys[name]] = result
                with path.open("a") as file:
                    file.write(json.dumps({"cell": keys[name], "result": result}) + "\n")
        for name, title in METHODS.items():
            regret = 100 * done[keys[name]]["regret_share"]
            line = {"method": f"{title}, {points} λ", "rate": rate}
            rows.append({"steps in all": steps, **line, "seed": seed, "regret_share": regret})
    frame = pd.DataFrame(rows)
    study = Study(
        "one_against_many",
        "One model, or one for each λ?",
        "ours",
        {name: list(frame[name].unique()) for name in ("method", "steps in all", "rate")},
        options.seeds,
        Picture("steps in all", ("regret_share",), "method", "log"),
    )
    text = table(study, frame)
    (options.output / f"{study.name}.md").write_text(text + "\n")
    draw(study, at_best_rates(frame), options.output / f"{study.name}.png")
    print(text)


def at_best_rates(frame: pd.DataFrame) -> pd.DataFrame:
    """Of each method and number of steps the rows of the rate whose mean over seeds is the smallest."""
    means = frame.groupby(["method", "steps in all", "rate"], sort=False)["regret_share"].mean().reset_index()
    best = means.loc[means.groupby(["method", "steps in all"], sort=False)["regret_share"].idxmin()]
    return frame.merge(best[["method", "steps in all", "rate"]])


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()

"""How many choices does it take to find a person's λ?

    python benchmarks/personal.py
    python benchmarks/personal.py --adapter outputs/llm_hh_alignment/adapter

People are simulated: λ ~ Dirichlet(1), and of two responses they choose the first with probability σ(β_u Σ λ_i r_i),
where r is the pair's difference of m rewards. That is what β h_λ is of a policy that is optimal for Σ λ_i r_i − β KL,
and it is ASSUMED here that the model is one: there is no language model in the first part. r is normal with deviation 1
and correlation −.3 between rewards, anew for each person. β_u is such that over all pairs of a person the better
response is chosen with the mean probability "agreement"; the fit does not know it. Pairs to ask about are drawn at
random from a pool, or chosen from it by ``next_question``; both strategies meet the same people, pairs and luck.

Printed for each: the mean |error| of λ_i after 0, 4, … questions; how often the region of level .9 holds the truth
after 16; the agreement on the pairs that were asked about; and after how many questions the error is what 16 random
ones leave.

With --adapter a model trained on the demo's pairs is asked instead, of which it has seen the prompts of one part only.
A simulated person of known λ* chooses by the pairs' own labels (Σ λ*_i c_i with c_i = ±1, so not by the model) and is
asked about pairs of the first part; their choices on the others are then predicted at the fitted λ and at the centre,
each at the β that suits it best, and log-likelihoods are compared.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from mopref.personal import PairMargins, fit_choices, next_question, pair_margins

QUESTIONS = 16
SHOWN = (0, 4, 8, 12, 16)


class Person(NamedTuple):
    """Somebody who answers.

    Attributes:
        preference: the true λ, ``(m,)``.
        margins: of the pool.
        chances: that response 0 is chosen, ``(pairs,)``.
        choices: what is chosen where the pair is asked about, ``(pairs,)``.
        order: of random questions.
    """

    preference: np.ndarray
    margins: PairMargins
    chances: np.ndarray
    choices: np.ndarray
    order: np.ndarray


def decisiveness_for(margins: Tensor, agreement: float) -> float:
    """β with which the mean of σ(β |d|) is the agreement, by bisection."""
    low, high = 1e-3, 1e4
    for _ in range(60):
        middle = (low * high) ** 0.5
        is_low = bool((middle * margins.abs()).sigmoid().mean() < agreement)
        low, high = (middle, high) if is_low else (low, middle)
    return low


def make_person(generator: np.random.Generator, objectives: int, agreement: float, pairs: int, rho: float) -> Person:
    """A person and a pool of pairs."""
    covariance = np.full((objectives, objectives), rho) + (1 - rho) * np.eye(objectives)
    rewards = generator.multivariate_normal(np.zeros(objectives), covariance, size=pairs)
    preference = generator.dirichlet(np.ones(objectives))
    margins = torch.from_numpy(rewards @ preference)
    chances = (decisiveness_for(margins, agreement) * margins).sigmoid().numpy()
    choices = np.where(generator.random(pairs) < chances, 0, 1)
    names = [f"objective {i}" for i in range(objectives)]
    return Person(preference, PairMargins(rewards, names), chances, choices, generator.permutation(pairs))


def asked(person: Person, is_active: bool, questions: int) -> tuple[list[float], list[bool], list[float]]:
    """Errors and coverage after 0, 1, … questions, and the agreement on each pair that was asked."""
    choices: dict[int, int] = {}
    errors, covered, agreements = [], [], []
    for number in range(questions + 1):
        fitted = fit_choices(person.margins, choices)
        errors.append(float(np.abs(fitted.preference.numpy() - person.preference).mean()))
        covered.append(fitted.region.contains(person.preference))
        if number < questions:
            pair = next_question(person.margins, choices).pair if is_active else int(person.order[number])
            choices[pair] = int(person.choices[pair])
            agreements.append(float(max(person.chances[pair], 1 - person.chances[pair])))
    return errors, covered, agreements


def simulate(objectives: int, agreement: float, options: argparse.Namespace) -> dict[str, Any]:
    """Both strategies on the same people."""
    start = time.perf_counter()
    found: dict[str, list[Any]] = {"active": [], "random": []}
    for number in range(options.people):
        generator = np.random.default_rng([options.seed, objectives, number])
        person = make_person(generator, objectives, agreement, options.pairs, options.correlation)
        for name, results in found.items():
            results.append(asked(person, name == "active", QUESTIONS if name == "active" else options.most))
    result: dict[str, Any] = {"objectives": objectives, "agreement": agreement}
    for name, results in found.items():
        errors, covered = (np.array([each[column] for each in results]) for column in (0, 1))
        result[name] = {
            "errors": errors.mean(axis=0).tolist(),
            "standard_error": float(errors[:, QUESTIONS].std() / len(errors) ** 0.5),
            "covered": float(covered[:, QUESTIONS].mean()),
            "agreement_asked": float(np.mean([each[2][:QUESTIONS] for each in results])),
        }
    target = result["random"]["errors"][QUESTIONS]
    reached = [number for number, error in enumerate(result["active"]["errors"]) if error <= target]
    result["active_questions_for_it"] = reached[0] if reached else None
    best = result["active"]["errors"][QUESTIONS]
    later = [number for number, error in enumerate(result["random"]["errors"]) if error <= best]
    result["random_questions_for_active_error"] = later[0] if later else None
    return {**result, "seconds": time.perf_counter() - start}


def show(result: dict[str, Any]) -> None:
    """Two lines, one for each strategy."""
    for name in ("random", "active"):
        part = result[name]
        errors = "".join(f"{part['errors'][number]:8.3f}" for number in SHOWN)
        count = QUESTIONS if name == "random" else result["active_questions_for_it"]
        print(
            f"{result['objectives']:>3}{result['agreement']:>11.2f}  {name:<8}{errors}{part['covered']:>10.2f}"
            f"{part['agreement_asked']:>8.2f}{count!s:>11}",
            flush=True,
        )


def best_log_likelihood(margins: Tensor) -> float:
    """The mean log σ(β d) of chosen less rejected, at the β that makes it largest; −log 2 at β = 0."""
    betas = torch.cat([torch.zeros(1), torch.logspace(-3, 3, 121)]).double()
    return float(logsigmoid(betas.unsqueeze(1) * margins).mean(dim=1).max())


def predicted(margins: PairMargins, benefits: Tensor, pool: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    """For each simulated person the true λ, the fitted one, and the log-likelihood of other choices there and between.

    Args:
        margins: of all pairs, of which the first ``pool`` may be asked about.
        benefits: c, 1 where response 0 is preferred on an objective and −1 where response 1 is, ``(pairs, m)``.
        pool: how many.
        options: how many people, their agreement, and the seed.
    """
    m = len(margins.names)
    to_ask = PairMargins(margins.values[:pool], margins.names, margins.keys[:pool])
    results = []
    for number in range(options.people):
        generator = np.random.default_rng([options.seed, m, number])
        truth = generator.dirichlet(np.ones(m))
        utilities = benefits @ torch.from_numpy(truth)
        chances = (decisiveness_for(utilities, options.agreements[0]) * utilities).sigmoid()
        signs = torch.from_numpy(np.where(generator.random(len(chances)) < chances.numpy(), 1.0, -1.0))
        choices: dict[int, int] = {}
        while len(choices) < QUESTIONS:
            pair = next_question(to_ask, choices).pair
            choices[pair] = int(signs[pair] < 0)
        fitted = fit_choices(to_ask, choices).preference
        compared = torch.stack([fitted, torch.full_like(fitted, 1 / m)])
        at_fitted, at_centre = (best_log_likelihood(signs[pool:] * d) for d in margins.at(compared)[pool:].T)
        results.append({"truth": truth.tolist(), "fitted": fitted.tolist(), "at": [at_fitted, at_centre]})
    return results


def with_model(model: Any, pool: list[Any], others: list[Any], options: argparse.Namespace) -> dict[str, Any]:
    """People who are asked about rows of the pool, and choose between the other rows too."""
    start = time.perf_counter()
    margins = pair_margins(model, pool + others, progress=True)
    seconds = time.perf_counter() - start
    benefits = 1.0 - 2.0 * torch.tensor([row["labels"] for row in pool + others], dtype=torch.float64)
    people = predicted(margins, benefits, len(pool), options)
    scores = np.array([person["at"] for person in people])
    gains = scores[:, 0] - scores[:, 1]
    print(
        f"{len(pool)} pairs to ask about, {len(others)} others; margins took {seconds:.0f} s. {len(people)} people, "
        f"{QUESTIONS} questions each. Log-likelihood of a choice between the others: {scores[:, 0].mean():.4f} at the "
        f"fitted λ, {scores[:, 1].mean():.4f} at the centre; difference {gains.mean():.4f} ± "
        f"{gains.std() / len(gains) ** 0.5:.4f} (standard error), above 0 for {np.mean(gains > 0):.0%}."
    )
    return {"people": people, "pairs": [len(pool), len(others)], "seconds": seconds}


def with_adapter(options: argparse.Namespace) -> dict[str, Any]:
    """The same of the demo's model, on its pairs that are labelled on both objectives, parted as the demo does."""
    from transformers import AutoTokenizer

    from mopref import PreferenceModel
    from mopref.llm.data import split_by_prompt, tokenize_records
    from mopref.llm.demo import harm_pairs, smollm2

    model = PreferenceModel.from_pretrained(options.adapter)
    tokenizer = AutoTokenizer.from_pretrained(str(smollm2()), trust_remote_code=False)
    parts = []
    for records in split_by_prompt(harm_pairs(prefer_labelled_on_both=True), 0.25, seed=options.seed):
        labelled = [record for record in records if all(record[name] >= 0 for name in model.objectives)]
        limits: dict[str, Any] = {"max_prompt_length": 128, "max_response_length": 40, "on_long_prompt": "drop"}
        parts.append(tokenize_records(tokenizer, labelled[: options.pairs], model.objectives, **limits))
    return with_model(model, *parts, options)


def main(arguments: Sequence[str] | None = None) -> None:
    """Simulate, or ask an adapter; print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objectives", type=int, nargs="+", default=[2, 3])
    parser.add_argument("--agreements", type=float, nargs="+", default=[0.8, 0.7, 0.95])
    parser.add_argument("--people", type=int, default=200, help="(default: %(default)s)")
    parser.add_argument("--pairs", type=int, default=100, help="in the pool (default: %(default)s)")
    parser.add_argument("--most", type=int, default=48, help="random questions at most (default: %(default)s)")
    parser.add_argument("--correlation", type=float, default=-0.3, help="of two rewards (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--adapter", type=Path, default=None, help="folder of an adapter of the demo's model")
    parser.add_argument("--output", type=Path, default=Path("outputs/personal.json"))
    options = parser.parse_args(arguments)
    if options.adapter is not None:
        results: Any = with_adapter(options)
    else:
        header = "".join(f"{f'{number} q.':>8}" for number in SHOWN)
        print(
            f"{'m':>3}{'agreement':>11}  {'asked':<8}{header}{'coverage':>10}{'asked':>8}{'questions':>11}", flush=True
        )
        results = []
        for objectives in options.objectives:
            for agreement in options.agreements:
                results.append(simulate(objectives, agreement, options))
                show(results[-1])
    options.output.parent.mkdir(parents=True, exist_ok=True)
    settings = {key: str(value) for key, value in vars(options).items()}
    options.output.write_text(json.dumps({"settings": settings, "results": results}, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()

"""Pairs for the objectives without a reference, and h̄ of them from full logits of a model merged by hand."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mopref import ParetoTrainer, PreferenceModel, SVDLoRAConfig, TrainerConfig
from mopref.llm.pairs import PairObjective
from mopref.scalarizers import Linear

NAMES = ("helpful", "harmless", "brief")
CONFIG = SVDLoRAConfig(objectives=NAMES, rank=3, preference_rank=2)
LABELS = [[0, 1, 0], [1, -1, 0], [-1, 1, 1], [0, 0, -1], [1, 0, 1], [0, 1, -1], [-1, 0, 1], [1, 1, 0]]


def row_preferences() -> Tensor:
    """One preference for each row, one of them a corner: ``(8, 3)``."""
    raw = torch.rand(8, 3, generator=torch.Generator().manual_seed(9))
    raw[2] = torch.tensor([0.0, 1.0, 0.0])
    return raw / raw.sum(-1, keepdim=True)


def log_probabilities_of_tokens(model: nn.Module, prompt: list[int], response: list[int]) -> Tensor:
    """Of one row without padding, from all logits: ``(R,)``, float64."""
    logits = model(torch.tensor([prompt + response])).logits[0].double()
    return torch.log_softmax(logits, -1)[range(len(prompt) - 1, len(prompt) + len(response) - 1), response]


def mean_log_probabilities(models: Sequence[nn.Module], rows: list[dict]) -> Tensor:
    """log π(y|x) / |y| of both responses to each row, by the row's own plain model: ``(B, 2)``, float64."""
    return torch.stack(
        [
            torch.stack(
                [log_probabilities_of_tokens(model, row["prompt_ids"], row[f"response_{k}_ids"]).mean() for k in (0, 1)]
            )
            for model, row in zip(models, rows, strict=True)
        ]
    )


def swapped(rows: list[dict]) -> list[dict]:
    """The same data in other words: responses change places, and so do the labels 0 and 1."""
    return [
        {
            "prompt_ids": row["prompt_ids"],
            "response_0_ids": row["response_1_ids"],
            "response_1_ids": row["response_0_ids"],
            "labels": [label if label < 0 else 1 - label for label in row["labels"]],
        }
        for row in rows
    ]


@contextmanager
def counted_rows(module: nn.Module) -> Iterator[list[int]]:
    """How many rows of tokens each forward of a module sees."""
    seen: list[int] = []
    handle = module.register_forward_hook(lambda _module, _inputs, output: seen.append(output.logits.shape[0]))
    yield seen
    handle.remove()


def gradients(model: nn.Module) -> list[Tensor]:
    """Of every parameter that is trained; 0 where there is none."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in trained]


def gradients_of(loss: Tensor, model: nn.Module) -> list[Tensor]:
    """∂ loss / ∂ every parameter that is trained."""
    model.zero_grad()
    loss.backward()
    return gradients(model)


def assert_same_gradients(actual: list[Tensor], expected: list[Tensor]) -> None:
    """To 1e-5 of the largest entry, and not nothing."""
    scale = max(gradient.abs().max().item() for gradient in expected)
    assert scale > 1e-4
    for one, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5 * scale, rtol=1e-4)


def make_trainer(
    model: PreferenceModel, objective: PairObjective, rows: list[dict], folder: Path | None = None, **options: Any
) -> ParetoTrainer:
    """Two preferences a step, with four rows each."""
    settings = {"steps": 4, "batch_size": 8, "preferences_per_step": 2, "learning_rate": 1e-2, "log_every": 1}
    checkpoints = {"checkpoint_every": 2, "output_dir": folder} if folder else {}
    config = TrainerConfig(**{**settings, "progress": False, "cpu": True, **checkpoints, **options})
    return ParetoTrainer(model, objective, Linear(), train_data=rows, config=config)


def assert_resumes_bit_for_bit(make: Callable[[Path | None], ParetoTrainer], folder: Path) -> None:
    """A run that goes on from its checkpoint ends where the whole one does: parameters and history."""
    whole = make(folder)
    history = whole.train()
    start = [value.clone() for value in make(None).unwrapped_model.state_dict().values()]
    resumed = make(None)
    assert resumed.train(resume_from=folder / "checkpoint-2") == history
    ends = [list(trainer.unwrapped_model.state_dict().values()) for trainer in (whole, resumed)]
    assert all(torch.equal(one, other) for one, other in zip(*ends, strict=True))
    assert any(not torch.equal(one, other) for one, other in zip(start, ends[0], strict=True)), "something was trained"

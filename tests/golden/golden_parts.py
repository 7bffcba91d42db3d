"""What the golden files are made of: every number comes from whole numbers, so that each machine makes the same.

No random generator has a say in the bases, whose numbers no golden file holds: the next version of PyTorch or
transformers may draw others from the same seed.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mopref import (
    ConcatenationModel,
    DecisionModel,
    FiLMModel,
    Front,
    HypernetworkModel,
    ParetoSetModel,
    ParetoTrainer,
    PreferenceModel,
    SVDLoRAConfig,
    TrainerConfig,
)
from mopref.objectives import DPO, Quadratic
from mopref.scalarizers import ModifiedTchebycheff, SmoothTchebycheff

NAMES = ("helpful", "harmless")
PREFERENCES = [[1.0, 0.0], [0.3, 0.7], [0.0, 1.0]]
SAVED, STEPS = 4, 6


def filled(module: nn.Module, start: int, only_trained: bool = False) -> nn.Module:
    """The module with numbers in [-1/4, 1/4] that follow from their place, exact in float32."""
    with torch.no_grad():
        for index, (_, parameter) in enumerate(sorted(module.named_parameters())):
            if parameter.requires_grad or not only_trained:
                places = torch.arange(parameter.numel(), dtype=torch.int64) + 1009 * (index + start)
                whole = (places * 7919 + places.div(3, rounding_mode="floor") * 104729) % 513 - 256
                parameter.copy_((whole.to(torch.float64) / 1024).view(parameter.shape))
    return module


def language_model() -> nn.Module:
    """A Llama of one block and a vocabulary of 24."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=24,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=32,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    return filled(LlamaForCausalLM(config), 1).eval()


def adapted(start: int = 2) -> PreferenceModel:
    """The language model with adapters, whose numbers follow from ``start``."""
    config = SVDLoRAConfig(NAMES, rank=2, preference_rank=1, scaling=0.5)
    return filled(PreferenceModel(language_model(), config), start, only_trained=True).eval()


def network(inputs: int = 4) -> nn.Module:
    """A small network."""
    return filled(nn.Sequential(nn.Linear(inputs, 6), nn.Tanh(), nn.Linear(6, 3)), 3)


# How each conditioning is made, and how the model of a folder is loaded.
CONDITIONINGS: dict[str, tuple[Callable[[], nn.Module], Callable[[Path], nn.Module]]] = {
    "pareto_set": (
        lambda: ParetoSetModel(2, 3, (-1.0, [1.0, 2.0, 3.0]), hidden=(5, 4), seed=3),
        ParetoSetModel.load,
    ),
    "film": (
        lambda: FiLMModel(network(), NAMES, hidden=(5,), seed=3),
        lambda folder: FiLMModel.load(network(), folder),
    ),
    "hypernetwork": (
        lambda: HypernetworkModel(network(), NAMES, (5,), 3, seed=3, train_base=False),
        lambda folder: HypernetworkModel.load(network(), folder),
    ),
    "concatenation": (
        lambda: ConcatenationModel(network(6), NAMES),
        lambda folder: ConcatenationModel.load(network(6), folder),
    ),
    "decision": (
        lambda: DecisionModel(FiLMModel(network(), NAMES, (5,)), 3, (-1.0, 1.0), anchor=[0.125, -0.75, 0.5, 2.0]),
        lambda folder: DecisionModel.load(FiLMModel(network(), NAMES, (5,)), folder),
    ),
}


@torch.no_grad()
def outputs(model: nn.Module) -> list[Any]:
    """What a model makes of :data:`PREFERENCES`."""
    model.eval()
    preferences = torch.tensor(PREFERENCES)
    if isinstance(model, PreferenceModel):
        tokens = torch.tensor([[1, 5, 9, 20]] * len(preferences))
        return model(tokens, preferences=preferences).logits[:, -1].tolist()
    if isinstance(model, ParetoSetModel | DecisionModel):
        return model(preferences).tolist()
    inputs = torch.arange(12, dtype=torch.float32).view(3, 4) / 8 - 0.75
    return model(inputs, preferences=preferences).tolist()


def toy_trainer(folder: Path | None, **settings: Any) -> ParetoTrainer:
    """A run on two distances, with an ideal point that is tracked."""
    problem = Quadratic([[0.0, 0.0, 1.0], [1.0, -1.0, 0.0]])
    model = filled(ParetoSetModel(2, 3, bounds=problem.bounds, hidden=(4,)), 4)
    return _trainer(model, problem, ModifiedTchebycheff(), None, folder, settings)


def dpo_trainer(folder: Path | None, **settings: Any) -> ParetoTrainer:
    """DPO on four pairs."""
    labels = [[0, 1], [1, -1], [1, 0], [0, 0]]
    rows = [
        {"prompt_ids": [3 + i, 4], "response_0_ids": [5, 6 + i], "response_1_ids": [12 + i, 7], "labels": label}
        for i, label in enumerate(labels)
    ]
    options = {"batch_size": 2, "preferences_per_step": 1, **settings}
    return _trainer(adapted(5), DPO(NAMES, beta=0.5), SmoothTchebycheff(), rows, folder, options)


TRAINERS = {"toy": toy_trainer, "dpo": dpo_trainer}


def _trainer(
    model: nn.Module, objective: Any, scalarizer: Any, rows: Any, folder: Path | None, settings: dict[str, Any]
) -> ParetoTrainer:
    options = {"steps": STEPS, "preferences_per_step": 2, "learning_rate": 0.01, "log_every": 1, "seed": 5, **settings}
    config = TrainerConfig(output_dir=folder, cpu=True, progress=False, **options)
    return ParetoTrainer(model, objective, scalarizer, train_data=rows, config=config)


def progress(trainer: ParetoTrainer) -> dict[str, Any]:
    """What a trainer has come to."""
    trained = {name: value.detach().flatten() for name, value in trainer.unwrapped_model.named_parameters()}
    trained = {name: value for name, value in sorted(trained.items()) if "base_model" not in name or "sigma" in name}
    return {
        "step": trainer.step,
        "history": trainer.history,
        "ideal point": tensor_list(trainer.scalarizer.ideal_point),
        "sums": {name: float(value.double().sum()) for name, value in trained.items()},
    }


def tensor_list(values: Tensor) -> list[float]:
    """Its numbers."""
    return [float(value) for value in values]


def front() -> Front:
    """Three points with columns of every kind, one direction for each objective, and metadata."""
    return Front(
        preferences=PREFERENCES,
        values=[[0.1, 2.0 / 3.0], [1e-17, -5.0], [12345.678, 0.5]],
        names=NAMES,
        maximize=(True, False),
        extra={
            "accuracy_helpful": np.array([0.5, np.nan, 1.0]),
            "answers": ["plain", 'a "quoted", text', "é λ\nand a second line"],
            "rows": [1, 2, 3],
        },
        metadata={"seed": 0, "note": {"nested": [1, 2.5, None, True]}},
    )

"""A tiny comparison: a Llama of two blocks, random pairs, and trainings of a few steps."""

import copy
from typing import Any

import pytest
import torch

from mopref import PreferenceModel, SVDLoRAConfig, TrainerConfig
from mopref.baselines import MethodSetup, PlainLoRA, Trainings
from mopref.baselines.interfaces import Cost
from mopref.objectives import DPO
from mopref.samplers import UniformSampler
from mopref.scalarizers import Linear

NAMES = ("helpful", "harmless")
ADAPTER = SVDLoRAConfig(NAMES, rank=2, preference_rank=1)


@pytest.fixture(scope="session")
def base(make_llama):
    """The base model, to be copied only."""
    return make_llama()


@pytest.fixture(scope="session")
def make_model(base):
    """Makes the base anew, with adapters."""
    return lambda config: PreferenceModel(copy.deepcopy(base), config)


@pytest.fixture(scope="session")
def rows(make_pairs) -> list[dict[str, Any]]:
    """Pairs with all kinds of labels."""
    return make_pairs([[0, 1], [1, 0], [0, 0], [1, 1], [0, -1], [-1, 1], [1, 0], [0, 1]])


@pytest.fixture(scope="session")
def make_setup(make_model, rows):
    """Factory of setups, with changes."""

    def make(**changes: Any) -> MethodSetup:
        config = TrainerConfig(
            steps=2, batch_size=4, preferences_per_step=2, learning_rate=1e-2, progress=False, cpu=True
        )
        settings: dict[str, Any] = {
            "make_model": make_model,
            "adapter": ADAPTER,
            "objective": DPO(NAMES),
            "make_scalarizer": Linear,
            "make_sampler": lambda: UniformSampler(NAMES),
            "rows": rows,
            "config": config,
        }
        return MethodSetup(**{**settings, **changes})

    return make


@pytest.fixture(scope="session")
def trainings(make_setup) -> Trainings:
    """Trainings that all tests share, each done once."""
    return Trainings(make_setup())


@pytest.fixture(scope="session")
def random_loras(base):
    """Two LoRAs of rank 4 on every linear layer but the head, large enough to be seen."""
    generator = torch.Generator().manual_seed(3)
    layers = {
        name: layer.weight.shape
        for name, layer in base.named_modules()
        if isinstance(layer, torch.nn.Linear) and name != "lm_head"
    }

    def draw(*shape: int) -> torch.Tensor:
        return 0.1 * torch.randn(*shape, generator=generator)

    factors = [{name: (draw(4, n_in), draw(n_out, 4)) for name, (n_out, n_in) in layers.items()} for _ in NAMES]
    return [PlainLoRA(own, Cost(0, 0, 0)) for own in factors]


@pytest.fixture(scope="session")
def merged(base):
    """A copy of the base with Σ w_i B_i A_i added to its weights by hand."""

    def merge(loras: list[PlainLoRA], weights: list[float]) -> torch.nn.Module:
        model = copy.deepcopy(base)
        with torch.no_grad():
            for name in loras[0].factors:
                layer = model.get_submodule(name)
                for lora, weight in zip(loras, weights, strict=True):
                    a, b = lora.factors[name]
                    layer.weight += weight * (b @ a)
        return model

    return merge


@pytest.fixture(scope="session")
def next_log_probabilities():
    """log π(· | prompt) of a plain model of transformers, ``(V,)``."""

    def of(model: torch.nn.Module, prompt: list[int]) -> torch.Tensor:
        with torch.no_grad():
            return model(input_ids=torch.tensor([prompt])).logits[0, -1].double().log_softmax(-1)

    return of

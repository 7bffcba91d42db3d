"""What is counted before a run is what is there in it."""

import pytest
import torch
from torch import nn

from mopref import ParetoTrainer, PreferenceModel, SVDLoRAConfig, TrainerConfig
from mopref.objectives import DPO
from mopref.scalarizers import Linear
from mopref.training.memory import MemoryEstimate, memory_estimate
from mopref.training.sharding import blocks_of


def bytes_of(tensors) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


@pytest.mark.parametrize("optimizer", ["adamw", "adamw-fused"])
def test_counted_bytes_are_those_of_a_step(optimizer, make_llama):
    model = PreferenceModel(make_llama().to(torch.bfloat16), SVDLoRAConfig(("a", "b"), rank=2, preference_rank=1))
    expected = memory_estimate(model, optimizer)
    rows = [{"prompt_ids": [5, 6], "response_0_ids": [7], "response_1_ids": [8, 9], "labels": [0, 1]}] * 4
    config = TrainerConfig(steps=1, batch_size=2, preferences_per_step=1, optimizer=optimizer, progress=False, cpu=True)
    trainer = ParetoTrainer(model, DPO(("a", "b")), Linear(), train_data=rows, config=config)
    trainer.train()
    averages = [v for s in trainer.optimizer.state.values() for name, v in s.items() if name != "step"]
    trained = [p for p in model.parameters() if p.requires_grad]
    assert expected.optimizer == bytes_of(averages)
    assert expected.trained == expected.gradients == bytes_of(trained)
    assert expected.base == bytes_of(p for p in model.parameters() if not p.requires_grad)
    assert expected.gathered == 0
    assert expected.total == sum(expected)


def test_a_base_that_is_shared_out_is_a_part_and_two_blocks(make_llama):
    model = PreferenceModel(make_llama(num_hidden_layers=4), SVDLoRAConfig(("a", "b"), rank=2, preference_rank=1))
    whole, part = memory_estimate(model, "adamw"), memory_estimate(model, "adamw", 4, is_sharded=True)
    assert part.base == whole.base / 4
    (block,) = {bytes_of(p for p in block.parameters() if not p.requires_grad) for block in blocks_of(model.base_model)}
    assert part.gathered == whole.base - 2 * block
    assert (part.trained, part.gradients, part.optimizer) == (whole.trained, 2 * whole.trained, whole.optimizer)
    assert memory_estimate(model, "adamw", 1, is_sharded=True) == whole
    assert memory_estimate(model, "adamw", 4).base == whole.base


def test_it_is_told_in_gib():
    told = str(MemoryEstimate(2 * 2**30, 2**30, 2**28, 2**28, 2**29))
    assert told == (
        "4.00 GiB a process (base 2.00 + 1.00 gathered, adapters with gradients and optimiser 1.00), beside activations"
    )
    assert "gathered" not in str(memory_estimate(nn.Linear(2, 2), "adamw"))

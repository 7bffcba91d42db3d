"""What is counted before a run is what is there in it."""

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from mopref import ParetoTrainer, PreferenceModel, SVDLoRAConfig, TrainerConfig
from mopref.objectives import DPO
from mopref.scalarizers import Linear
from mopref.training.memory import MemoryEstimate, memory_estimate
from mopref.training.sharding import blocks_of

sys.path.append(str(Path(__file__).parents[1] / "families"))
from tiny_models import PACKED_BASES, PACKED_PACKAGES


def bytes_of(tensors) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


@pytest.mark.parametrize("name", PACKED_BASES)
def test_a_quantised_base_counts_as_it_is_stored(name):
    pytest.importorskip(PACKED_PACKAGES[name])
    base = PACKED_BASES[name]()
    weights = [(layer.out_features, layer.in_features) for n, layer in base.named_modules() if n.endswith("_proj")]
    numbers = sum(rows * columns for rows, columns in weights)
    others = bytes_of(p for n, p in base.named_parameters() if "_proj" not in n)
    model = PreferenceModel(base, SVDLoRAConfig(("a", "b"), rank=2, preference_rank=1))
    rows = sum(rows for rows, _ in weights)
    scales = 4 * (numbers // 64 if name == "llama-nf4" else rows)
    expected = others + scales + (numbers // 2 if name == "llama-nf4" else numbers)
    # Beside them a table with settings, a format, or the zeros of all rows.
    beside = memory_estimate(model, "adamw").base - expected
    most = {"llama-nf4": 150 * len(weights), "llama-int8": len(weights), "llama-torchao-int8": rows}
    assert 0 <= beside <= most[name]
    sharded = memory_estimate(model, "adamw", 4, is_sharded=True)
    assert sharded.base == memory_estimate(model, "adamw").base / 4


@pytest.mark.parametrize("optimizer", ["adamw", "adamw-fused", "adamw-8bit"])
def test_counted_bytes_are_those_of_a_step(optimizer, make_llama):
    if optimizer == "adamw-8bit":
        pytest.importorskip("bitsandbytes")
    rank = 64 if optimizer == "adamw-8bit" else 2
    model = PreferenceModel(make_llama().to(torch.bfloat16), SVDLoRAConfig(("a", "b"), rank=rank, preference_rank=1))
    expected = memory_estimate(model, optimizer)
    rows = [{"prompt_ids": [5, 6], "response_0_ids": [7], "response_1_ids": [8, 9], "labels": [0, 1]}] * 4
    config = TrainerConfig(steps=1, batch_size=2, preferences_per_step=1, optimizer=optimizer, progress=False, cpu=True)
    trainer = ParetoTrainer(model, DPO(("a", "b")), Linear(), train_data=rows, config=config)
    trainer.train()
    left_out = ("step", "qmap1", "qmap2")
    averages = [
        v
        for s in trainer.optimizer.state.values()
        for name, v in s.items()
        if isinstance(v, torch.Tensor) and name not in left_out
    ]
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

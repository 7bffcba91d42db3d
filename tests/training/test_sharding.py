"""A base that two processes share out (FSDP2 on gloo): the same run and the same files as on one process."""

import warnings
from types import SimpleNamespace

import pytest
import torch
from _processes import adapted, launch, results, tiny_llama
from accelerate.utils import DistributedType
from safetensors.torch import load_file
from torch import nn
from torch.distributed import fsdp

from mopref import PreferenceModel
from mopref.objectives import DPO
from mopref.training.sharding import blocks_of, check_sharding, has_sharded_base, shard_as_asked, shard_base

SCRIPT = """
import sys
from pathlib import Path

import torch
from accelerate import PartialState
from _processes import NAMES, Tchebycheff, adapted, leave, tiny_llama, trained, trainer_of
from mopref.training import shard_base

folder, mode = Path(sys.argv[1]), sys.argv[2]
process = PartialState(cpu=True)
count, result = process.num_processes, {}
for preferences, forwards in ((1, 1), (1, 2), (4, 1)):
    model = adapted(tiny_llama())
    if mode == "sharded":
        shard_base(model)
        shards = [p for p in model.parameters() if hasattr(p, "full_tensor")]
        held = sum(p.to_local().numel() for p in shards)
        whole = sum(p.numel() for p in shards)
        assert held <= 0.55 * whole, (held, whole)
        assert {name for name, p in model.named_parameters() if p.requires_grad and hasattr(p, "full_tensor")} == set()
    trainer = trainer_of(
        "dpo",
        Tchebycheff(),
        model=model,
        output=folder / f"{mode}-{preferences}-{forwards}",
        batch_size=8 // count // forwards,
        gradient_accumulation_steps=forwards,
        preferences_per_step=preferences,
        checkpoint_every=2,
    )
    trainer.train()
    result[f"{preferences} {forwards}"] = trained(trainer)
    front = trainer.front(3)
    result[f"front {preferences} {forwards}"] = front.values.tolist()
if mode == "sharded":
    model.save_pretrained(folder / "adapter-sharded")
    model.export_lora(folder / "lora-sharded", [0.25, 0.75])
    again = adapted(tiny_llama())
    shard_base(again)
    resumed = trainer_of(
        "dpo", Tchebycheff(), model=again, output=folder / f"{mode}-4-1", batch_size=4, preferences_per_step=4,
        checkpoint_every=2,
    )
    resumed.train(resume_from=folder / f"{mode}-4-1" / "checkpoint-2")
    result["resumed"] = trained(resumed)
    refused = []
    for name, attempt in {
        "merge": lambda: model.merge([0.5, 0.5]),
        "ppo": lambda: trainer_of("ppo", Tchebycheff(), model=again),
        "online": lambda: trainer_of("online-dpo", Tchebycheff(), model=again),
    }.items():
        try:
            attempt()
        except ValueError as error:
            refused.append(f"{name}: {error}")
    result["refused"] = refused
elif process.is_main_process:
    model.save_pretrained(folder / "adapter-whole")
    model.export_lora(folder / "lora-whole", [0.25, 0.75])
leave(folder, process.process_index, result)
"""


@pytest.mark.slow
def test_a_base_that_is_shared_out_trains_and_saves_the_same(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    launch(script, 1, tmp_path, "whole")
    (one,) = results(tmp_path, 1)
    launch(script, 2, tmp_path, "sharded")
    first, second = results(tmp_path, 2)
    assert first == second
    for name, expected in one.items():
        if name.startswith("front"):
            torch.testing.assert_close(torch.tensor(first[name]), torch.tensor(expected), atol=1e-5, rtol=1e-5)
            continue
        ours, theirs = (torch.tensor(run["parameters"], dtype=torch.float64) for run in (first[name], expected))
        torch.testing.assert_close(ours, theirs, atol=1e-7, rtol=1e-7)
        assert [entry["loss"] for entry in first[name]["history"]] == pytest.approx(
            [entry["loss"] for entry in expected["history"]], rel=1e-6
        )
    assert first["resumed"] == first["4 1"], "bit for bit"
    for kind in ("adapter", "lora"):
        ours, theirs = (
            load_file(next((tmp_path / f"{kind}-{mode}").glob("*.safetensors"))) for mode in ("sharded", "whole")
        )
        assert ours.keys() == theirs.keys()
        for name, value in ours.items():
            torch.testing.assert_close(value, theirs[name], atol=1e-6, rtol=1e-6)
    torch.set_default_dtype(torch.float64)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            PreferenceModel.load(tiny_llama(), tmp_path / "adapter-sharded")
    finally:
        torch.set_default_dtype(torch.float32)
    merge, ppo, online = first["refused"]
    assert merge.startswith("merge: the base is shared out among processes (FSDP), and a merged copy")
    assert ppo.startswith("ppo: RLHF samples responses, and the base is shared out")
    assert online.startswith("online: OnlineDPO samples responses")


def test_blocks_are_those_of_the_outermost_lists():
    model = adapted(tiny_llama())
    assert blocks_of(model.base_model) == list(model.base_model.model.layers)
    assert not has_sharded_base(model)


def test_what_cannot_be_shared_out_is_refused():
    model = nn.Linear(2, 2).requires_grad_(False)
    model.packed = nn.Parameter(torch.zeros(3, dtype=torch.uint8), requires_grad=False)
    with pytest.raises(ValueError, match=r"packed is a Parameter of torch\.uint8, which FSDP cannot share out"):
        shard_base(model)


class Sharded(nn.Parameter):
    """A parameter that says it is one of several processes."""

    def full_tensor(self):
        return self


@pytest.mark.parametrize(
    ("trained", "precision", "message"),
    [
        (True, None, r"weight is trained and shared out among processes: share out the frozen base alone, by mopref"),
        (False, "fp16", "mixed_precision is 'fp16', and the base is shared out"),
    ],
)
def test_what_a_shared_base_cannot_do_is_refused(trained, precision, message):
    model = nn.Linear(2, 2)
    model.weight = Sharded(torch.zeros(2, 2), requires_grad=trained)
    with pytest.raises(ValueError, match=message):
        check_sharding(model, DPO(("a", "b")), precision)
    check_sharding(nn.Linear(2, 2), DPO(("a", "b")), "fp16")


def accelerator_with(version: int) -> SimpleNamespace:
    plugin = SimpleNamespace(fsdp_version=version)
    state = SimpleNamespace(fsdp_plugin=plugin)
    return SimpleNamespace(distributed_type=DistributedType.FSDP, state=state, device=torch.device("cpu"))


def test_the_first_fsdp_is_refused():
    with pytest.raises(ValueError, match=r"accelerate asks for FSDP1, .* write fsdp_version: 2"):
        shard_as_asked(adapted(tiny_llama()), accelerator_with(1))


def test_accelerates_fsdp_shares_the_frozen_base_out(monkeypatch):
    shared = []
    monkeypatch.setattr(fsdp, "fully_shard", lambda module, ignored_params: shared.append((module, ignored_params)))
    model = adapted(tiny_llama())
    shard_as_asked(model, accelerator_with(2))
    assert [module for module, _ in shared] == [*model.base_model.model.layers, model.base_model]
    trained = {parameter for parameter in model.parameters() if parameter.requires_grad}
    assert all(kept == trained for _, kept in shared)
    before = len(shared)
    shard_as_asked(model, SimpleNamespace(distributed_type=DistributedType.MULTI_CPU))
    assert len(shared) == before

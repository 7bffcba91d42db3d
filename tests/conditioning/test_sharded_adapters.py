"""A model whose adapters are sharded too (PyTorch's fully_shard) runs, and saves whole tensors."""

import os
import subprocess
import sys

import pytest

SCRIPT = """
import sys
import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from transformers import LlamaConfig, LlamaForCausalLM
from mopref import PreferenceModel, SVDLoRAConfig

torch.distributed.init_process_group("gloo")
torch.manual_seed(0)
sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
base = LlamaForCausalLM(LlamaConfig(vocab_size=50, num_key_value_heads=2, **sizes))
model = PreferenceModel(base, SVDLoRAConfig(("a", "b"), rank=2))
for parameter in model.parameters():
    if parameter.requires_grad:
        torch.nn.init.normal_(parameter)
tokens = torch.tensor([[3, 4, 5]])
expected = model(tokens, preferences=[0.3, 0.7]).logits
model.save_pretrained(sys.argv[1])
mesh = init_device_mesh("cpu", (1,))
for layer in model.base_model.model.layers:
    fully_shard(layer, mesh=mesh)
fully_shard(model, mesh=mesh)
torch.testing.assert_close(model(tokens, preferences=[0.3, 0.7]).logits, expected)
model.save_pretrained(sys.argv[2])
torch.distributed.destroy_process_group()
"""


def test_a_model_that_is_sharded_as_a_whole_is_saved_whole(tmp_path):
    pytest.importorskip("transformers")
    safetensors = pytest.importorskip("safetensors.torch")
    surroundings = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0", "RANK": "0", "WORLD_SIZE": "1"}
    folders = [tmp_path / "before", tmp_path / "after"]
    finished = subprocess.run(
        [sys.executable, "-c", SCRIPT, *map(str, folders)],
        env={**os.environ, **surroundings},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr[-2000:]
    one, other = (safetensors.load_file(folder / "adapter_model.safetensors") for folder in folders)
    assert one.keys() == other.keys()
    assert all(one[name].equal(other[name]) for name in one)

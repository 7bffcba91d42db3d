"""Two processes train one model: the same parameters and the same ideal point on both."""

import os
import subprocess
import sys

import pytest

SCRIPT = """
import torch
from mopref import ParetoSetModel, ParetoTrainer, TrainerConfig
from mopref.objectives import ZDT2
from mopref.scalarizers import ModifiedTchebycheff

problem = ZDT2(10)
config = TrainerConfig(
    steps=20, preferences_per_step=8, gradient_accumulation_steps=2, log_every=10, cpu=True, progress=False
)
trainer = ParetoTrainer(ParetoSetModel.for_problem(problem), problem, ModifiedTchebycheff(), config=config)
drawn = trainer.sampler.sample(1)[0, 0].item()
history = trainer.train()
total = sum(parameter.double().sum().item() for parameter in trainer.unwrapped_model.parameters())
accelerator = trainer.accelerator
line = [total, *trainer.scalarizer.ideal_point.tolist(), history[-1]["loss"]]
print("RESULT", accelerator.num_processes, drawn, *line, flush=True)
"""


@pytest.mark.slow
def test_two_processes_train_one_model(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(script)]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1"}
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert finished.returncode == 0, finished.stderr[-2000:]
    results = [
        line.split()[1:] for line in finished.stdout.replace("RESULT", "\nRESULT").splitlines() if "RESULT" in line
    ]
    assert len(results) == 2
    assert [result[0] for result in results] == ["2", "2"]
    assert results[0][1] != results[1][1], "each process draws its own preferences"
    assert results[0][2:] == results[1][2:]

"""Two processes train one model: the same parameters and the same ideal point on both."""

import json
import os
import subprocess
import sys

import pytest

SCRIPT = """
import json
import sys
from pathlib import Path

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
result = {
    "processes": accelerator.num_processes,
    "drawn": drawn,
    "same": [total, *trainer.scalarizer.ideal_point.tolist(), history[-1]["loss"]],
}
Path(sys.argv[1], f"process-{accelerator.process_index}.json").write_text(json.dumps(result))
"""


@pytest.mark.slow
def test_two_processes_train_one_model(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command += [str(script), str(tmp_path)]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1"}
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert finished.returncode == 0, finished.stderr[-2000:]
    first, second = (json.loads((tmp_path / f"process-{i}.json").read_text()) for i in (0, 1))
    assert first["processes"] == second["processes"] == 2
    assert first["drawn"] != second["drawn"], "each process draws its own preferences"
    assert first["same"] == second["same"]

"""Two processes train one model: the same parameters and the same running values on both."""

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


RLHF_SCRIPT = """
import json
import sys
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from mopref import ParetoTrainer, PreferenceModel, SVDLoRAConfig, TrainerConfig
from mopref.llm.policy import Sampling
from mopref.llm.policy_gradient import PPO, PretrainingTerm
from mopref.llm.rewards import token_reward
from mopref.objectives import RLHF
from mopref.scalarizers import Linear

torch.manual_seed(0)
shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
base = LlamaForCausalLM(LlamaConfig(vocab_size=20, num_key_value_heads=2, **shape))
rewards = {
    "long": token_reward(lambda prompts, responses: [len(ids) for ids in responses]),
    "small": token_reward(lambda prompts, responses: [sum(token < 9 for token in ids) for ids in responses]),
}
objective = RLHF(
    rewards,
    algorithm=PPO(epochs=2),
    samples_per_prompt=2,
    sampling=Sampling(max_new_tokens=3, stop_token_ids=(1, 2, 3)),
    pretraining=PretrainingTerm([{"prompt_ids": [5], "response_ids": [6, 7]}]),
)
rows = [{"prompt_ids": [4 + i, 5]} for i in range(8)]
config = TrainerConfig(steps=5, batch_size=4, preferences_per_step=2, cpu=True, progress=False, log_every=5)
model = PreferenceModel(base, SVDLoRAConfig(("long", "small"), rank=2, preference_rank=1))
trainer = ParetoTrainer(model, objective, Linear(), train_data=rows, config=config)
trainer.train()
total = sum(parameter.double().sum().item() for parameter in trainer.unwrapped_model.parameters())
result = {
    "processes": trainer.accelerator.num_processes,
    "drawn": objective.history[0]["preference/long"],
    "same": [total, *objective.reward_scales.tolist()],
}
Path(sys.argv[1], f"process-{trainer.accelerator.process_index}.json").write_text(json.dumps(result))
"""


def two_processes(script, folder, *arguments):
    """What two processes of a script leave in a folder."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command += [str(script), str(folder), *arguments]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1"}
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert finished.returncode == 0, finished.stderr[-2000:]
    return [json.loads((folder / f"process-{i}.json").read_text()) for i in (0, 1)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "same_draw"),
    [(SCRIPT, True), (RLHF_SCRIPT, False), (RLHF_SCRIPT.replace("step=2", "step=1"), True)],
    ids=["zdt2", "rlhf", "rlhf, one preference"],
)
def test_two_processes_train_one_model(source, same_draw, tmp_path):
    """All draw the same preferences; where these suffice, each process works on its own ones."""
    script = tmp_path / "train.py"
    script.write_text(source)
    first, second = two_processes(script, tmp_path)
    assert first["processes"] == second["processes"] == 2
    assert (first["drawn"] == second["drawn"]) == same_draw
    assert first["same"] == second["same"]


FAULT_SCRIPT = """
import json
import sys
from pathlib import Path

import torch

from mopref import ParetoSetModel, ParetoTrainer, TrainerConfig
from mopref.objective import Losses
from mopref.objectives import ZDT2
from mopref.scalarizers import Tchebycheff


class Poison(torch.autograd.Function):
    @staticmethod
    def forward(context, value):
        return value.clone()

    @staticmethod
    def backward(context, gradient):
        return gradient * float("nan")


class Faulty(ZDT2):
    # On process 1 alone, at its third step.
    def training_losses(self, model, batch, preferences):
        self.calls = getattr(self, "calls", 0) + 1
        losses = self.losses(model, batch, preferences)
        if trainer.accelerator.process_index == 0 or self.calls < 3:
            return Losses(losses)
        if sys.argv[2] == "gradient":
            return Losses(Poison.apply(losses))
        if sys.argv[2] == "auxiliary":
            return Losses(losses, losses.mean().detach() * float("nan"))
        return Losses(losses * float("nan"))


problem = Faulty(4)
config = TrainerConfig(steps=6, preferences_per_step=2, log_every=1, cpu=True, progress=False)
trainer = ParetoTrainer(ParetoSetModel.for_problem(problem), problem, Tchebycheff(), config=config)
try:
    trainer.train()
    message = "no error"
except FloatingPointError as error:
    message = str(error)
total = sum(parameter.double().sum().item() for parameter in trainer.unwrapped_model.parameters())
result = {"step": trainer.step, "message": message, "same": [total, *trainer.scalarizer.ideal_point.tolist()]}
Path(sys.argv[1], f"process-{trainer.accelerator.process_index}.json").write_text(json.dumps(result))
"""


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["loss", "gradient", "auxiliary"])
def test_a_number_that_goes_wrong_on_one_process_stops_both_before_the_step(fault, tmp_path):
    script = tmp_path / "train.py"
    script.write_text(FAULT_SCRIPT)
    first, second = two_processes(script, tmp_path, fault)
    assert first["step"] == second["step"] == 2
    assert first["same"] == second["same"]
    words = {"loss": "the loss", "gradient": "the gradient of", "auxiliary": "the auxiliary loss is nan"}[fault]
    assert second["message"].startswith(words)
    assert "step 2" in first["message"]
    assert ("on another process" in first["message"]) == (fault != "gradient")


@pytest.mark.slow
@pytest.mark.parametrize("normalization", ["running", None])
@pytest.mark.parametrize("fault", ["nan", "error"])
def test_a_reward_that_goes_wrong_on_one_process_stops_both(fault, normalization, tmp_path):
    script = tmp_path / "train.py"
    start, end = RLHF_SCRIPT.split("trainer.train()\n")
    start = start.replace(
        "[len(ids) for ids in responses]",
        f"[long_reward({fault!r}) for ids in responses]",
    ).replace("algorithm=PPO(epochs=2)", f"algorithm=PPO(epochs=1), normalization={normalization!r}")
    start = start.replace(
        "torch.manual_seed(0)",
        "calls = []\n\n\n"
        "def long_reward(fault):\n"
        "    calls.append(fault)\n"
        "    if trainer.accelerator.process_index == 0 or len(calls) <= 16:\n"
        "        return 1.0 * len(calls)\n"
        "    return float('nan') if fault == 'nan' else {}[fault]\n\n\n"
        "torch.manual_seed(0)",
        1,
    )
    end = """
try:
    trainer.train()
    message = "no error"
except RuntimeError as error:
    message = f"{type(error).__name__}: {error}"
except FloatingPointError as error:
    message = f"{type(error).__name__}: {error}"
total = sum(parameter.double().sum().item() for parameter in trainer.unwrapped_model.parameters())
result = {"step": trainer.step, "message": message, "same": total}
Path(sys.argv[1], f"process-{trainer.accelerator.process_index}.json").write_text(json.dumps(result))
"""
    script.write_text(start + end)
    first, second = two_processes(script, tmp_path)
    assert first["step"] == second["step"] == 2
    assert first["same"] == second["same"]
    if fault == "nan":
        assert second["message"].startswith("NotFiniteRewardError: reward 'long'")
        assert first["message"].startswith(
            "NotFiniteElsewhereError: on another process, number 1: NotFiniteRewardError"
        )
        assert first["message"].endswith("(At step 2; nothing was updated.)")
    else:
        assert second["message"].startswith("RewardError: reward 'long'")
        assert first["message"].startswith("ElsewhereError: on another process, number 1: RewardError: reward 'long'")

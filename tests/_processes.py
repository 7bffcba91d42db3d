"""Runs of one, two or more processes of the same script, and what they came to."""

import json
import os
import subprocess
import sys
from pathlib import Path

import torch
from torch import nn

from mopref import ParetoSetModel, ParetoTrainer, PreferenceModel, SVDLoRAConfig, TrainerConfig
from mopref.llm.data.sequences import collate_sequences
from mopref.llm.policy import Sampling
from mopref.llm.policy_gradient.rollout import Rollout
from mopref.llm.rewards import token_reward
from mopref.objectives import DPO, RLHF, SFT, ZDT2, OnlineDPO
from mopref.scalarizers import Linear, Tchebycheff

NAMES = ("a", "b")
SCALARIZERS = {
    "linear": Linear,
    "tchebycheff given": lambda: Tchebycheff(ideal=[-9.0, -9.0]),
    "tchebycheff tracked": Tchebycheff,
}


def launch(script: Path, count: int, *arguments, timeout: int = 300, check: bool = True) -> subprocess.CompletedProcess:
    """So many processes of a script, by torchrun."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(count)]
    tests = str(Path(__file__).parent)
    path = os.pathsep.join(filter(None, [tests, os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    finished = subprocess.run(
        [*command, str(script), *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert not check or finished.returncode == 0, finished.stderr[-3000:]
    return finished


def results(folder: Path, count: int) -> list:
    """What each process left."""
    return [json.loads((folder / f"process-{i}.json").read_text()) for i in range(count)]


def leave(folder: str, process: int, result) -> None:
    """Leave a result."""
    Path(folder, f"process-{process}.json").write_text(json.dumps(result))


def tiny_llama(**options) -> nn.Module:
    """A Llama of two blocks, in float64."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    shape |= {"vocab_size": 32, "num_key_value_heads": 2, "initializer_range": 0.3, **options}
    return LlamaForCausalLM(LlamaConfig(**shape)).double()


def adapted(base: nn.Module, **options) -> PreferenceModel:
    """The base with adapters that do something."""
    model = PreferenceModel(base, SVDLoRAConfig(NAMES, rank=2, preference_rank=1, **options))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name in sorted(model.adapters):
            sigma = model.adapters[name].sigma
            sigma.copy_(0.2 * torch.randn(sigma.shape, generator=generator, dtype=torch.float64))
    return model


def drawn(generator: torch.Generator, count: int) -> list[int]:
    """Token ids."""
    return torch.randint(3, 32, (count,), generator=generator).tolist()


def pairs(count: int = 16) -> list[dict]:
    """Pairs, some labelled on one objective only."""
    generator = torch.Generator().manual_seed(0)
    labels = [[0, 1], [1, -1], [-1, 0], [1, 1]]
    return [
        {
            "prompt_ids": drawn(generator, 2),
            "response_0_ids": drawn(generator, 2 + i % 3),
            "response_1_ids": drawn(generator, 3),
            "labels": labels[i % 4],
        }
        for i in range(count)
    ]


def answers(count: int = 16) -> list[dict]:
    """Answers of one dimension or both."""
    return [
        {
            "prompt_ids": row["prompt_ids"],
            "response_ids": row["response_0_ids"],
            "dimensions": [label >= 0 for label in row["labels"]],
        }
        for row in pairs(count)
    ]


REWARDS = {
    "a": token_reward(lambda prompts, responses: [float(len(ids)) for ids in responses]),
    "b": token_reward(lambda prompts, responses: [sum(token < 15 for token in ids) / 7 for ids in responses]),
}


class GivenRollouts(RLHF):
    """The responses to a prompt are fixed."""

    def _roll_out(self, policy, batch, row_preferences):
        samples = self.settings.samples_per_prompt
        prompts = [ids for ids in batch.prompt_ids for _ in range(samples)]
        responses = [
            drawn(torch.Generator().manual_seed(ids[0] * 100 + ids[1] + number), 2 + number)
            for ids in batch.prompt_ids
            for number in range(samples)
        ]
        sequences = collate_sequences(prompts, responses)
        preferences = row_preferences.repeat_interleave(samples, dim=0)
        with torch.no_grad():
            old = policy.token_log_probabilities(sequences, preferences)
        rewards = torch.tensor([REWARDS[name](prompts, responses) for name in NAMES]).T.double()
        if self.normalization == "running":
            self._scale.observe(rewards)
        lengths = torch.tensor([len(ids) for ids in responses])
        rollout = Rollout(sequences, rewards, lengths, torch.zeros(len(responses)) > 0, old)
        return rollout.completed(policy, False, with_reference=True)


def trainer_of(kind: str, scalarizer, model=None, output=None, callbacks=(), **settings) -> ParetoTrainer:
    """A trainer of that kind, for a step of 8 rows in all unless settings say otherwise."""
    torch.set_default_dtype(torch.float64)
    settings = {
        "steps": 4,
        "learning_rate": 0.02,
        "log_every": 1,
        "progress": False,
        "cpu": True,
        "output_dir": output,
    } | settings
    config = TrainerConfig(**settings)
    sampling = Sampling(max_new_tokens=3, stop_token_ids=(1, 2, 3))
    if kind == "toy":
        problem = ZDT2(4)
        model = ParetoSetModel.for_problem(problem, hidden=(8,)).double() if model is None else model
        return ParetoTrainer(model, problem, scalarizer, config=config, callbacks=callbacks)
    objective, rows = {
        "dpo": lambda: (DPO(NAMES, beta=0.5), pairs()),
        "sft": lambda: (SFT(NAMES), answers()),
        "rlhf": lambda: (GivenRollouts(REWARDS, samples_per_prompt=2, sampling=sampling), pairs()),
        "ppo": lambda: (RLHF(REWARDS, algorithm="ppo", samples_per_prompt=2, sampling=sampling), pairs()),
        "online-dpo": lambda: (OnlineDPO(REWARDS, sampling=sampling), pairs()),
    }[kind]()
    model = adapted(tiny_llama()) if model is None else model
    return ParetoTrainer(model, objective, scalarizer, train_data=rows, config=config, callbacks=callbacks)


def trained(trainer: ParetoTrainer) -> dict:
    """What a run came to."""
    model = trainer.unwrapped_model
    numbers = [p.detach() for p in model.parameters() if p.requires_grad]
    numbers = [p.full_tensor() if hasattr(p, "full_tensor") else p for p in numbers]
    point = getattr(trainer.scalarizer, "ideal_point", None)
    return {
        "processes": trainer.accelerator.num_processes,
        "parameters": torch.cat([p.flatten() for p in numbers]).tolist(),
        "history": trainer.history,
        "point": None if point is None else point.tolist(),
    }

"""Tiny trainings that are killed by the trials of reliability, and everything that such a run leaves, as digests.

Each has dropout or sampling, a tracked ideal point, an adaptive or vertex-biased sampler, an interval of the log that a
checkpoint cuts, two callbacks with records, the best model in a folder, and a log file.
"""

import hashlib
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from mopref import (
    EvaluationCallback,
    Front,
    HypervolumeCallback,
    ParetoSetModel,
    ParetoTrainer,
    PreferenceModel,
    SVDLoRAConfig,
    TrainerCallback,
    TrainerConfig,
    VertexBiasedSampler,
)
from mopref.llm.policy import Sampling
from mopref.llm.policy_gradient import PPO
from mopref.llm.rewards import token_reward
from mopref.objectives import DPO, RLHF, Quadratic
from mopref.recipes.log_file import LogFile
from mopref.scalarizers import ModifiedTchebycheff, SmoothTchebycheff
from mopref.training.random_state import random_state

__all__ = ["EVERY", "KEPT", "STEPS", "TRAINERS", "Told", "digests"]

STEPS, EVERY, KEPT = 9, 2, 2
NAMES = ("a", "b")


class Figures(EvaluationCallback):
    """The losses at three preferences."""

    def measure(self, trainer: Any) -> Front:
        """The front as it is."""
        front: Front = trainer.front(3)
        return front


class Told(TrainerCallback):
    """Tells where a training begins, and which checkpoints it says it has written."""

    def __init__(self, tell: Callable[..., None]) -> None:
        self.tell = tell

    def on_train_begin(self, trainer: Any) -> None:
        """Called after a resume."""
        self.tell("begun", step=trainer.step)

    def on_step_end(self, trainer: Any) -> None:
        """Called after a step, before it is saved."""
        self.tell("step", step=trainer.step)

    def on_checkpoint(self, trainer: Any, folder: Path) -> None:
        """Called when a checkpoint is reported as written."""
        self.tell("saved", step=trainer.step, folder=folder.name)


def toy(folder: Path, tell: Callable[..., None], **settings: Any) -> ParetoTrainer:
    """Three variables, two distances, a network from λ to x."""
    problem = Quadratic([[0.0, 0.0, 1.0], [1.0, -1.0, 0.0]])
    model = ParetoSetModel(2, 3, bounds=problem.bounds, hidden=(8,), seed=1)
    return _trainer(model, problem, ModifiedTchebycheff(), None, folder, tell, {"preferences_per_step": 2, **settings})


def dpo(folder: Path, tell: Callable[..., None], **settings: Any) -> ParetoTrainer:
    """DPO on a Llama with attention dropout, and partly labelled pairs that end within an epoch."""
    generator = torch.Generator().manual_seed(0)

    def draw(count: int) -> list[int]:
        ids: list[int] = torch.randint(3, 40, (count,), generator=generator).tolist()
        return ids

    labels = [[0, 1], [1, -1], [-1, 0], [0, 0], [1, 1], [-1, 1], [0, -1]]
    rows = [
        {"prompt_ids": draw(2 + i % 3), "response_0_ids": draw(3), "response_1_ids": draw(1 + i), "labels": label}
        for i, label in enumerate(labels)
    ]
    options = {"batch_size": 4, "preferences_per_step": 2, **settings}
    return _trainer(_adapted(), DPO(NAMES, beta=0.5), SmoothTchebycheff(), rows, folder, tell, options)


def rlhf(folder: Path, tell: Callable[..., None], **settings: Any) -> ParetoTrainer:
    """PPO with a critic; each rollout serves three steps, so that checkpoints fall in between."""
    rewards = {
        "a": token_reward(lambda prompts, responses: [len(ids) for ids in responses]),
        "b": token_reward(lambda prompts, responses: [sum(token < 20 for token in ids) for ids in responses]),
    }
    objective = RLHF(
        rewards,
        algorithm=PPO(epochs=3),
        samples_per_prompt=2,
        sampling=Sampling(max_new_tokens=3, stop_token_ids=tuple(range(8))),
    )
    rows = [{"prompt_ids": [5 + i, 9, 12 + i]} for i in range(5)]
    options = {"batch_size": 4, "preferences_per_step": 2, **settings}
    return _trainer(_adapted(), objective, SmoothTchebycheff(), rows, folder, tell, options)


TRAINERS: dict[str, Callable[..., ParetoTrainer]] = {"toy": toy, "dpo": dpo, "rlhf": rlhf}


def _adapted() -> PreferenceModel:
    config = LlamaConfig(
        vocab_size=40,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=32,
        initializer_range=0.3,
        attention_dropout=0.2,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        base = LlamaForCausalLM(config).eval()
    return PreferenceModel(base, SVDLoRAConfig(NAMES, rank=2, preference_rank=1))


def _trainer(
    model: nn.Module,
    objective: Any,
    scalarizer: Any,
    rows: Sequence[Any] | None,
    folder: Path,
    tell: Callable[..., None],
    settings: Mapping[str, Any],
) -> ParetoTrainer:
    options = {
        "keep_checkpoints": KEPT,
        "checkpoint_every": EVERY,
        "steps": STEPS,
        "log_every": 3,
        "seed": 5,
        **settings,
    }
    fixed = {"learning_rate": 0.02, "cpu": True, "progress": False}
    config = TrainerConfig(output_dir=folder, **fixed, **options)
    callbacks = (
        Told(tell),
        LogFile(folder / "log.jsonl"),
        HypervolumeCallback(3, [50.0, 50.0], every=3),
        Figures(every=2, reference_point=[50.0, 50.0], best_folder=folder / "best"),
    )
    warnings.simplefilter("ignore")
    folder.mkdir(exist_ok=True)
    return ParetoTrainer(model, objective, scalarizer, VertexBiasedSampler(2), rows, config, callbacks)


def digests(trainer: ParetoTrainer, folder: Path) -> dict[str, str]:
    """Everything that a finished run has come to and left behind, by a digest each, apart from the seconds it took."""
    parts: dict[str, Any] = {
        "step": trainer.step,
        "weights": trainer.unwrapped_model.state_dict(),
        "optimiser": trainer.optimizer.state_dict(),
        "ideal point": trainer.scalarizer.state_dict(),
        "sampler": trainer.sampler.state_dict(),
        "objective": trainer.objective.state_dict(),
        "waiting updates": trainer._pending_updates,
        "order of rows": None if trainer._batches is None else trainer._batches.state_dict(),
        "random generators": random_state(),
        "history": trainer.history,
        "records of callbacks": [getattr(callback, "records", None) for callback in trainer.callbacks],
        # Of several processes the first one writes.
        "log": (folder / "log.jsonl").read_bytes() if trainer.accelerator.is_main_process else b"",
        "files": sorted(str(path.relative_to(folder)) for path in folder.rglob("*")),
        "best model": _contents(folder, "best/*"),
        "tensors of checkpoints": _contents(folder, "*/state.safetensors"),
    }
    return {name: hashlib.sha256(_content(value)).hexdigest()[:16] for name, value in parts.items()}


def _contents(folder: Path, pattern: str) -> dict[str, bytes]:
    paths = sorted(path for path in folder.glob(pattern) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def _content(value: Any) -> bytes:
    """Bytes that are the same only for the same content."""
    if isinstance(value, Tensor):
        value = value.detach().contiguous()
        return f"{value.dtype}{tuple(value.shape)}".encode() + value.view(-1).view(torch.uint8).numpy().tobytes()
    if isinstance(value, Mapping):
        items = [(name, item) for name, item in value.items() if name != "seconds"]
        return b"{" + b",".join(_content(name) + b":" + _content(item) for name, item in items) + b"}"
    if isinstance(value, list | tuple):
        return type(value).__name__.encode() + b"[" + b",".join(map(_content, value)) + b"]"
    return value if isinstance(value, bytes) else f"{type(value).__name__} {_plain(value)}".encode()


def _plain(value: Any) -> str:
    try:
        return json.dumps(value)
    except TypeError:
        return repr(value)

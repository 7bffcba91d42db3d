"""An interrupted and resumed training equals the uninterrupted one bit for bit on the CPU."""

import math
import warnings
from typing import Any, ClassVar

import pytest
import torch
from torch import nn

from mopref import (
    Objective,
    ParetoSetModel,
    ParetoTrainer,
    PreferenceModel,
    SVDLoRAConfig,
    TrainerCallback,
    TrainerConfig,
    VertexBiasedSampler,
)
from mopref.llm.policy import Sampling
from mopref.llm.policy_gradient import GRPO, PPO, PretrainingTerm
from mopref.llm.policy_gradient.experience import Experience
from mopref.llm.rewards import token_reward
from mopref.objectives import DPO, RLHF, Quadratic
from mopref.scalarizers import ModifiedTchebycheff, SmoothTchebycheff, Tchebycheff

STEPS, SAVED, DIED = 9, 4, 6


class Toy(nn.Module):
    def __init__(self, seed: int = 0, width: int = 8) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.body = nn.Sequential(nn.Linear(2, width), nn.Tanh(), nn.Dropout(0.2), nn.Linear(width, 3))
            self.register_buffer("calls", torch.zeros(()))

    def forward(self, preferences: torch.Tensor) -> torch.Tensor:
        self.calls += self.training
        return self.body(preferences)


class NoisyDistances(Objective):
    names = ("left", "right")

    def losses(self, model, batch, preferences):
        targets = torch.tensor([[1.0, 0.0, 0.5], [-1.0, 0.5, 0.0]])
        distances = (model(preferences)[:, None] - targets).square().sum(-1)
        return distances * (1 + batch.reshape(len(preferences), -1).mean(-1, keepdim=True))

    def mean_losses(self, model, data, preferences, batch_size):
        with torch.no_grad():
            return self.losses(model, data.mean().expand(len(preferences)), preferences)


class Die(TrainerCallback):
    """The machine goes down after DIED steps."""

    def on_step_end(self, trainer):
        if trainer.step == DIED:
            raise KeyboardInterrupt("the machine goes down")


class ToyRun:
    """A toy problem with data that end within an epoch, dropout and a tracked ideal point."""

    def __init__(self, request) -> None:
        self.data = torch.linspace(0, 1, 7)

    def model(self, seed: int = 0) -> nn.Module:
        return Toy(seed)

    def trainer(self, model: nn.Module, folder, callbacks=(), **settings) -> ParetoTrainer:
        settings = {"batch_size": 4, "preferences_per_step": 2, "gradient_accumulation_steps": 2} | settings
        return build(model, NoisyDistances(), Tchebycheff(), self.data, folder, callbacks, settings)


class ProblemRun:
    """A synthetic problem with its own λ -> x model: no data, no dropout, a tracked ideal point."""

    def __init__(self, request) -> None:
        self.problem = Quadratic([[0.0, 0.0, 1.0], [1.0, -1.0, 0.0]])

    def model(self, seed: int = 0) -> nn.Module:
        return ParetoSetModel(2, 3, bounds=self.problem.bounds, hidden=(8,), seed=seed)

    def trainer(self, model: nn.Module, folder, callbacks=(), **settings) -> ParetoTrainer:
        return build(model, self.problem, ModifiedTchebycheff(), None, folder, callbacks, settings)


class LlamaRun:
    """DPO on a tiny Llama with attention dropout, partly labelled pairs and a tracked ideal point."""

    def __init__(self, request) -> None:
        self.make_llama = request.getfixturevalue("make_llama")
        self.randomise = request.getfixturevalue("randomise")
        generator = torch.Generator().manual_seed(0)

        def draw(n: int) -> list[int]:
            return torch.randint(3, 100, (n,), generator=generator).tolist()

        labels = [[0, 1], [1, -1], [-1, 0], [0, 0], [1, 1], [-1, 1], [0, -1]]
        self.data = [
            {"prompt_ids": draw(2 + i % 3), "response_0_ids": draw(3), "response_1_ids": draw(1 + i), "labels": label}
            for i, label in enumerate(labels)
        ]

    def model(self, seed: int = 0) -> nn.Module:
        config = SVDLoRAConfig(objectives=("a", "b"), rank=2, preference_rank=1)
        model = PreferenceModel(self.make_llama(attention_dropout=0.2), config)
        return self.randomise(model, seed=seed, std=0.1)

    def trainer(self, model: nn.Module, folder, callbacks=(), **settings) -> ParetoTrainer:
        settings = {"batch_size": 4, "preferences_per_step": 2} | settings
        return build(model, DPO(("a", "b"), beta=0.5), SmoothTchebycheff(), self.data, folder, callbacks, settings)


class RLHFRun(LlamaRun):
    """PPO with a critic and running normalisation, each rollout used for three steps: checkpoints fall in between."""

    algorithm = PPO(epochs=3)
    options: ClassVar[dict[str, Any]] = {
        "pretraining": PretrainingTerm(
            [{"prompt_ids": [5], "response_ids": [6, 7]}, {"prompt_ids": [8], "response_ids": [9]}]
        )
    }

    def __init__(self, request) -> None:
        super().__init__(request)
        self.data = [{"prompt_ids": row["prompt_ids"]} for row in self.data]

    def trainer(self, model: nn.Module, folder, callbacks=(), **settings) -> ParetoTrainer:
        def length(prompt_ids, response_ids):
            return [len(ids) for ids in response_ids]

        def small_tokens(prompt_ids, response_ids):
            return [sum(token < 50 for token in ids) for ids in response_ids]

        settings = {"batch_size": 4, "preferences_per_step": 2} | settings
        objective = RLHF(
            {"a": token_reward(length), "b": token_reward(small_tokens)},
            algorithm=self.algorithm,
            samples_per_prompt=2,
            sampling=Sampling(max_new_tokens=3, stop_token_ids=tuple(range(20))),
            **self.options,
        )
        return build(model, objective, SmoothTchebycheff(), self.data, folder, callbacks, settings)


class MinibatchRun(RLHFRun):
    """PPO in two epochs of two minibatches, on kept activations: three parts of a rollout may wait."""

    algorithm = PPO(epochs=2, minibatches=2)
    options: ClassVar[dict[str, Any]] = {"frozen_layers": True}

    def model(self, seed: int = 0) -> nn.Module:
        config = SVDLoRAConfig(objectives=("a", "b"), rank=2, preference_rank=1, layers=(-1,))
        return self.randomise(PreferenceModel(self.make_llama(), config), seed=seed, std=0.1)


class GroupRun(RLHFRun):
    """GRPO in two epochs of two minibatches, two forwards a step: neither critic nor kept activations nor KL."""

    algorithm = GRPO(epochs=2, minibatches=2)
    options: ClassVar[dict[str, Any]] = {"beta": 0.0, "normalization": "group"}

    def trainer(self, model: nn.Module, folder, callbacks=(), **settings) -> ParetoTrainer:
        return super().trainer(model, folder, callbacks, **{"gradient_accumulation_steps": 2, **settings})


def build(model, objective, scalarizer, data, folder, callbacks, settings) -> ParetoTrainer:
    settings = {
        "steps": STEPS,
        "learning_rate": 0.01,
        "log_every": 1,
        "checkpoint_every": SAVED,
        "output_dir": folder,
        "seed": 5,
        "progress": False,
    } | settings
    sampler = VertexBiasedSampler(2)
    return ParetoTrainer(model, objective, scalarizer, sampler, data, TrainerConfig(**settings), callbacks)


RUNS = {
    "toy": ToyRun,
    "problem": ProblemRun,
    "llama-dpo": LlamaRun,
    "llama-rlhf": RLHFRun,
    "rlhf-minibatches": MinibatchRun,
    "rlhf-groups": GroupRun,
}


@pytest.fixture(params=RUNS)
def run(request):
    return RUNS[request.param](request)


def state(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def assert_equal(actual: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert actual.keys() == expected.keys()
    for name in expected:
        assert torch.equal(actual[name], expected[name]), name


def test_resumed_equals_uninterrupted(run, tmp_path):
    """The resumed process starts from other weights and other global generators: all must come from the folder."""
    torch.manual_seed(1)
    uninterrupted = run.model()
    start = state(uninterrupted)
    reference = run.trainer(uninterrupted, tmp_path / "whole")
    reference.train()

    torch.manual_seed(2)
    with pytest.raises(KeyboardInterrupt, match="the machine goes down"):
        run.trainer(run.model(), tmp_path / "broken", [Die()]).train()

    torch.manual_seed(3)
    model = run.model(seed=8)
    trainer = run.trainer(model, tmp_path / "broken")
    history = trainer.train(resume_from=tmp_path / "broken" / f"checkpoint-{SAVED}")
    assert_equal(state(model), state(uninterrupted))
    assert any(not torch.equal(start[name], tensor) for name, tensor in state(uninterrupted).items())
    assert trainer.step == STEPS
    assert [entry for entry in history if entry["step"] > SAVED] == reference.history[SAVED:]
    assert torch.equal(trainer.scalarizer.ideal_point, reference.scalarizer.ideal_point)
    preferences = [[1.0, 0.0], [0.4, 0.6]]
    assert (trainer.front(preferences).values == reference.front(preferences).values).all()


def test_every_checkpoint_resumes(run, tmp_path):
    """Also the one of a resumed run, and at another place in the epoch."""
    uninterrupted = run.model()
    run.trainer(uninterrupted, tmp_path / "whole", checkpoint_every=1).train()
    for saved in (1, 3, STEPS - 1):
        model = run.model(seed=8)
        trainer = run.trainer(model, tmp_path / str(saved), checkpoint_every=1)
        trainer.train(resume_from=tmp_path / "whole" / f"checkpoint-{saved}")
        assert_equal(state(model), state(uninterrupted))
    again = run.model(seed=9)
    run.trainer(again, tmp_path / "again", checkpoint_every=1).train(resume_from=tmp_path / "1" / "checkpoint-5")
    assert_equal(state(again), state(uninterrupted))


@pytest.mark.parametrize("kind", [RLHFRun, MinibatchRun, GroupRun])
def test_what_waits_in_a_checkpoint_comes_back_as_it_was(kind, request, tmp_path):
    """Experiences: every tensor of them bit for bit, and what was not there is not there again."""
    run = kind(request)
    writer = run.trainer(run.model(), tmp_path, steps=1, checkpoint_every=1)
    writer.train()
    reader = run.trainer(run.model(seed=8), tmp_path / "resumed", steps=1)
    reader.train(resume_from=tmp_path / "checkpoint-1")
    assert len(reader._pending_updates) == len(writer._pending_updates)
    for before, after in zip(writer._pending_updates, reader._pending_updates, strict=True):
        assert len(before) == len(after) == writer.objective.algorithm.updates - 1 > 0
        for update, same in zip(before, after, strict=True):
            assert type(update) is type(same)
            assert type(same.batch) is Experience
            assert_same_records(update.batch, same.batch)
            assert torch.equal(update.preferences, same.preferences)


def assert_same_records(record: Any, other: Any) -> None:
    """Named tuples of one type, with the same tensors of the same types."""
    assert type(record) is type(other)
    for part, same in zip(record, other, strict=True):
        if isinstance(part, torch.Tensor):
            assert part.dtype == same.dtype
            assert torch.equal(part, same)
        elif part is None:
            assert same is None
        else:
            assert_same_records(part, same)


def test_history_is_complete_when_a_checkpoint_falls_between_two_entries(run, tmp_path):
    """An entry is a mean over its interval: the steps before the interruption belong to it as well."""
    reference = run.trainer(run.model(), tmp_path, log_every=3).train()
    trainer = run.trainer(run.model(seed=8), tmp_path / "resumed", log_every=3)
    assert trainer.train(resume_from=tmp_path / f"checkpoint-{SAVED}") == reference


def test_checkpointing_does_not_change_the_training(run, tmp_path):
    models = [run.model(), run.model()]
    run.trainer(models[0], tmp_path / "one", checkpoint_every=1).train()
    run.trainer(models[1], tmp_path / "none", checkpoint_every=None).train()
    assert_equal(state(models[0]), state(models[1]))


def test_same_seed_twice_is_identical(run, tmp_path):
    results = []
    for noise in (0, 17):
        torch.manual_seed(noise)
        model = run.model()
        results.append((run.trainer(model, tmp_path / str(noise)).train(), state(model)))
    assert results[0][0] == results[1][0]
    assert_equal(results[1][1], results[0][1])
    other = run.model()
    assert run.trainer(other, tmp_path / "other", seed=6).train() != results[0][0]


def test_checkpoints_hold_no_pickle(run, tmp_path):
    run.trainer(run.model(), tmp_path).train()
    files = [path for path in (tmp_path / f"checkpoint-{SAVED}").rglob("*") if path.is_file()]
    assert files
    assert {path.suffix for path in files} <= {".json", ".safetensors"}
    assert all(b"ctorch" not in path.read_bytes()[:2000] for path in files)


def test_checkpoints_of_an_adapter_leave_the_base_out(request, tmp_path):
    run = LlamaRun(request)
    model = run.model()
    run.trainer(model, tmp_path).train()
    size = sum(path.stat().st_size for path in (tmp_path / f"checkpoint-{SAVED}").rglob("*"))
    adapter = sum(p.numel() for p in model.parameters() if p.requires_grad) * 4
    base = sum(p.numel() for p in model.parameters() if not p.requires_grad) * 4
    assert adapter * 3 < size < adapter * 3 + base / 2


def test_a_file_of_the_users_beside_a_checkpoint_is_let_be(tmp_path):
    run = ToyRun(None)
    run.trainer(run.model(), tmp_path).train()
    notes = tmp_path / f"checkpoint-{SAVED}" / "notes.md"
    notes.write_text("mine")
    # From a later one, or from this very one, whose folder is not written again.
    for source in ("latest", notes.parent):
        run.trainer(run.model(), tmp_path).train(resume_from=source)
        assert notes.read_text() == "mine"
    later = sorted(tmp_path.glob("checkpoint-*"), key=lambda path: int(path.name.partition("-")[2]))[-1]
    assert later != notes.parent
    (later / "more.md").write_text("mine")
    trainer = run.trainer(run.model(), tmp_path)
    before = state(trainer.unwrapped_model)
    with pytest.raises(FileExistsError, match=rf"{later.name} holds something other than a checkpoint \('more.md'\)"):
        trainer.train(resume_from=notes.parent)
    assert_equal(state(trainer.unwrapped_model), before)


def test_what_is_no_checkpoint_of_this_run_is_refused(tmp_path):
    run = ToyRun(None)
    run.trainer(run.model(), tmp_path).train()
    folder = tmp_path / f"checkpoint-{SAVED}"
    with pytest.raises(FileNotFoundError, match=r"there is no .*no-such-checkpoint: give the folder"):
        run.trainer(run.model(), tmp_path).train(resume_from=tmp_path / "no-such-checkpoint")
    model = Toy(width=9)
    before = state(model)
    with pytest.raises(ValueError, match=rf"checkpoint-{SAVED} belongs to another model: 'body.0.bias' has shape"):
        run.trainer(model, tmp_path).train(resume_from=folder)
    assert_equal(state(model), before)


@pytest.mark.parametrize(
    "other",
    [{"batch_size": 6}, {"gradient_accumulation_steps": 1}, {"seed": 6}, {"rows": 5}, {"rows": 9}],
    ids=str,
)
def test_a_checkpoint_of_other_settings_or_data_is_refused(other, tmp_path):
    """Going on with other batches or other rows would be neither the old run nor a new one."""
    run = ToyRun(None)
    run.trainer(run.model(), tmp_path).train()
    settings = dict(other)
    ((name, value),) = settings.items()
    if "rows" in settings:
        run.data = torch.linspace(0, 1, settings.pop("rows"))
    with pytest.raises(ValueError, match=rf"was trained with {name} = \d+, not {value}: resume with the same setting"):
        run.trainer(run.model(), tmp_path / "other", **settings).train(resume_from=tmp_path / f"checkpoint-{SAVED}")


def test_a_broken_run_leaves_a_finite_checkpoint(tmp_path):
    """The checkpoint before a loss that is not finite can be resumed."""
    run = ToyRun(None)

    class Breaking(NoisyDistances):
        broken = True

        def losses(self, model, batch, preferences):
            losses = super().losses(model, batch, preferences)
            return losses * math.nan if self.broken and model.calls > 2 * (DIED - 1) else losses

    trainer = run.trainer(run.model(), tmp_path)
    trainer.objective = Breaking()
    with pytest.raises(FloatingPointError, match="the loss 'left' is nan at step"):
        trainer.train()
    model = run.model(seed=3)
    run.trainer(model, tmp_path).train(resume_from=tmp_path / f"checkpoint-{SAVED}")
    uninterrupted = run.model()
    run.trainer(uninterrupted, tmp_path / "whole").train()
    assert_equal(state(model), state(uninterrupted))


def test_a_longer_run_goes_on_at_another_learning_rate_and_says_so(tmp_path):
    def trainer(steps: int, **settings) -> ParetoTrainer:
        problem = Quadratic([[0.0, 0.0], [1.0, 1.0]])
        config = TrainerConfig(steps=steps, output_dir=tmp_path, log_every=1, progress=False, cpu=True, **settings)
        return ParetoTrainer(ParetoSetModel.for_problem(problem), problem, "linear", config=config)

    last = trainer(20, checkpoint_every=10).train()[-1]["learning_rate"]
    with pytest.warns(
        UserWarning, match="had the learning rate 6.82e-06 in its last step, where 'cosine' over steps = 40"
    ):
        history = trainer(40).train(resume_from=tmp_path / "checkpoint-20")
    assert history[20]["learning_rate"] > 50 * last
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trainer(20).train(resume_from=tmp_path / "checkpoint-10")

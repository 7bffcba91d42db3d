"""A trainer's precision is its config's: in training, in its fronts, and nowhere else."""

import math
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch import nn

from mopref import ParetoSetModel, ParetoTrainer, PreferenceModel, SVDLoRAConfig, TrainerCallback, TrainerConfig
from mopref.llm.data.sequences import collate_sequences
from mopref.llm.evaluation import preference_front
from mopref.llm.policy import Policy, forward_traits as traits_module
from mopref.llm.policy.forward_traits import ForwardTraits
from mopref.objectives import DPO, SFT, Quadratic
from mopref.scalarizers import Linear

NAMES = ("a", "b")


@pytest.fixture
def rows(make_pairs) -> list[dict]:
    return make_pairs([[0, 0], [0, 1], [1, 0], [1, 1]])


@pytest.fixture
def make_model(make_llama):
    """Factory of models whose logits differ visibly between precisions; adapters on the upper block."""

    def make(**options) -> PreferenceModel:
        base = make_llama()
        with torch.no_grad():
            for parameter in base.parameters():
                parameter.mul_(3 if parameter.ndim > 1 else 1)
        return PreferenceModel(base, SVDLoRAConfig(objectives=NAMES, **options))

    return make


def trainer_of(model, objective, rows, mixed_precision=None, **settings) -> ParetoTrainer:
    settings = {"steps": 1, "batch_size": 4, "preferences_per_step": 1, "progress": False, "cpu": True} | settings
    config = TrainerConfig(mixed_precision=mixed_precision, **settings)
    return ParetoTrainer(model, objective, Linear(), train_data=rows, config=config)


@pytest.mark.parametrize("mixed_precision", [None, "no", "bf16"])
@pytest.mark.parametrize(("precomputes", "frozen_layers"), [(False, False), (True, False), (True, True)])
def test_an_untrained_adapter_has_the_loss_log_2(make_model, rows, mixed_precision, precomputes, frozen_layers):
    model, dpo = make_model(layers=[1]), DPO(NAMES)
    if precomputes:
        rows = dpo.precompute(model, rows, frozen_layers=frozen_layers, mixed_precision=mixed_precision)
    history = trainer_of(model, dpo, rows, mixed_precision).train()
    assert history[0]["loss/a"] == pytest.approx(math.log(2), abs=1e-5)


@pytest.mark.parametrize(("before", "now"), [(None, "bf16"), ("bf16", None), ("bf16", "no")])
def test_a_reference_of_another_precision_is_refused_when_the_trainer_is_made(make_model, rows, before, now):
    model, dpo = make_model(), DPO(NAMES)
    rows[1:] = dpo.precompute(model, rows[1:], mixed_precision=before)
    rows[0] |= {"reference_log_probabilities": [0.0, 0.0], "reference_precision": now or "float32"}
    with pytest.raises(ValueError, match=r"row \d has a reference that was computed in .*, but the model runs in"):
        trainer_of(model, dpo, rows, now)


def test_a_reference_of_a_model_in_another_type_is_refused(make_model, rows):
    model, dpo = make_model(), DPO(NAMES)
    rows = dpo.precompute(model, rows)
    with pytest.raises(ValueError, match="computed in float32, but the model runs in bfloat16"):
        trainer_of(model.bfloat16(), dpo, rows)


def test_a_reference_that_does_not_say_its_precision(make_model, rows):
    """Of an earlier version: right for a training in the model's own precision."""
    model, dpo = make_model(), DPO(NAMES)
    rows = [{k: v for k, v in row.items() if k != "reference_precision"} for row in dpo.precompute(model, rows)]
    trainer_of(model, dpo, rows)
    with pytest.raises(ValueError, match="computed in no mixed precision, but the model runs in bf16"):
        trainer_of(model, dpo, rows, "bf16")


@pytest.mark.parametrize(("before", "now"), [(None, "bf16"), ("bf16", None)])
def test_kept_activations_of_another_precision_are_refused(make_model, before, now):
    rows = [{"prompt_ids": [4, 5], "response_ids": [6, 7 + i], "dimensions": [True, True]} for i in range(4)]
    model, sft = make_model(layers=[1]), SFT(NAMES)
    kept = sft.precompute(model, rows, mixed_precision=before)
    with pytest.raises(ValueError, match=r"row 0 has a hidden_states that was computed in .*, but the model runs in"):
        trainer_of(model, sft, kept, now)
    history = trainer_of(model, sft, kept, before).train()
    assert history == trainer_of(make_model(layers=[1]), sft, rows, before).train()


@pytest.mark.parametrize("order", [("bf16", None), (None, "bf16"), ("bf16", "no"), ("bf16", "bf16")], ids=str)
def test_the_precision_of_an_earlier_trainer_of_the_same_model_does_not_stay(make_model, rows, order):
    """Each of two trainers on one model begins with the loss that a trainer on a fresh model has."""
    dpo = SFT(NAMES)
    rows = [{"prompt_ids": [4, 5], "response_ids": [6, 7 + i], "dimensions": [True, True]} for i in range(4)]
    model = make_model()
    trainers = [trainer_of(model, dpo, rows, precision, learning_rate=1e-12) for precision in order]
    for trainer, precision in (*zip(trainers, order, strict=True),):
        alone = trainer_of(make_model(), dpo, rows, precision, learning_rate=1e-12)
        assert trainer.front(3).values.tolist() == alone.front(3).values.tolist()
        assert trainer.train()[0]["loss/a"] == alone.train()[0]["loss/a"]
        assert "forward" not in vars(model)


class Products(nn.Module):
    """λ -> x by one product, which autocast rounds."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2, bias=False)
        with torch.no_grad():
            self.layer.weight.copy_(torch.tensor([[0.123456, 0.254321], [0.177777, 0.111111]]))

    def forward(self, preferences):
        return self.layer(preferences)


@pytest.mark.parametrize(("mixed_precision", "name"), [(None, "float32"), ("no", "float32"), ("bf16", "bf16")])
def test_a_front_is_measured_in_the_runs_precision_and_says_it(mixed_precision, name):
    problem, model = Quadratic([[0.0, 0.0], [1.0, 0.0]]), Products()
    seen = []

    class Look(TrainerCallback):
        def on_step_end(self, trainer):
            seen.append(trainer.front([[0.3, 0.7]]).values.tolist())

    config = TrainerConfig(
        steps=1, preferences_per_step=2, mixed_precision=mixed_precision, learning_rate=1e-12, progress=False, cpu=True
    )
    trainer = ParetoTrainer(model, problem, Linear(), config=config, callbacks=[Look()])
    fronts = [trainer.front([[0.3, 0.7]])]
    trainer.train()
    fronts.append(trainer.front([[0.3, 0.7]]))
    dtype = torch.bfloat16 if name == "bf16" else torch.float32
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=name == "bf16"):
        x = model(torch.tensor([[0.3, 0.7]]))
        expected = problem.evaluate(x.float()).tolist()
    assert x.dtype == dtype
    for front in fronts:
        np.testing.assert_allclose(front.values, expected, rtol=1e-6)
        assert front.metadata["precision"] == name
    np.testing.assert_allclose(seen[0], expected, rtol=1e-6)


class Broken(Quadratic):
    """Fails in every forward."""

    def losses(self, model, batch, preferences):
        raise KeyError("no such column")


@pytest.mark.parametrize("at_work", ["train", "front"])
def test_an_error_leaves_no_mixed_precision_behind(at_work):
    config = TrainerConfig(steps=1, mixed_precision="bf16", progress=False, cpu=True)
    trainer = ParetoTrainer(Products(), Broken([[0.0, 0.0], [1.0, 0.0]]), Linear(), config=config)
    with pytest.raises(KeyError, match="no such column"):
        trainer.train() if at_work == "train" else trainer.front(3)
    assert not torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize("mixed_precision", [None, "bf16"])
def test_a_precision_around_the_training_does_not_count(mixed_precision):
    """What the config says is what runs, and every step sees the weights that the last one left."""
    results = []
    for around in (None, False, True):
        config = TrainerConfig(
            steps=3, mixed_precision=mixed_precision, learning_rate=0.1, log_every=1, progress=False, cpu=True
        )
        trainer = ParetoTrainer(Products(), Quadratic([[0.0, 0.0], [1.0, 0.0]]), Linear(), config=config)
        with nullcontext() if around is None else torch.autocast("cpu", dtype=torch.bfloat16, enabled=around):
            results.append((trainer.train(), trainer.front(3).values.tolist()))
            assert around is None or torch.is_autocast_enabled("cpu") is around
    assert results[0] == results[1] == results[2]


class Looked(Quadratic):
    """Evaluates the model before it is trained, as a reference or a mismatched answer is."""

    def losses(self, model, batch, preferences):
        with torch.no_grad():
            model(preferences)
        return super().losses(model, batch, preferences)


def test_a_forward_without_gradients_before_the_other_leaves_it_its_gradients():
    histories = []
    for kind in (Quadratic, Looked):
        config = TrainerConfig(steps=2, mixed_precision="bf16", log_every=1, progress=False, cpu=True)
        trainer = ParetoTrainer(Products(), kind([[0.0, 0.0], [1.0, 0.0]]), Linear(), config=config)
        histories.append(trainer.train())
    assert histories[0] == histories[1]
    assert histories[0][0]["gradient_norm"] > 0


def test_a_front_refuses_data_with_references_of_another_precision(make_model, rows):
    model, dpo = make_model(), DPO(NAMES)
    trainer = trainer_of(model, dpo, rows, "bf16")
    with pytest.raises(ValueError, match="computed in float32, but the model runs in bf16"):
        trainer.front(3, data=dpo.precompute(model, rows))
    values = trainer.front(3, data=dpo.precompute(model, rows, mixed_precision="bf16")).values
    np.testing.assert_allclose(values, math.log(2), atol=1e-5)


@pytest.mark.parametrize("mixed_precision", [None, "bf16"])
def test_after_a_training_a_held_out_front_is_in_the_references_precision(make_model, rows, mixed_precision):
    """The untrained loss is log 2, and nothing of the training's own precision is left in the model."""
    model, dpo = make_model(), DPO(NAMES)
    trainer_of(model, dpo, rows, "bf16", learning_rate=1e-12).train()
    front = preference_front(model, dpo, dpo.precompute(model, rows, mixed_precision=mixed_precision), torch.eye(2))
    np.testing.assert_allclose(front.values, math.log(2), atol=1e-5)
    assert front.metadata["precision"] == (mixed_precision or "float32")


def test_half_precision_that_a_cpu_has_not_is_refused():
    problem = Quadratic([[0.0, 0.0], [1.0, 0.0]])
    with pytest.raises(ValueError, match="mixed_precision is 'fp16', which needs a GPU"):
        ParetoTrainer(
            ParetoSetModel.for_problem(problem),
            problem,
            Linear(),
            config=TrainerConfig(mixed_precision="fp16", cpu=True),
        )


LONGER = [
    {"prompt_ids": [4 + i, 9, 5], "response_0_ids": list(range(6, 10 + i)), "response_1_ids": [7, 30 + i], "labels": y}
    for i, y in enumerate([[0, 1], [1, 0], [0, 0], [1, 1]])
]


@pytest.mark.parametrize("packs", [True, False], ids=["packed", "padded"])
@pytest.mark.parametrize("kind", [DPO, SFT])
def test_losses_in_bf16_are_within_a_hundredth_of_those_in_float32(make_llama, kind, packs, monkeypatch):
    """Over eight steps, of a base in bfloat16 and of mixed precision; docs/performance.md states the bound."""

    def losses(dtype, mixed_precision) -> np.ndarray:
        model = PreferenceModel(make_llama(std=0.06), SVDLoRAConfig(objectives=NAMES, rank=4))
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for layer in model.adapters.values():
                layer.U.normal_(0, 0.1, generator=generator)
        model.base_model.to(dtype)
        if not packs:
            monkeypatch.setitem(traits_module._traits, model, ForwardTraits(None, packs=False))
        rows = LONGER
        if kind is SFT:
            rows = [{**row, "response_ids": row["response_0_ids"], "dimensions": [True, True]} for row in LONGER]
        settings = {"steps": 8, "learning_rate": 1e-3, "log_every": 1}
        history = trainer_of(model, kind(NAMES), rows, mixed_precision, **settings).train()
        values = Policy(model).token_log_probabilities(collate_sequences([[4, 9]], [[5, 6]]), [[0.5, 0.5]])
        assert values.dtype == torch.float32, "sums of log-probabilities are in float32"
        return np.array([[record[f"loss/{name}"] for name in NAMES] for record in history])

    exact = losses(torch.float32, None)
    for dtype, mixed_precision in ((torch.bfloat16, None), (torch.float32, "bf16")):
        found = losses(dtype, mixed_precision)
        np.testing.assert_allclose(found, exact, rtol=1e-2)
        assert not np.array_equal(found, exact)

"""RLHF on rollouts that a server samples: the same gradient, weights where the two differ, resuming, and refusals."""

import math

import pytest
import torch
from _fake_vllm import fake_vllm
from _processes import launch, results
from rlhf_inputs import PREFERENCES, ROWS, SAMPLING, gradients, make_rlhf, updates_of

from mopref import ParetoTrainer, PreferenceModel, SVDLoRAConfig, TrainerConfig
from mopref.llm.engines import VLLM
from mopref.llm.policy import Policy
from mopref.scalarizers import Linear


@pytest.fixture
def server(make_llama):
    with fake_vllm(make_llama()) as running:
        yield running


@pytest.fixture
def engine(server, tmp_path) -> VLLM:
    return VLLM(server.url, tmp_path / "shelf", timeout=60, tolerance=5.0)


def make_trainer(model, engine, folder=None, **options) -> ParetoTrainer:
    options = {"steps": 3, "batch_size": 4, "preferences_per_step": 2, "log_every": 1, "learning_rate": 1e-2, **options}
    if folder is not None:
        options |= {"output_dir": str(folder), "checkpoint_every": 1}
    config = TrainerConfig(**options, cpu=True, progress=False)
    return ParetoTrainer(model, make_rlhf(engine=engine), Linear(), train_data=ROWS, config=config)


def parameters_of(model) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in model.parameters() if parameter.requires_grad]


# The step.


@pytest.mark.parametrize("algorithm", ["rloo", "grpo", "ppo"])
def test_samples_of_the_same_distribution_are_weighted_by_1(model, engine, algorithm):
    rlhf = make_rlhf(engine=engine, algorithm=algorithm)
    rlhf.prepare_model(model)
    update = updates_of(rlhf, model)[0]
    assert update.metrics["engine/difference"].value < 1e-4
    assert update.metrics["engine/truncated"].value == 0
    rollout = update.batch.rollout
    assert update.metrics["engine/difference"].weight == rollout.sequences.response_mask.sum()
    weights = rollout.importance_weights(2.0)
    torch.testing.assert_close(weights, torch.ones_like(weights), atol=1e-4, rtol=0)
    own = Policy(model, SAMPLING).token_log_probabilities(rollout.sequences, PREFERENCES.repeat_interleave(6, dim=0))
    torch.testing.assert_close(rollout.log_probabilities, own, atol=1e-5, rtol=1e-5)
    assert (rollout.values is None) == (algorithm != "ppo")


@pytest.mark.parametrize(
    ("shift", "weight", "truncated"), [(-0.1, math.exp(0.1), 0.0), (-1.0, 2.0, 1.0), (0.0, 1.0, 0.0)]
)
def test_the_gradient_is_weighted_by_the_truncated_ratio(model, server, engine, shift, weight, truncated):
    """A server that says its tokens were less likely by e^shift than they are."""
    plain = updates_of(make_rlhf(engine=engine), model)[0].batch
    server.shift = shift
    rlhf = make_rlhf(engine=engine)
    (update,) = updates_of(rlhf, model)
    assert torch.equal(update.batch.rollout.sequences.input_ids, plain.rollout.sequences.input_ids)
    assert update.metrics["engine/difference"].value == pytest.approx(abs(shift), abs=1e-4)
    assert update.metrics["engine/truncated"].value == truncated
    mask = plain.rollout.sequences.response_mask
    torch.testing.assert_close(update.batch.advantages[mask], weight * plain.advantages[mask], rtol=1e-4, atol=1e-5)
    assert torch.equal(update.batch.estimates, plain.estimates)
    own = gradients(model, rlhf.losses(model, update.batch, PREFERENCES), PREFERENCES)
    of_plain = gradients(model, rlhf.losses(model, plain, PREFERENCES), PREFERENCES)
    assert of_plain.norm() > 0.1
    assert (own - weight * of_plain).norm() < 1e-4 * of_plain.norm()


def test_a_rollout_that_differs_too_much_is_refused(model, server, tmp_path):
    server.shift = -1.0
    with pytest.raises(ValueError, match="differ from the trainer's by 1 nats"):
        updates_of(make_rlhf(engine=VLLM(server.url, tmp_path)), model)


def test_frozen_layers_go_with_an_engine(make_llama, randomise, engine):
    config = SVDLoRAConfig(objectives=("length", "even"), rank=2, preference_rank=2, layers=[1])
    model = randomise(PreferenceModel(make_llama(), config), std=0.15)
    (update,) = updates_of(make_rlhf(engine=engine, frozen_layers=True), model)
    assert update.batch.rollout.sequences.lower_hidden_states is not None
    assert update.metrics["engine/difference"].value < 1e-4


def test_evaluations_ask_no_server(model, server, engine):
    make_rlhf(engine=engine).mean_losses(model, ROWS, PREFERENCES, 4)
    assert not server.asked


def test_its_repr_names_the_server_and_without_one_there_is_no_such_option(server, engine):
    assert server.url in repr(make_rlhf(engine=engine))
    assert "engine" not in make_rlhf().options()


# A training.


def test_training_logs_the_difference_and_learns_each_step_anew(model, server, engine):
    trainer = make_trainer(model, engine)
    before = parameters_of(model)
    entries = trainer.train()
    assert all(entry["engine/difference"] < 1e-4 for entry in entries), "no stale LoRA was asked"
    assert any(not torch.equal(*pair) for pair in zip(before, parameters_of(model), strict=True))
    assert not server.loaded


def test_a_resumed_training_asks_for_the_same_samples_at_another_address(make_llama, randomise, tmp_path):
    ends = []
    for name, stop in (("through", None), ("resumed", 2)):
        for steps in (3,) if stop is None else (stop, 3):
            with fake_vllm(make_llama()) as running:
                config = SVDLoRAConfig(objectives=("length", "even"), rank=2, preference_rank=2)
                model = randomise(PreferenceModel(make_llama(), config), std=0.15)
                trainer = make_trainer(model, VLLM(running.url, tmp_path / "shelf"), tmp_path / name, steps=steps)
                trainer.train(resume_from="latest")
        ends.append(parameters_of(model))
    assert all(torch.equal(*pair) for pair in zip(*ends, strict=True))


def test_a_server_that_does_not_go_with_the_model_is_refused_when_the_trainer_is_made(model, server, engine):
    server.most_rank = 1
    with pytest.raises(ValueError, match="--max-lora-rank"):
        make_trainer(model, engine)


def test_a_server_that_goes_leaves_no_half_step(model, make_llama, server, engine):
    trainer = make_trainer(model, engine)
    calls, keep = [], server.complete

    def fail(form):
        calls.append(form)
        if len(calls) > 6:
            server.answer = {"choices": []}
        return keep(form)

    server.complete = fail
    with pytest.raises(ValueError, match="choices"):
        trainer.train()
    assert trainer.step == 1
    after = parameters_of(model)
    assert not server.loaded
    server.complete, server.answer = keep, None
    trainer.train()
    assert trainer.step == 3
    assert any(not torch.equal(*pair) for pair in zip(after, parameters_of(model), strict=True))


_SCRIPT = """
import sys
from pathlib import Path

from _fake_vllm import fake_vllm
from _processes import NAMES, adapted, drawn, leave, tiny_llama

import torch
from mopref import ParetoTrainer, TrainerConfig
from mopref._agreement import gathered_objects, join_processes
from mopref.llm.engines import VLLM
from mopref.llm.policy import Sampling
from mopref.llm.rewards import token_reward
from mopref.objectives import RLHF
from mopref.scalarizers import Linear

@token_reward
def length(prompt_ids, response_ids):
    return [float(len(ids)) for ids in response_ids]

join_processes()
first = torch.distributed.get_rank() == 0
with fake_vllm(tiny_llama()) as running:
    url = gathered_objects(running.url)[0]
    generator = torch.Generator().manual_seed(0)
    rows = [{"prompt_ids": drawn(generator, 3)} for _ in range(8)]
    engine = VLLM(url, Path(sys.argv[1], "shelf"))
    sampling = Sampling(3, stop_token_ids=(4,))
    rlhf = RLHF(dict.fromkeys(NAMES, length), sampling=sampling, samples_per_prompt=2, engine=engine)
    config = TrainerConfig(steps=2, batch_size=4, preferences_per_step=2, log_every=1, cpu=True, progress=False)
    trainer = ParetoTrainer(adapted(tiny_llama()), rlhf, Linear(), train_data=rows, config=config)
    entries = trainer.train()
    trainer.accelerator.wait_for_everyone()
    loads = [form["lora_name"] for path, form in running.asked if "/load" in path]
    prompts = sum(path == "/v1/completions" for path, _ in running.asked)
    values = torch.cat([p.detach().flatten() for p in trainer.unwrapped_model.parameters() if p.requires_grad])
    differences = [entry["engine/difference"] for entry in entries]
    leave(sys.argv[1], trainer.accelerator.process_index, [loads, prompts, values.tolist(), differences])
"""


@pytest.mark.slow
def test_each_process_loads_its_own_preferences_and_sends_its_own_rows(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(_SCRIPT)
    launch(script, 2, tmp_path)
    (loads, prompts, values, differences), (none, _, others, _) = results(tmp_path, 2)
    # Both ask the first server: a LoRA each when the trainer is made, and one of the two preferences of each step.
    assert len(loads) == len(set(loads)) == 2 * (1 + 2)
    assert prompts == 2 * (4 + 2 * 4)
    assert none == []
    assert values == others
    assert max(differences) < 1e-4
    assert not list((tmp_path / "shelf").iterdir())

"""Warnings of a run: each is provoked, said once, silent on ordinary runs, and no part of the training."""

import math
import warnings
from contextlib import nullcontext

import pytest
import torch
from torch import nn

from mopref import Objective, ParetoSetModel, ParetoTrainer, PreferenceModel, SVDLoRAConfig, TrainerConfig
from mopref.llm.policy import Sampling
from mopref.llm.rewards import token_reward
from mopref.objective import Update
from mopref.objectives import DPO, RLHF, ZDT1, ZDT2, Quadratic
from mopref.scalarizers import Linear, Tchebycheff
from mopref.training.run_warnings import RunWarnings

COLLAPSE = "steps every preference gives the same model"


class Flat(nn.Module):
    """Ignores the preference."""

    def __init__(self) -> None:
        super().__init__()
        self.x = nn.Parameter(torch.full((3,), 0.5))

    def forward(self, preferences):
        return self.x.expand(len(preferences), -1)


class Distances(Objective):
    """‖x ± .2‖² and an offset; the second one may be constant."""

    names = ("left", "right")

    def __init__(self, constant: float | None = None, offset: float = 0.0) -> None:
        self.constant, self.offset, self.calls = constant, offset, 0

    def losses(self, model, batch, preferences):
        self.calls += 1
        x = model(preferences)
        left, right = (x - 0.2).square().mean(dim=1), (x + 0.2).square().mean(dim=1)
        right = right if self.constant is None else torch.full_like(right, self.constant)
        return torch.stack([left, right], dim=1) + self.offset

    def state_dict(self):
        return {"calls": self.calls}

    def load_state_dict(self, state):
        self.calls = state["calls"]


def told(trainer: ParetoTrainer) -> list[str]:
    """What a training warns of."""
    with warnings.catch_warnings(record=True) as records:
        warnings.simplefilter("always")
        trainer.train()
    return [str(record.message) for record in records]


def toy(model=None, objective=None, scalarizer=None, steps=200, **settings) -> ParetoTrainer:
    objective = Distances() if objective is None else objective
    model = ParetoSetModel(2, 3, hidden=(8,)) if model is None else model
    settings = {"preferences_per_step": 8, "progress": False, "cpu": True, "learning_rate": 1e-2} | settings
    return ParetoTrainer(model, objective, scalarizer or Linear(), config=TrainerConfig(steps=steps, **settings))


# A front that has collapsed.


def test_a_model_that_ignores_its_preference_is_told_once():
    messages = told(toy(Flat(), steps=400))
    assert len(messages) == 1
    assert messages[0].startswith(f"after 100 {COLLAPSE}: at the corners of λ")
    assert "is_collapsed()" in messages[0]


def test_also_where_losses_are_large_and_nearly_equal():
    """Only what moves counts: a difference of .1 beside a loss of 1,000 is a front."""
    assert not told(toy(objective=Distances(offset=1000.0)))
    assert COLLAPSE in told(toy(Flat(), Distances(offset=1000.0)))[0]


@pytest.mark.parametrize("steps", [99, 60])
def test_nothing_is_said_of_short_runs(steps):
    assert not told(toy(Flat(), steps=steps))


@pytest.mark.parametrize(
    ("problem", "scalarizer"),
    [
        (ZDT1(4), Linear()),
        (ZDT2(4), Tchebycheff()),
        (ZDT2(4), Linear()),
        (Quadratic(torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.5, -0.5]])), Tchebycheff()),
    ],
    ids=["zdt1", "zdt2", "zdt2 corners", "quadratic"],
)
@pytest.mark.parametrize("log_every", [1, 10])
def test_nothing_is_said_of_ordinary_runs(problem, scalarizer, log_every):
    model = ParetoSetModel.for_problem(problem)
    assert not told(toy(model, problem, scalarizer, log_every=log_every))


def test_nothing_is_said_where_there_is_one_objective_only():
    class Single(Objective):
        names = ("distance",)

        def losses(self, model, batch, preferences):
            return model(preferences).square().mean(dim=1, keepdim=True)

    assert not told(toy(ParetoSetModel(1, 3, hidden=(8,)), Single()))


def test_watching_is_no_part_of_the_training():
    """Nor of the objective's state, the random numbers, and the model's mode."""

    class Noisy(Distances):
        def losses(self, model, batch, preferences):
            noise = torch.rand(())
            return super().losses(model, batch, preferences) + 0.0 * noise

    results = []
    for steps in (120, 150):
        objective = Noisy()
        trainer = toy(objective=objective, steps=steps, lr_schedule="constant", warmup_ratio=0.0, log_every=1)
        # Of a longer run, the first 120 steps, which its watch looks at elsewhere.
        trainer.config.__dict__["steps"] = 120
        trainer.train()
        results.append((trainer.history, objective.calls, torch.get_rng_state()))
    assert results[0][0] == results[1][0]
    assert results[0][1] == results[1][1] == 120
    assert torch.equal(results[0][2], results[1][2])


def test_a_batch_that_cannot_be_looked_at_ends_nothing():
    class Bound(Distances):
        def effect_of_preferences(self, model, update, preferences):
            raise ValueError("made for one preference")

    assert not told(toy(Flat(), Bound()))


@pytest.mark.parametrize("values", [torch.full((2, 2), math.nan), torch.empty(2, 0)], ids=["nan", "empty"])
def test_numbers_that_say_nothing(values):
    class Empty(Distances):
        def effect_of_preferences(self, model, update, preferences):
            return values

    assert not told(toy(Flat(), Empty()))


# Losses and rewards that never move.


@pytest.mark.parametrize("constant", [3.0, 0.0, 0.1, -1e6])
def test_an_objective_that_never_moves_is_told_once(constant):
    messages = told(toy(objective=Distances(constant), steps=300))
    constants = [message for message in messages if message.startswith("the loss 'right' has been")]
    assert len(constants) == 1
    assert "it never moves" in constants[0]
    assert not [message for message in messages if "'left'" in message]


def entries(**columns) -> list[dict[str, float]]:
    """A history of 20 entries, ten steps each; a column is a number or a function of 0 … 1."""
    return [
        {"step": 10 * (i + 1), "loss/left": 1 - i / 20, "loss/right": 1 + i / 20}
        | {name: value(i / 19) if callable(value) else value for name, value in columns.items()}
        for i in range(20)
    ]


def said_of(history) -> list[str]:
    """What is said of a history that grows entry by entry."""
    watch = RunWarnings(nn.Identity(), Distances(), 1000, nullcontext)
    with warnings.catch_warnings(record=True) as records:
        warnings.simplefilter("always")
        for count in range(1, len(history) + 1):
            watch.look_at(history[:count])
    return [str(record.message) for record in records]


def test_a_reward_that_never_moves_is_told():
    columns = {"reward/left": 0.25, "reward/right": lambda t: t}
    (message,) = said_of(entries(**columns))
    assert message.startswith("the reward 'left' has been 0.25 in all 10 entries")


def test_one_that_moves_a_little_is_not():
    assert not said_of(entries(**{"loss/right": lambda t: 5.0 + 1e-4 * t}))


# KL and lengths.


def test_a_kl_that_nothing_was_earned_for_is_told():
    columns = {"kl": lambda t: 40 * t, "reward/left": lambda t: -t, "reward/right": lambda t: 0.5 - t}
    (message,) = said_of(entries(**columns))
    assert "runs away from its reference" in message
    assert "no reward has grown" in message
    assert "beta" in message


def test_a_kl_that_rewards_grow_with_is_not():
    assert not said_of(entries(**{"kl": lambda t: 40 * t, "reward/left": lambda t: -t, "reward/right": lambda t: t}))


def test_a_kl_beyond_all_texts_is_told_whatever_was_earned():
    (message,) = said_of(entries(**{"kl": lambda t: 300 * t, "reward/left": lambda t: t, "reward/right": lambda t: t}))
    assert "nats a response, which no reward was made for" in message


@pytest.mark.parametrize(
    ("lengths", "is_told"),
    [
        (lambda t: 20 + 60 * t, True),
        (lambda t: 80 - 60 * t, False),
        (lambda t: 200 + 60 * t, False),
        (lambda t: 2 + 10 * t, False),
        (40.0, False),
    ],
    ids=["growing", "shrinking", "growing a little", "short", "steady"],
)
def test_growing_responses(lengths, is_told):
    messages = said_of(entries(response_length=lengths, truncated=0.25))
    assert len(messages) == is_told
    if is_told:
        assert messages[0].startswith("responses have grown from ")
        assert "25% of them are cut" in messages[0]


def test_a_resumed_run_knows_what_was_before():
    """All is taken from the history, which is a part of a checkpoint."""
    history = entries(response_length=lambda t: 20 + 60 * t, truncated=0.0)
    watch = RunWarnings(nn.Identity(), Distances(), 1000, nullcontext)
    with pytest.warns(UserWarning, match="responses have grown from"):
        watch.look_at(history)


# Language models.


def llama(make_llama, names=("a", "b"), **options) -> PreferenceModel:
    return PreferenceModel(make_llama(vocab_size=50), SVDLoRAConfig(objectives=names, rank=2, **options))


def pairs(count=16) -> list[dict]:
    rows = []
    for i in range(count):
        responses = {"response_0_ids": [5 + i, 6], "response_1_ids": [25 + i, 8]}
        rows.append({"prompt_ids": [3, 4], **responses, "labels": [0, 1]})
    return rows


def dpo_trainer(model, steps, **settings) -> ParetoTrainer:
    settings = {"batch_size": 8, "preferences_per_step": 4, "learning_rate": 5e-3} | settings
    config = TrainerConfig(steps=steps, progress=False, cpu=True, **settings)
    return ParetoTrainer(model, DPO(names=("a", "b")), Linear(), train_data=pairs(), config=config)


def test_nothing_is_said_of_an_ordinary_dpo_run(make_llama):
    assert not told(dpo_trainer(llama(make_llama), 120, log_every=5))


def test_an_adapter_whose_preference_part_stays_at_zero_is_told(make_llama):
    model = llama(make_llama)
    for layer in model.adapters.values():
        layer.scale.data.zero_()
        layer.scale.requires_grad_(False)
    assert COLLAPSE in told(dpo_trainer(model, 100))[-1]


def rlhf_trainer(model, steps, rewards=None, learning_rate=5e-3, tokens=3, **options) -> ParetoTrainer:
    rewards = rewards or {
        "a": token_reward(lambda prompts, responses: [float(sum(token < 25 for token in ids)) for ids in responses]),
        "b": token_reward(lambda prompts, responses: [float(sum(token % 2 for token in ids)) for ids in responses]),
    }
    sampling = Sampling(max_new_tokens=tokens, stop_token_ids=())
    objective = RLHF(rewards, samples_per_prompt=2, sampling=sampling, **options)
    config = TrainerConfig(
        steps=steps,
        batch_size=4,
        preferences_per_step=2,
        learning_rate=learning_rate,
        log_every=2,
        progress=False,
        cpu=True,
    )
    rows = [{"prompt_ids": [3 + i]} for i in range(8)]
    return ParetoTrainer(model, objective, Linear(), train_data=rows, config=config)


@pytest.mark.parametrize("normalization", ["running", "group", None])
def test_nothing_is_said_of_an_ordinary_rlhf_run(make_llama, normalization):
    assert not told(rlhf_trainer(llama(make_llama), 100, normalization=normalization))


def test_a_policy_that_ignores_its_preference_is_told(make_llama):
    """Its losses are those of its rollouts, whatever λ is: its log-probabilities are asked."""
    model = llama(make_llama)
    for layer in model.adapters.values():
        layer.scale.data.zero_()
        layer.scale.requires_grad_(False)
    assert COLLAPSE in told(rlhf_trainer(model, 100))[-1]


def test_a_policy_that_runs_away_is_told(make_llama):
    """Rewards that pull, but fall by themselves faster than the policy can win them back."""
    calls = [0]

    @token_reward
    def falling(prompts, responses):
        calls[0] += 1
        return [float(sum(token < 5 for token in ids)) - calls[0] for ids in responses]

    model = llama(make_llama)
    # Or its logits would stay as small as those of an untrained model.
    model.base_model.lm_head.weight.data.mul_(50)
    options = {"learning_rate": 0.02, "beta": 1e-4, "tokens": 16, "normalization": "group"}
    trainer = rlhf_trainer(model, 60, {"a": falling, "b": falling}, **options)
    assert any("runs away from its reference" in message for message in told(trainer))


def test_the_default_effect_of_preferences_is_the_losses_under_each():
    update = Update(None, torch.full((4, 2), 0.5))
    model, objective = ParetoSetModel(2, 3, hidden=(4,)), Distances()
    corners = torch.eye(2)
    torch.testing.assert_close(
        objective.effect_of_preferences(model, update, corners), objective.losses(model, None, corners).detach()
    )

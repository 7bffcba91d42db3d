"""Rollouts of RLHF: the gradient of one step by hand, their reuse, and what is not computed twice."""

import pytest
import torch
from rlhf_inputs import (
    PREFERENCES,
    SAMPLING,
    STOPS,
    assert_same,
    even,
    gradients,
    length,
    losses_of,
    make_rlhf,
    updates_of,
)

from mopref import PreferenceModel, SVDLoRAConfig
from mopref.llm.policy import Policy, Sampling
from mopref.llm.policy_gradient import GRPO, PPO, RLOO
from mopref.llm.policy_gradient.experience import Experience

# The gradient of one step, by hand.


def policy_by_hand(model, experience, row: int, preference) -> tuple[torch.Tensor, torch.Tensor]:
    """log π and log π_ref of a response's tokens from plain forwards of the unpadded row: two of shape ``(R,)``."""
    sequences = experience.rollout.sequences
    tokens = sequences.input_ids[row][sequences.attention_mask[row].bool()]
    count = int(sequences.response_lengths[row])

    def token_values(logits):
        return logits[0, -count - 1 : -1].log_softmax(-1).gather(-1, tokens[-count:, None]).squeeze(-1)

    policy = token_values(model(tokens[None], preferences=preference).logits)
    with model.disabled(), torch.no_grad():
        return policy, token_values(model(tokens[None]).logits)


def test_the_gradient_of_a_step_is_that_of_advantages_times_log_pi(model):
    """−Σ_t A_t log π_t / N of each preference, with RLOO's advantages from rewards counted here, row by row.

    π_old comes from the sampling itself: had it been taken from the step's own forward, ρ would be 1 exactly. The two
    gradients agree to 1e-4 of their length.
    """
    rlhf, beta = make_rlhf(), 0.1
    (update,) = updates_of(rlhf, model)
    actual = gradients(model, rlhf.losses(model, update.batch, PREFERENCES), PREFERENCES)
    rows = PREFERENCES.repeat_interleave(6, dim=0)
    values = [policy_by_hand(model, update.batch, row, rows[row]) for row in range(12)]
    sequences = update.batch.rollout.sequences
    contents = [
        [token for token in sequences.targets[row][sequences.response_mask[row]].tolist() if token not in STOPS]
        for row in range(12)
    ]
    rewards = torch.tensor(list(zip(length([], contents), even([], contents), strict=True)))
    loss = torch.zeros(())
    for row, (policy, _) in enumerate(values):
        rivals = [other for other in range(row // 3 * 3, row // 3 * 3 + 3) if other != row]
        for t in range(len(policy)):
            to_go = {o: (values[o][0] - values[o][1])[t:].sum().detach() for o in (row, *rivals)}
            kl = to_go[row] - sum(to_go[rival] for rival in rivals) / 2
            advantage = rewards[row] - rewards[rivals].mean(dim=0) - beta * kl
            loss = loss - (rows[row] * advantage).sum() * policy[t] / 6
    expected = torch.autograd.grad(loss, [layer.U for layer in model.adapters.values()])
    expected = torch.cat([part.flatten() for part in expected])
    assert expected.norm() > 0.1
    assert (actual - expected).norm() < 1e-4 * expected.norm()


@pytest.mark.parametrize("algorithm", ["rloo", "grpo", "ppo"])
@pytest.mark.parametrize("normalization", [None, "running", "group"])
def test_ratios_are_1_at_the_first_step(algorithm, normalization, model):
    """So the gradient is that of −Σ A log π / N with the experience's advantages: nothing is clipped or scaled."""
    rlhf = make_rlhf(algorithm=algorithm, normalization=normalization)
    rlhf.prepare_model(model)
    update = updates_of(rlhf, model)[0]
    actual = gradients(model, rlhf.losses(model, update.batch, PREFERENCES), PREFERENCES)
    rows = PREFERENCES.repeat_interleave(6, dim=0)
    policy = Policy(model, SAMPLING).token_log_probabilities(update.batch.rollout.sequences, rows)
    combined = (update.batch.advantages * rows.unsqueeze(1)).sum(-1)
    expected = gradients(model, -(combined * policy).sum() / 6, torch.ones(()))
    assert (actual - expected).norm() < 1e-4 * expected.norm()


def test_old_log_probabilities_take_no_forward(model):
    """Four tokens are drawn in four forwards; then the reference's, and the step's own."""
    rlhf, calls = make_rlhf(sampling=Sampling(max_new_tokens=4, stop_token_ids=())), []
    updates_of(rlhf, model)  # The first rollout is compared with a forward.
    model.base_model.register_forward_hook(lambda *_: calls.append(1))
    (update,) = updates_of(rlhf, model)
    assert len(calls) == 5
    rlhf.losses(model, update.batch, PREFERENCES)
    assert len(calls) == 6


# Rollouts and their use.


@pytest.mark.parametrize("algorithm", [RLOO, GRPO, PPO])
def test_a_rollout_used_once_and_one_that_waits_have_the_same_first_gradient(algorithm, model):
    steps = []
    for epochs in (1, 2):
        rlhf = make_rlhf(algorithm=algorithm(epochs=epochs))
        rlhf.prepare_model(model)
        updates = updates_of(rlhf, model)
        assert len(updates) == epochs
        losses = rlhf.losses(model, updates[0].batch, updates[0].preferences)
        steps.append((losses.detach(), gradients(model, losses, PREFERENCES)))
    assert_same(*steps)


def test_an_update_is_an_experience(model):
    rlhf = make_rlhf(algorithm=PPO(epochs=2))
    rlhf.prepare_model(model)
    for update in updates_of(rlhf, model):
        assert type(update.batch) is Experience
        assert {type(update.batch), type(update.batch.rollout), type(update.batch.rollout.sequences)} == set(
            rlhf.record_types
        )
        assert torch.equal(update.preferences, PREFERENCES)
        assert not any(part.requires_grad for part in update.batch.rollout.sequences if part is not None)
        parts = (*update.batch[1:], *update.batch.rollout[4:])
        assert not any(part.requires_grad for part in parts if part is not None)


def test_minibatches_hold_every_preference_and_every_response_once(model):
    rlhf = make_rlhf(algorithm=GRPO(epochs=2, minibatches=2))
    updates = updates_of(rlhf, model)
    (undivided,) = updates_of(make_rlhf(algorithm=GRPO()), model)
    assert len(updates) == 4
    # Two prompts a preference, three samples each: minibatch 0 has the first prompt of both preferences.
    rows = [[0, 1, 2, 6, 7, 8], [3, 4, 5, 9, 10, 11]]
    for index, update in enumerate(updates):
        assert torch.equal(update.preferences, PREFERENCES)
        expected = undivided.batch.rollout.sequences.input_ids[rows[index % 2]]
        assert torch.equal(update.batch.rollout.sequences.input_ids, expected)
        assert update.batch.estimates.shape == (2, 2)


def test_gradients_of_minibatches_average_to_that_of_the_rollout(model):
    steps = []
    for minibatches in (1, 2):
        rlhf = make_rlhf(algorithm=RLOO(epochs=2, minibatches=minibatches))
        updates = updates_of(rlhf, model)[:minibatches]
        parts = [gradients(model, rlhf.losses(model, update.batch, PREFERENCES), PREFERENCES) for update in updates]
        steps.append(torch.stack(parts).mean(dim=0))
    torch.testing.assert_close(steps[0], steps[1], atol=1e-5, rtol=1e-4)


def test_losses_are_the_negative_means_of_reward_minus_kl(model):
    rlhf = make_rlhf()
    for loss, record in zip(losses_of(rlhf, model), rlhf.history, strict=True):
        for i, name in enumerate(rlhf.names):
            assert loss[i].item() == pytest.approx(-(record[f"reward/{name}"] - 0.1 * record["kl"]), abs=1e-5)
    assert all(record["kl"] != 0 for record in rlhf.history)


def test_an_untrained_model_is_its_reference(make_llama):
    model = PreferenceModel(make_llama(), SVDLoRAConfig(objectives=("length", "even")))
    rlhf = make_rlhf()
    losses_of(rlhf, model)
    for record in rlhf.history:
        # One side comes from sampling and the other from a forward: equal up to rounding.
        assert record["kl"] == pytest.approx(0, abs=1e-4)


def test_frozen_layers_change_nothing(make_llama, randomise):
    config = SVDLoRAConfig(objectives=("length", "even"), rank=2, preference_rank=2, layers=(-1,))
    model = randomise(PreferenceModel(make_llama(), config), std=0.3)
    steps = []
    for frozen in (False, True):
        rlhf = make_rlhf(frozen_layers=frozen)
        losses = losses_of(rlhf, model)
        steps.append((losses.detach(), gradients(model, losses, PREFERENCES)))
    assert_same(*steps)


def test_frozen_layers_are_run_once_a_rollout(make_llama, randomise):
    config = SVDLoRAConfig(objectives=("length", "even"), rank=2, preference_rank=2, layers=(-1,))
    model = randomise(PreferenceModel(make_llama(), config))
    rlhf = make_rlhf(frozen_layers=True, algorithm=RLOO(epochs=3))
    updates = updates_of(rlhf, model)
    calls = []
    # The block itself is called, since models ask its attributes; what is inside it is not.
    model.base_model.model.layers[0].self_attn.register_forward_hook(lambda *_: calls.append(1))
    for update in updates:
        assert update.batch.rollout.sequences.lower_hidden_states is not None
        rlhf.losses(model, update.batch, PREFERENCES)
    assert not calls
    updates_of(rlhf, model)
    # The tokens drawn, and the finished sequences once; the comparisons were made at the first rollout.
    assert len(calls) == 4 + 1


def test_a_model_that_frozen_layers_do_not_fit_is_refused_at_the_first_rollout(make_llama):
    """Where no trainer asked before."""
    model = PreferenceModel(make_llama(), SVDLoRAConfig(objectives=("length", "even")))
    with pytest.raises(ValueError, match="the first block is adapted, so there is nothing below it to keep"):
        updates_of(make_rlhf(frozen_layers=True), model)


def test_checkpointed_activations_change_nothing(model):
    steps = []
    for checkpointed in (False, True):
        if checkpointed:
            model.gradient_checkpointing_enable()
        model.train()
        losses = losses_of(make_rlhf(), model)
        steps.append((losses.detach(), gradients(model, losses, PREFERENCES)))
    assert_same(*steps)


def test_dropout_is_off(make_llama, randomise):
    """The policy that is updated is the one that sampled: its ratio to the old one is 1, dropout or not."""
    config = SVDLoRAConfig(objectives=("length", "even"), rank=2, preference_rank=2)
    model = randomise(PreferenceModel(make_llama(attention_dropout=0.5), config), std=0.15).train()
    rlhf = make_rlhf(algorithm=RLOO(epochs=2))
    update, _ = updates_of(rlhf, model)
    trained = [gradients(model, rlhf.losses(model, update.batch, PREFERENCES), PREFERENCES) for _ in range(2)]
    assert torch.equal(*trained)
    assert model.training
    rows = PREFERENCES.repeat_interleave(6, dim=0)
    sequences, policy = update.batch.rollout.sequences, Policy(model, SAMPLING)
    dropped = policy.token_log_probabilities(sequences, rows)
    model.eval()
    values = policy.token_log_probabilities(sequences, rows)
    torch.testing.assert_close(update.batch.rollout.log_probabilities, values.detach(), atol=1e-4, rtol=0)
    assert (dropped - values).abs().max() > 0.1
    assert torch.equal(gradients(model, rlhf.losses(model, update.batch, PREFERENCES), PREFERENCES), trained[0])


def test_without_kl_the_reference_is_not_run(model, monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("the reference was run")

    monkeypatch.setattr(Policy, "reference_log_probabilities", refuse)
    rlhf = make_rlhf(beta=0.0)
    assert losses_of(rlhf, model).isfinite().all()
    assert "kl" not in rlhf.history[0]
    with pytest.raises(AssertionError, match="the reference was run"):
        losses_of(make_rlhf(beta=0.1), model)

"""RLHF as an objective: rollouts and their reuse, normalisation, critic, evaluation, logs, and what is refused."""

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from mopref import ParetoTrainer, PreferenceModel, SVDLoRAConfig, TrainerConfig
from mopref.llm.data.tokenization import tokenize_prompts
from mopref.llm.policy.generation import Sampling
from mopref.llm.policy_gradient import GRPO, PPO, RLOO
from mopref.llm.policy_gradient.critic import Critic
from mopref.llm.policy_gradient.reward_statistics import evaluate_rewards, reward_front
from mopref.llm.rewards import token_reward
from mopref.objectives import RLHF
from mopref.scalarizers import Linear, Tchebycheff

STOPS = tuple(range(3, 40))
PREFERENCES = torch.tensor([[0.8, 0.2], [0.1, 0.9]])


@token_reward
def length(prompt_ids, response_ids):
    return [float(len(ids)) for ids in response_ids]


@token_reward
def even(prompt_ids, response_ids):
    return [sum(token % 2 == 0 for token in ids) / 4 for ids in response_ids]


def make_rlhf(**options) -> RLHF:
    options = {
        "beta": 0.1,
        "samples_per_prompt": 3,
        "sampling": Sampling(max_new_tokens=4, stop_token_ids=STOPS),
        "normalization": None,
    } | options
    return RLHF({"length": length, "even": even}, **options)


ROWS = [{"prompt_ids": ids} for ids in ([41, 42], [50], [60, 61, 62], [70, 71])]


@pytest.fixture
def model(make_llama, randomise):
    config = SVDLoRAConfig(objectives=("length", "even"), rank=2, preference_rank=2)
    return randomise(PreferenceModel(make_llama(), config), std=0.15)


def gradients(model, losses, preferences) -> torch.Tensor:
    model.zero_grad()
    (preferences * losses).sum().backward()
    return torch.cat([layer.U.grad.flatten() for layer in model.adapters.values()])


# Rollouts and their use.


@pytest.mark.parametrize("algorithm", [RLOO, GRPO, PPO])
def test_a_rollout_used_once_and_one_that_waits_have_the_same_first_gradient(algorithm, model):
    found = []
    for epochs in (1, 2):
        rlhf = make_rlhf(algorithm=algorithm(epochs=epochs))
        rlhf.prepare_model(model)
        torch.manual_seed(0)
        pieces = rlhf.updates(model, rlhf.collate(ROWS), PREFERENCES)
        assert len(pieces) == epochs
        losses = rlhf.losses(model, *pieces[0])
        found.append((losses.detach(), gradients(model, losses, PREFERENCES)))
    torch.testing.assert_close(found[0][0], found[1][0])
    torch.testing.assert_close(found[0][1], found[1][1], atol=1e-5, rtol=1e-4)
    assert found[0][1].abs().max() > 1e-3


def test_minibatches_hold_every_preference_and_every_response_once(model):
    rlhf = make_rlhf(algorithm=GRPO(epochs=2, minibatches=2))
    torch.manual_seed(0)
    pieces = rlhf.updates(model, rlhf.collate(ROWS), PREFERENCES)
    torch.manual_seed(0)
    ((whole, _),) = make_rlhf(algorithm=GRPO()).updates(model, rlhf.collate(ROWS), PREFERENCES)
    assert len(pieces) == 4
    # Two prompts a preference, three samples each: minibatch 0 has the first prompt of both preferences.
    rows = [[0, 1, 2, 6, 7, 8], [3, 4, 5, 9, 10, 11]]
    for index, (piece, preferences) in enumerate(pieces):
        assert torch.equal(preferences, PREFERENCES)
        expected = whole["sequences"]["input_ids"][rows[index % 2]]
        assert torch.equal(piece["sequences"]["input_ids"], expected)
        assert piece["estimates"].shape == (2, 2)


def test_gradients_of_minibatches_average_to_that_of_the_rollout(model):
    found = []
    for minibatches in (1, 2):
        rlhf = make_rlhf(algorithm=RLOO(epochs=2, minibatches=minibatches))
        torch.manual_seed(0)
        pieces = rlhf.updates(model, rlhf.collate(ROWS), PREFERENCES)[:minibatches]
        parts = [gradients(model, rlhf.losses(model, *piece), PREFERENCES) for piece in pieces]
        found.append(torch.stack(parts).mean(dim=0))
    torch.testing.assert_close(found[0], found[1], atol=1e-5, rtol=1e-4)


def test_losses_are_the_negative_means_of_reward_minus_kl(model):
    rlhf = make_rlhf()
    torch.manual_seed(0)
    losses = rlhf.losses(model, rlhf.collate(ROWS), PREFERENCES)
    for loss, record in zip(losses, rlhf.history, strict=True):
        for i, name in enumerate(rlhf.names):
            assert loss[i].item() == pytest.approx(-(record[f"reward/{name}"] - 0.1 * record["kl"]), abs=1e-5)
    assert all(record["kl"] != 0 for record in rlhf.history)


def test_frozen_layers_change_nothing(make_llama, randomise):
    config = SVDLoRAConfig(objectives=("length", "even"), rank=2, preference_rank=2, layers=(-1,))
    model = randomise(PreferenceModel(make_llama(), config), std=0.3)
    found = []
    for frozen in (False, True):
        rlhf = make_rlhf(frozen_layers=frozen)
        torch.manual_seed(0)
        losses = rlhf.losses(model, rlhf.collate(ROWS), PREFERENCES)
        found.append((losses.detach(), gradients(model, losses, PREFERENCES)))
    torch.testing.assert_close(found[0][0], found[1][0])
    torch.testing.assert_close(found[0][1], found[1][1], atol=1e-5, rtol=1e-4)


def test_checkpointed_activations_change_nothing(model):
    found = []
    for checkpointed in (False, True):
        if checkpointed:
            model.gradient_checkpointing_enable()
        model.train()
        rlhf = make_rlhf()
        torch.manual_seed(0)
        losses = rlhf.losses(model, rlhf.collate(ROWS), PREFERENCES)
        found.append((losses.detach(), gradients(model, losses, PREFERENCES)))
    torch.testing.assert_close(found[0][0], found[1][0])
    torch.testing.assert_close(found[0][1], found[1][1], atol=1e-5, rtol=1e-4)


def test_dropout_is_off(make_llama, randomise):
    """The policy that is updated is the one that sampled: its ratio to the old one is 1, dropout or not."""
    config = SVDLoRAConfig(objectives=("length", "even"), rank=2, preference_rank=2)
    model = randomise(PreferenceModel(make_llama(attention_dropout=0.5), config), std=0.15).train()
    rlhf = make_rlhf(algorithm=RLOO(epochs=2))
    (piece, preferences), _ = rlhf.updates(model, rlhf.collate(ROWS), PREFERENCES)
    log_probabilities, _ = rlhf._forward(model, piece, preferences)
    torch.testing.assert_close(log_probabilities.detach(), piece["old_log_probabilities"])
    assert model.training


def test_without_kl_the_reference_is_not_run(model, monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("the reference was run")

    monkeypatch.setattr("mopref.objectives.rlhf.reference_log_probabilities", refuse)
    rlhf = make_rlhf(beta=0.0)
    assert rlhf.losses(model, rlhf.collate(ROWS), PREFERENCES).isfinite().all()
    assert "kl" not in rlhf.history[0]
    with pytest.raises(AssertionError, match="the reference was run"):
        make_rlhf(beta=0.1).losses(model, rlhf.collate(ROWS), PREFERENCES)


# Rewards.


def test_rewards_that_read_text(make_llama, randomise):
    words = ["<pad>", "<s>", "</s>", *(f"w{i}" for i in range(97))]
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<pad>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", bos_token="<s>", eos_token="</s>")
    seen = []

    def words_said(prompts, responses):
        seen.extend(zip(prompts, responses, strict=True))
        return [len(response.split()) for response in responses]

    rlhf = RLHF({"words": words_said, "length": length}, tokenizer, samples_per_prompt=2, normalization=None)
    assert rlhf.settings.sampling.stop_token_ids == (2,)
    model = PreferenceModel(make_llama(), SVDLoRAConfig(objectives=("words", "length")))
    rows = tokenize_prompts(tokenizer, ["w1 w2", "w3"])
    torch.manual_seed(0)
    rlhf.settings = type(rlhf.settings)(
        **{**vars(rlhf.settings), "sampling": Sampling(max_new_tokens=3, stop_token_ids=(2,))}
    )
    rlhf.losses(model, rlhf.collate(rows), torch.tensor([[0.5, 0.5]]))
    assert [prompt for prompt, _ in seen] == ["w1 w2", "w1 w2", "w3", "w3"]
    assert rlhf.history[0]["reward/words"] == pytest.approx(rlhf.history[0]["reward/length"])
    with pytest.raises(ValueError, match="no prompt:"):
        rlhf.collate([{"prompt_ids": [3]}])


def test_truncated_responses_are_counted_and_penalised(model):
    plain, penalised = make_rlhf(), make_rlhf(truncation_penalty=10.0)
    for rlhf in (plain, penalised):
        torch.manual_seed(0)
        rlhf.losses(model, rlhf.collate(ROWS), PREFERENCES)
    assert any(0 < record["truncated"] < 1 for record in plain.history), "some are cut and some are not"
    for before, after in zip(plain.history, penalised.history, strict=True):
        assert after["truncated"] == before["truncated"]
        assert after["reward/even"] == pytest.approx(before["reward/even"] - 10 * before["truncated"])


def test_responses_without_stop_tokens_are_not_called_truncated(model):
    rlhf = make_rlhf(sampling=Sampling(max_new_tokens=2, stop_token_ids=()))
    rlhf.losses(model, rlhf.collate(ROWS), PREFERENCES)
    assert all(record["truncated"] == 0 and record["response_length"] == 2 for record in rlhf.history)


def test_running_normalisation_divides_by_the_deviation_of_all_rewards_so_far(model):
    rlhf, seen = make_rlhf(normalization="running", beta=0.0), []
    observe = rlhf._scale.observe
    rlhf._scale.observe = lambda rewards: (seen.append(rewards.clone()), observe(rewards))
    for _ in range(3):
        losses = rlhf.losses(model, rlhf.collate(ROWS), PREFERENCES)
    scales = torch.cat(seen).std(dim=0)
    torch.testing.assert_close(rlhf.reward_scales, scales)
    expected = -seen[-1].view(2, -1, 2).mean(dim=1) / scales
    torch.testing.assert_close(losses.detach().double(), expected, atol=1e-5, rtol=1e-5)


def test_a_reward_that_never_varies_is_not_divided(model):
    constant = token_reward(lambda prompt_ids, response_ids: [2.0] * len(response_ids))
    rlhf = RLHF(
        {"length": length, "even": constant},
        sampling=Sampling(max_new_tokens=4, stop_token_ids=STOPS),
        beta=0.0,
    )
    losses = rlhf.losses(model, rlhf.collate(ROWS), PREFERENCES)
    torch.testing.assert_close(losses[:, 1].detach(), torch.tensor([-2.0, -2.0]))


def test_scaling_a_reward_leaves_normalised_gradients_as_they_are(model):
    large = token_reward(lambda prompt_ids, response_ids: [100 * value for value in length(prompt_ids, response_ids)])
    for normalization in ("running", "group"):
        found = []
        for reward in (length, large):
            rlhf = RLHF(
                {"length": reward, "even": even},
                sampling=Sampling(max_new_tokens=4, stop_token_ids=STOPS),
                samples_per_prompt=3,
                normalization=normalization,
            )
            torch.manual_seed(0)
            found.append(gradients(model, rlhf.losses(model, rlhf.collate(ROWS), PREFERENCES), PREFERENCES))
        torch.testing.assert_close(found[0], found[1], atol=1e-5, rtol=1e-4)


# Critic and pre-training term.


def test_the_critic_is_trained_beside_the_adapters_and_left_out_of_adapter_files(model, make_llama, tmp_path):
    rlhf = make_rlhf(algorithm="ppo")
    config = TrainerConfig(steps=2, batch_size=4, preferences_per_step=2, progress=False, log_every=1)
    trainer = ParetoTrainer(model, rlhf, Linear(), train_data=ROWS, config=config)
    assert isinstance(model.critic, Critic)
    before = {name: value.clone() for name, value in model.critic.state_dict().items()}
    kept = model.critic
    trainer.train()
    rlhf.prepare_model(model)
    assert model.critic is kept, "a trained critic stays"
    assert any(not torch.equal(before[name], value) for name, value in model.critic.state_dict().items())
    model.save_pretrained(tmp_path / "adapter")
    reloaded = PreferenceModel.load(make_llama(), tmp_path / "adapter")
    assert not hasattr(reloaded, "critic")


def test_the_critics_loss_reaches_the_critic_only(model):
    rlhf = make_rlhf(algorithm="ppo")
    rlhf.prepare_model(model)
    rlhf.losses(model, rlhf.collate(ROWS), PREFERENCES)
    rlhf.auxiliary_loss().backward()
    assert model.critic.output.weight.grad.abs().max() > 0
    assert all(layer.U.grad is None for layer in model.adapters.values())
    assert rlhf.auxiliary_loss() is None


def test_the_critic_sees_the_preference():
    critic = Critic(hidden_size=8, num_objectives=2)
    torch.nn.init.normal_(critic.output.weight)
    states = torch.randn(2, 3, 8)
    one, other = critic(states, torch.tensor([[1.0, 0.0]] * 2)), critic(states, torch.tensor([[0.0, 1.0]] * 2))
    assert one.shape == (2, 3, 2)
    assert (one - other).abs().max() > 1e-3


def test_the_pretraining_term_is_the_mean_negative_log_probability_of_a_token(model):
    rows = [{"prompt_ids": [45], "response_ids": [46, 47, 48]}]
    rlhf = make_rlhf(pretraining_data=rows, pretraining_coefficient=3.0, pretraining_batch_size=1)
    preference = torch.tensor([[0.3, 0.7]])
    rlhf.losses(model, rlhf.collate(ROWS), preference)
    with torch.no_grad():
        logits = model(torch.tensor([[45, 46, 47, 48]]), preferences=preference).logits
    expected = torch.nn.functional.cross_entropy(logits[0, :-1], torch.tensor([46, 47, 48]))
    assert rlhf.auxiliary_loss().item() == pytest.approx(3 * expected.item(), rel=1e-5)


def test_paper_preset_is_ppo_and_can_be_changed(make_llama):
    rlhf = RLHF.paper_preset({"length": length, "even": even}, None, sampling=Sampling(stop_token_ids=STOPS), beta=0.5)
    assert isinstance(rlhf.algorithm, PPO)
    assert rlhf.settings.samples_per_prompt == 1
    assert rlhf.beta == 0.5
    assert rlhf.normalization is None


# Training, evaluation, logs.


@pytest.mark.parametrize(
    ("algorithm", "scalarizer"),
    [("rloo", Linear()), ("grpo", Linear()), ("ppo", Linear()), ("rloo", Tchebycheff(ideal=[-9.0, -9.0]))],
)
def test_training_raises_each_reward_at_its_corner(algorithm, scalarizer, make_llama):
    model = PreferenceModel(make_llama(), SVDLoRAConfig(objectives=("length", "even")))
    rlhf = make_rlhf(algorithm=algorithm, samples_per_prompt=8, normalization="running")
    before = evaluate_rewards(model, rlhf, ROWS, torch.eye(2), samples_per_prompt=64, with_kl=False).rewards
    config = TrainerConfig(steps=20, batch_size=4, preferences_per_step=2, learning_rate=1e-2, progress=False)
    ParetoTrainer(model, rlhf, scalarizer, train_data=ROWS, config=config).train()
    after = evaluate_rewards(model, rlhf, ROWS, torch.eye(2), samples_per_prompt=64, with_kl=False).rewards
    assert (after.diag() > before.diag() + torch.tensor([0.3, 0.05])).all(), f"{before} to {after}"


def test_history_and_metrics(model):
    rlhf = make_rlhf()
    config = TrainerConfig(steps=4, batch_size=4, preferences_per_step=2, log_every=2, progress=False)
    history = ParetoTrainer(model, rlhf, Linear(), train_data=ROWS, config=config).train()
    assert len(rlhf.history) == 8
    for entry, records in zip(history, (rlhf.history[:4], rlhf.history[4:]), strict=True):
        for key in ("reward/length", "reward/even", "kl", "response_length", "truncated"):
            assert entry[key] == pytest.approx(sum(record[key] for record in records) / 4)
        weights = [record["preference/length"] for record in records]
        lengths = [record["response_length"] for record in records]
        expected = sum(w * n for w, n in zip(weights, lengths, strict=True)) / sum(weights)
        assert entry["response_length/length"] == pytest.approx(expected)
    assert rlhf.metrics() == {}


def test_evaluation_is_repeatable_and_leaves_the_random_state_alone(model):
    rlhf = make_rlhf()
    state = torch.get_rng_state()
    first = evaluate_rewards(model, rlhf, ROWS, PREFERENCES, batch_size=3)
    assert torch.equal(torch.get_rng_state(), state)
    again = evaluate_rewards(model, rlhf, ROWS, PREFERENCES, batch_size=3)
    other = evaluate_rewards(model, rlhf, ROWS, PREFERENCES, batch_size=3, seed=1)
    assert torch.equal(first.rewards, again.rewards)
    assert not torch.equal(first.rewards, other.rewards)
    assert rlhf.history == []


def test_evaluation_agrees_with_training_on_average(make_llama, randomise):
    """A model whose likeliest tokens differ between the corners."""
    model = PreferenceModel(make_llama(std=0.4), SVDLoRAConfig(objectives=("small", "even")))
    randomise(model, std=0.4)
    small = token_reward(lambda prompt_ids, response_ids: [sum(token < 50 for token in ids) for ids in response_ids])
    sampling = Sampling(max_new_tokens=3, stop_token_ids=())
    rlhf = RLHF({"small": small, "even": even}, sampling=sampling, samples_per_prompt=200, normalization=None, beta=0.1)
    corners = torch.eye(2)
    found = evaluate_rewards(model, rlhf, ROWS, corners, batch_size=3)
    losses = torch.stack([rlhf.losses(model, rlhf.collate(ROWS), one.view(1, -1)).detach()[0] for one in corners])
    expected = found.rewards - 0.1 * found.kl.unsqueeze(1)
    torch.testing.assert_close(-losses.double(), expected, atol=0.15, rtol=0)
    assert (expected[0] - expected[1]).abs().max() > 0.18, "preferences differ, or their order is not tested"


def test_the_base_model_is_evaluated_without_adapters(model, make_llama):
    rlhf = make_rlhf(samples_per_prompt=200)
    base = evaluate_rewards(model, rlhf, ROWS, None)
    assert base.rewards.shape == (1, 2)
    assert base.kl.item() == 0
    plain = PreferenceModel(make_llama(), SVDLoRAConfig(objectives=("length", "even")))
    expected = evaluate_rewards(plain, rlhf, ROWS, torch.tensor([[0.5, 0.5]]))
    torch.testing.assert_close(base.rewards, expected.rewards)
    assert expected.kl.item() == pytest.approx(0, abs=1e-9)


def test_reward_front_is_maximised_and_says_lengths(model):
    front = reward_front(model, make_rlhf(), ROWS, PREFERENCES, metadata={"seed": 3})
    assert front.maximize
    assert front.values.shape == (2, 2)
    assert {"kl", "mean_response_length", "truncated", "standard_error_even"} <= set(front.to_frame().columns)
    assert "kl" not in reward_front(model, make_rlhf(), ROWS, PREFERENCES, with_kl=False).to_frame().columns


# What is refused.


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"algorithm": "reinforce"}, "reinforce.*rloo"),
        ({"beta": -1.0}, "beta"),
        ({"samples_per_prompt": 1}, "samples_per_prompt.*2"),
        ({"normalization": "batch"}, "batch.*group"),
        ({"truncation_penalty": -1.0}, "truncation_penalty"),
        ({"sampling": Sampling()}, "stop_token_ids"),
        ({"pretraining_data": ROWS, "pretraining_coefficient": 0.0}, "pretraining_coefficient"),
        ({"pretraining_data": []}, "pretraining_data"),
    ],
)
def test_bad_settings_are_named(options, word):
    with pytest.raises(ValueError, match=word):
        make_rlhf(**options)


def test_no_rewards_or_text_without_a_tokenizer():
    with pytest.raises(ValueError, match="rewards"):
        RLHF({}, sampling=Sampling(stop_token_ids=()))
    with pytest.raises(ValueError, match="tokenizer"):
        RLHF({"a": lambda prompts, responses: [0.0]}, sampling=Sampling(stop_token_ids=()))


def test_prompts_that_cannot_be_shared(model):
    rlhf = make_rlhf()
    with pytest.raises(ValueError, match=r"4 prompts.*3 preferences"):
        rlhf.losses(model, rlhf.collate(ROWS), torch.tensor([[1.0, 0.0]] * 3))
    rlhf = make_rlhf(algorithm=GRPO(minibatches=3))
    with pytest.raises(ValueError, match=r"2 prompts.*3"):
        rlhf.updates(model, rlhf.collate(ROWS), PREFERENCES)


def test_a_plain_model_or_a_missing_critic(model, make_llama):
    rlhf = make_rlhf(algorithm="ppo")
    with pytest.raises(TypeError, match="PreferenceModel"):
        rlhf.losses(make_llama(), rlhf.collate(ROWS), PREFERENCES)
    with pytest.raises(ValueError, match="prepare_model"):
        rlhf.losses(model, rlhf.collate(ROWS), PREFERENCES)


def test_a_reward_that_fails_is_named_and_nothing_is_trained(model):
    broken = token_reward(lambda prompt_ids, response_ids: [float("nan")] * len(response_ids))
    rlhf = RLHF({"length": length, "even": broken}, sampling=Sampling(max_new_tokens=2, stop_token_ids=()))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    config = TrainerConfig(steps=2, batch_size=4, preferences_per_step=2, progress=False)
    trainer = ParetoTrainer(model, rlhf, Linear(), train_data=ROWS, config=config)
    with pytest.raises((RuntimeError, ValueError), match="even"):
        trainer.train()
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())

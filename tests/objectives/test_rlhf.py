"""RLHF as an objective: rewards, normalisation, critic, evaluation and logs."""

import math
import warnings
from inspect import signature

import pytest
import torch
from datasets import Dataset
from rlhf_inputs import PREFERENCES, ROWS, SAMPLING, STOPS, even, gradients, length, losses_of, make_rlhf, updates_of
from rlhf_problems import first_losses
from tokenizers import Tokenizer, models, pre_tokenizers
from torch.nn.functional import cross_entropy
from transformers import PreTrainedTokenizerFast

from mopref import ParetoTrainer, PreferenceModel, SVDLoRAConfig, TrainerCallback, TrainerConfig
from mopref.llm.data.tokenization import tokenize_prompts
from mopref.llm.policy import Policy, Sampling
from mopref.llm.policy_gradient import GRPO, PPO, RLOO, PretrainingTerm
from mopref.llm.policy_gradient.critic import Critic
from mopref.llm.policy_gradient.reward_statistics import evaluate_rewards
from mopref.llm.rewards import token_reward
from mopref.objective import Metric
from mopref.objectives import RLHF
from mopref.scalarizers import Linear, Tchebycheff

# Rewards.


def test_rewards_that_read_text(make_llama):
    words = ["<pad>", "<s>", "</s>", *(f"w{i}" for i in range(97))]
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<pad>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", bos_token="<s>", eos_token="</s>")
    seen = []

    def words_said(prompts, responses):
        seen.extend(zip(prompts, responses, strict=True))
        return [len(response.split()) for response in responses]

    rlhf = RLHF(
        # The special tokens are no words, should one be drawn.
        {"words": words_said, "length": token_reward(lambda _, ids: [sum(token > 2 for token in row) for row in ids])},
        tokenizer,
        samples_per_prompt=2,
        normalization=None,
        sampling=Sampling(max_new_tokens=3),
    )
    assert rlhf.settings.sampling.stop_token_ids == (2,)
    model = PreferenceModel(make_llama(), SVDLoRAConfig(objectives=("words", "length")))
    rows = tokenize_prompts(tokenizer, ["w1 w2", "w3"])
    torch.manual_seed(0)
    first_losses(rlhf, model, rows, torch.tensor([[0.5, 0.5]]))
    assert [prompt for prompt, _ in seen] == ["w1 w2", "w1 w2", "w3", "w3"]
    assert rlhf.history[0]["reward/words"] == pytest.approx(rlhf.history[0]["reward/length"])
    with pytest.raises(ValueError, match="no prompt:"):
        rlhf.collate([{"prompt_ids": [3]}])


def test_truncated_responses_are_counted_and_penalised(model):
    plain, penalised = make_rlhf(samples_per_prompt=20), make_rlhf(samples_per_prompt=20, truncation_penalty=10.0)
    for rlhf in (plain, penalised):
        losses_of(rlhf, model)
    assert any(0 < record["truncated"] < 1 for record in plain.history), "some are cut and some are not"
    for before, after in zip(plain.history, penalised.history, strict=True):
        assert after["truncated"] == before["truncated"]
        assert after["reward/even"] == pytest.approx(before["reward/even"] - 10 * before["truncated"])


def test_responses_without_stop_tokens_are_not_called_truncated(model):
    rlhf = make_rlhf(sampling=Sampling(max_new_tokens=2, stop_token_ids=()))
    losses_of(rlhf, model)
    assert all(record["truncated"] == 0 and record["response_length"] == 2 for record in rlhf.history)


def test_running_normalisation_divides_by_the_deviation_of_all_rewards_so_far(model):
    rlhf, seen = make_rlhf(normalization="running", beta=0.0), []
    for seed in range(3):
        (update,) = updates_of(rlhf, model, seed)
        seen.append(update.batch.rollout.rewards)
    scales = torch.cat(seen).std(dim=0)
    torch.testing.assert_close(rlhf.reward_scales, scales)
    losses = rlhf.losses(model, update.batch, PREFERENCES)
    expected = -seen[-1].view(2, -1, 2).mean(dim=1) / scales
    torch.testing.assert_close(losses.detach().double(), expected, atol=1e-5, rtol=1e-5)


def test_a_reward_that_never_varies_is_not_divided(model):
    constant = token_reward(lambda prompt_ids, response_ids: [2.0] * len(response_ids))
    rlhf = RLHF({"length": length, "even": constant}, sampling=SAMPLING, beta=0.0)
    torch.testing.assert_close(losses_of(rlhf, model)[:, 1].detach(), torch.tensor([-2.0, -2.0]))


def test_scaling_a_reward_leaves_normalised_gradients_as_they_are(model):
    large = token_reward(lambda prompt_ids, response_ids: [100 * value for value in length(prompt_ids, response_ids)])
    for normalization in ("running", "group"):
        steps = []
        for reward in (length, large):
            rlhf = RLHF(
                {"length": reward, "even": even}, sampling=SAMPLING, samples_per_prompt=3, normalization=normalization
            )
            steps.append(gradients(model, losses_of(rlhf, model), PREFERENCES))
        torch.testing.assert_close(steps[0], steps[1], atol=1e-5, rtol=1e-4)


# Critic and pre-training term.


def test_the_critic_is_trained_beside_the_adapters_and_left_out_of_adapter_files(model, make_llama, tmp_path):
    rlhf = make_rlhf(algorithm="ppo")
    config = TrainerConfig(steps=2, batch_size=4, preferences_per_step=2, progress=False, log_every=1)
    trainer = ParetoTrainer(model, rlhf, Linear(), train_data=ROWS, config=config)
    critic = model.companions["critic"]
    assert isinstance(critic, Critic)
    before = {name: value.clone() for name, value in critic.state_dict().items()}
    trainer.train()
    rlhf.prepare_model(model)
    assert model.companions["critic"] is critic, "a trained critic stays"
    assert any(not torch.equal(before[name], value) for name, value in critic.state_dict().items())
    model.save_pretrained(tmp_path / "adapter")
    reloaded = PreferenceModel.load(make_llama(), tmp_path / "adapter")
    assert "critic" not in reloaded.companions
    assert not any("critic" in name for name, _ in reloaded.named_parameters())


def test_an_algorithm_without_a_critic_adds_none(model):
    make_rlhf(algorithm="grpo").prepare_model(model)
    assert len(model.companions) == 0


def test_the_critics_loss_reaches_the_critic_only(model):
    rlhf = make_rlhf(algorithm="ppo")
    rlhf.prepare_model(model)
    update = updates_of(rlhf, model)[0]
    rlhf.training_losses(model, update.batch, PREFERENCES).auxiliary.backward()
    assert model.companions["critic"].output.weight.grad.abs().max() > 0
    assert all(layer.U.grad is None for layer in model.adapters.values())


def test_the_critics_loss_by_hand(model):
    """½ (V − R)² over real tokens, times the coefficient; at the rollout the clipped value is the value itself."""
    rlhf = make_rlhf(algorithm=PPO(value_coefficient=3.0))
    rlhf.prepare_model(model)
    torch.nn.init.normal_(model.companions["critic"].output.weight, std=0.1)
    update = updates_of(rlhf, model)[0]
    rollout = update.batch.rollout
    mask = rollout.sequences.response_mask
    expected = 3 * 0.5 * (rollout.values - update.batch.returns)[mask].square().mean()
    auxiliary = rlhf.training_losses(model, update.batch, PREFERENCES).auxiliary
    assert auxiliary.item() == pytest.approx(expected.item(), rel=1e-4)


def test_without_critic_and_term_there_is_no_auxiliary_loss(model):
    rlhf = make_rlhf()
    (update,) = updates_of(rlhf, model)
    losses = rlhf.training_losses(model, update.batch, PREFERENCES)
    assert losses.auxiliary is None
    assert torch.equal(losses.values, rlhf.losses(model, update.batch, PREFERENCES))


def test_the_pretraining_term_is_the_mean_negative_log_probability_of_a_token(model):
    rows = [{"prompt_ids": [45], "response_ids": [46, 47, 48]}]
    rlhf = make_rlhf(pretraining=PretrainingTerm(rows, coefficient=3.0, batch_size=1))
    preference = torch.tensor([[0.3, 0.7]])
    (update,) = rlhf.updates(model, rlhf.collate(ROWS), preference)
    auxiliary = rlhf.training_losses(model, update.batch, preference).auxiliary
    with torch.no_grad():
        logits = model(torch.tensor([[45, 46, 47, 48]]), preferences=preference).logits
    expected = cross_entropy(logits[0, :-1], torch.tensor([46, 47, 48]))
    assert auxiliary.item() == pytest.approx(3 * expected.item(), rel=1e-5)


def test_the_pretraining_term_is_of_the_models_own_distribution(model):
    """Whatever the temperature that responses are sampled at; and it is added to the critic's loss."""
    rows = [{"prompt_ids": [45], "response_ids": [46, 47, 48]}]
    term = PretrainingTerm(rows, batch_size=1)
    sampling = Sampling(max_new_tokens=4, temperature=2.0, min_new_tokens=2, stop_token_ids=(*STOPS, 46))
    parts = []
    for pretraining in (None, term):
        rlhf = make_rlhf(algorithm="ppo", sampling=sampling, pretraining=pretraining)
        rlhf.prepare_model(model)
        update = updates_of(rlhf, model)[0]
        parts.append(rlhf.training_losses(model, update.batch, PREFERENCES).auxiliary.item())
    assert parts[1] - parts[0] == pytest.approx(term.loss(Policy(model), PREFERENCES).item(), rel=1e-4)


def test_paper_preset_is_ppo_and_can_be_changed():
    rewards = {"length": length, "even": even}
    rlhf = RLHF.paper_preset(rewards, None, sampling=Sampling(stop_token_ids=STOPS), beta=0.5)
    assert isinstance(rlhf.algorithm, PPO)
    assert rlhf.settings.samples_per_prompt == 1
    assert rlhf.beta == 0.5
    assert rlhf.normalization is None
    assert rlhf.pretraining is None
    rows = [{"prompt_ids": [4], "response_ids": [5]}]
    with_rows = RLHF.paper_preset(rewards, None, rows, sampling=SAMPLING)
    assert with_rows.pretraining == PretrainingTerm(rows, coefficient=16.0)
    assert with_rows.beta == 0.02
    assert with_rows.algorithm == PPO(epochs=1, clip_range=0.2, gae_lambda=0.95, value_clip_range=5.0)


# Training, evaluation, logs.


@pytest.mark.parametrize(
    ("algorithm", "scalarizer"),
    [("rloo", Linear()), ("grpo", Linear()), ("ppo", Linear()), ("rloo", Tchebycheff(ideal=[-9.0, -9.0]))],
)
def test_training_raises_each_reward_at_its_corner(algorithm, scalarizer, make_llama):
    model = PreferenceModel(make_llama(), SVDLoRAConfig(objectives=("length", "even")))
    rlhf = make_rlhf(algorithm=algorithm, samples_per_prompt=8, normalization="running")

    def mean_rewards() -> torch.Tensor:
        corners = torch.eye(2)
        return evaluate_rewards(model, rlhf.settings, ROWS, corners, samples_per_prompt=64, with_kl=False).rewards

    before = mean_rewards()
    config = TrainerConfig(steps=20, batch_size=4, preferences_per_step=2, learning_rate=1e-2, progress=False)
    ParetoTrainer(model, rlhf, scalarizer, train_data=ROWS, config=config).train()
    after = mean_rewards()
    assert (after.diag() > before.diag() + torch.tensor([0.3, 0.05])).all(), f"{before} to {after}"


@pytest.mark.parametrize("algorithm", [RLOO(), RLOO(epochs=2), GRPO(epochs=2, minibatches=2)])
def test_metrics_come_with_the_first_update_of_a_rollout(algorithm, model):
    rlhf = make_rlhf(algorithm=algorithm)
    first, *others = updates_of(rlhf, model)
    assert all(not update.metrics for update in others)
    records = rlhf.history
    assert first.metrics["kl"] == pytest.approx(Metric((records[0]["kl"] + records[1]["kl"]) / 2, 1.0))
    names = {"reward/length", "reward/even", "kl", "response_length", "truncated"}
    assert set(first.metrics) == names | {"response_length/length", "response_length/even"}


@pytest.mark.parametrize(("algorithm", "rollouts"), [(RLOO(), 4), (RLOO(epochs=2), 2)])
def test_history_and_metrics(algorithm, rollouts, model):
    """Each entry of the trainer's history is a mean over the rollouts drawn in its interval."""
    rlhf = make_rlhf(algorithm=algorithm)
    config = TrainerConfig(steps=4, batch_size=4, preferences_per_step=2, log_every=2, progress=False)
    history = ParetoTrainer(model, rlhf, Linear(), train_data=ROWS, config=config).train()
    assert len(rlhf.history) == 2 * rollouts
    for entry, records in zip(history, (rlhf.history[:rollouts], rlhf.history[rollouts:]), strict=True):
        for key in ("reward/length", "reward/even", "kl", "response_length", "truncated"):
            assert entry[key] == pytest.approx(sum(record[key] for record in records) / rollouts)
        weights = [record["preference/length"] for record in records]
        lengths = [record["response_length"] for record in records]
        expected = sum(w * n for w, n in zip(weights, lengths, strict=True)) / sum(weights)
        assert entry["response_length/length"] == pytest.approx(expected)


def test_an_interval_without_a_rollout_has_no_metrics(model):
    config = TrainerConfig(steps=4, batch_size=4, preferences_per_step=2, log_every=1, progress=False)
    rlhf = make_rlhf(algorithm=RLOO(epochs=2))
    history = ParetoTrainer(model, rlhf, Linear(), train_data=ROWS, config=config).train()
    assert ["kl" in entry for entry in history] == [True, False, True, False]


def test_evaluation_leaves_the_history_alone(model):
    rlhf = make_rlhf()
    evaluate_rewards(model, rlhf.settings, ROWS, PREFERENCES, batch_size=3)
    assert rlhf.history == []


@pytest.mark.parametrize("normalization", [None, "running"])
def test_mean_losses_are_those_of_fresh_samples(normalization, model):
    """−(r / scale − β KL), the same at every call, whatever the truncation penalty."""
    rlhf = make_rlhf(normalization=normalization, truncation_penalty=3.0, seed=4)
    losses_of(rlhf, model)
    scales = rlhf.reward_scales
    assert (scales != 1).all() if normalization else (scales == 1).all()
    values = rlhf.mean_losses(model, ROWS, PREFERENCES, batch_size=3)
    statistics = evaluate_rewards(model, rlhf.settings, ROWS, PREFERENCES, 3, seed=4)
    torch.testing.assert_close(values, 0.1 * statistics.kl.unsqueeze(1) - statistics.rewards / scales)
    assert torch.equal(rlhf.mean_losses(model, ROWS, PREFERENCES, batch_size=3), values)
    assert torch.equal(rlhf.reward_scales, scales)
    for data in (None, []):
        with pytest.raises(ValueError, match="RLHF has nothing to evaluate on: give data with at least one prompt"):
            rlhf.mean_losses(model, data, PREFERENCES, batch_size=3)


def test_evaluation_agrees_with_training_on_average(make_llama, randomise):
    """A model whose likeliest tokens differ between the corners; which seed gives one, depends on the versions."""
    small = token_reward(lambda prompt_ids, response_ids: [sum(token < 50 for token in ids) for ids in response_ids])
    sampling, corners = Sampling(max_new_tokens=3, stop_token_ids=()), torch.eye(2)
    rlhf = RLHF({"small": small, "even": even}, sampling=sampling, samples_per_prompt=200, normalization=None, beta=0.1)
    for seed in range(10):
        model = PreferenceModel(make_llama(seed, std=0.4), SVDLoRAConfig(objectives=("small", "even")))
        randomise(model, std=0.4)
        statistics = evaluate_rewards(model, rlhf.settings, ROWS, corners, batch_size=3)
        expected = statistics.rewards - 0.1 * statistics.kl.unsqueeze(1)
        if (expected[0] - expected[1]).abs().max() > 0.18:
            break
    else:
        pytest.fail("preferences do not differ, so that their order would not be tested")
    losses = torch.stack([first_losses(rlhf, model, ROWS, corner.view(1, -1)).detach()[0] for corner in corners])
    torch.testing.assert_close(-losses.double(), expected, atol=0.15, rtol=0)


def test_the_state_is_the_history_and_the_scale(model):
    rlhf, other = make_rlhf(normalization="running"), make_rlhf(normalization="running")
    losses_of(rlhf, model)
    other.load_state_dict(rlhf.state_dict())
    assert other.history == rlhf.history
    assert torch.equal(other.reward_scales, rlhf.reward_scales)
    losses_of(rlhf, model, seed=1)
    assert len(other.history) == 2, "the two do not share a list"
    losses_of(other, model, seed=1)
    assert other.history == rlhf.history
    assert torch.equal(other.reward_scales, rlhf.reward_scales)


def test_repr_tells_the_options():
    """All but the tokenizer, the rewards in the order of a preference, and engine and pull where there are any."""
    text = repr(make_rlhf(algorithm="grpo", truncation_penalty=0.5, seed=3))
    assert text.startswith("RLHF(rewards={'length': length, 'even': even}, ")
    left_out = ("tokenizer", "engine", "pull")
    assert all(f"{option}=" in text for option in signature(RLHF).parameters if option not in left_out)
    assert not any(f"{option}=" in text for option in left_out), "checkpoints of before there were any go on"
    assert "pull='close'" in repr(make_rlhf(pull="close"))
    for option in ("algorithm=GRPO(", "beta=0.1", "samples_per_prompt=3", "truncation_penalty=0.5", "seed=3"):
        assert option in text


# What is refused.


@pytest.mark.parametrize("kind", [None, "torch", "numpy"])
def test_prompts_out_of_a_data_set_are_the_same(kind):
    """Which hands out lists, tensors or arrays of what was put in; rewards of tokens get numbers."""
    data = Dataset.from_list(ROWS).with_format(kind)
    batch = make_rlhf().collate([data[index] for index in range(len(data))])
    assert batch == make_rlhf().collate(ROWS)
    assert all(type(token) is int for ids in batch.prompt_ids for token in ids)


# Numbers that go wrong.


def test_a_reward_that_is_not_finite_says_step_preference_and_row(model):
    """And leaves the samplers as they were: the same prompts come again."""
    calls = [0]

    @token_reward
    def bad(prompt_ids, response_ids):
        calls[0] += 1
        is_bad = [ids == ROWS[2]["prompt_ids"] and calls[0] > 1 for ids in prompt_ids]
        return [math.nan if bad else float(len(ids)) for bad, ids in zip(is_bad, response_ids, strict=True)]

    rlhf = RLHF({"length": length, "even": bad}, samples_per_prompt=2, sampling=SAMPLING)
    config = TrainerConfig(steps=4, batch_size=4, preferences_per_step=2, progress=False, cpu=True)
    trainer = ParetoTrainer(model, rlhf, Linear(), train_data=ROWS, config=config)
    states = []

    class Watch(TrainerCallback):
        def on_step_end(self, trainer):
            states.append((trainer.sampler.state_dict(), trainer._batches.state_dict()["drawn"].tolist()))

    trainer.callbacks = (Watch(),)
    words = r"reward 'even' returned nan for row \d .*\(At step 1 for preference \[.*\] \(row 2 of the training data\);"
    with pytest.raises(FloatingPointError, match=words):
        trainer.train()
    assert trainer.step == 1
    assert states[-1] == (trainer.sampler.state_dict(), trainer._batches.state_dict()["drawn"].tolist())
    assert len(rlhf.history) == 2, "the broken rollout is in no record"


def test_a_critics_loss_that_is_not_finite_is_the_auxiliary_one(model):
    class Poisoned(PPO):
        def critic_loss(self, values, old_values, returns, mask):
            return super().critic_loss(values, old_values, returns, mask) * math.inf

    config = TrainerConfig(steps=2, batch_size=4, preferences_per_step=2, progress=False, cpu=True)
    rlhf = RLHF({"length": length, "even": even}, algorithm=Poisoned(), samples_per_prompt=2, sampling=SAMPLING)
    trainer = ParetoTrainer(model, rlhf, Linear(), train_data=ROWS, config=config)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    with pytest.raises(
        FloatingPointError, match=r"^the auxiliary loss is (inf|nan) at step 0 for preferences .* \(rows "
    ):
        trainer.train()
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))


def test_log_probabilities_show_whether_preferences_matter(model):
    """The losses are the rollout's, and the same at every preference."""
    rlhf = make_rlhf()
    (update,) = updates_of(rlhf, model)
    corners = torch.eye(2)
    effect = rlhf.effect_of_preferences(model, update, corners)
    tokens = update.batch.rollout.sequences.response_mask.sum().item()
    assert effect.shape == (2, tokens)
    assert (effect[0] - effect[1]).abs().max() > 1e-3
    torch.testing.assert_close(rlhf.effect_of_preferences(model, update, corners.flip(0)), effect.flip(0))


@pytest.mark.parametrize(("normalization", "is_told"), [(None, True), ("running", False), ("group", False)])
def test_a_reward_that_drowns_the_other_is_told(model, normalization, is_told):
    """By the objective itself, which knows what it divides by."""
    large = token_reward(lambda prompts, responses: [1000.0 * len(ids) for ids in responses])
    rlhf = RLHF({"length": large, "even": even}, samples_per_prompt=3, sampling=SAMPLING, normalization=normalization)
    with warnings.catch_warnings(record=True) as records:
        warnings.simplefilter("always")
        for seed in range(12):
            updates_of(rlhf, model, seed)
    messages = [str(record.message) for record in records]
    assert len(messages) == is_told, messages
    assert all("the reward 'length' varies" in message for message in messages)

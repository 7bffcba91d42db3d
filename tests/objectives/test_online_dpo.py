"""Online DPO: pairs sampled at λ, labelled by every reward, and the losses of DPO on them."""

import math

import pytest
import torch
from _counted_rewards import PREFERENCES, ROWS, STOPS, even, length
from pair_inputs import assert_resumes_bit_for_bit, gradients_of, log_probabilities_of_tokens
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from mopref import ParetoTrainer, PreferenceModel, SVDLoRAConfig, TrainerConfig
from mopref.llm.data.tokenization import tokenize_prompts
from mopref.llm.pairs import PairBatch
from mopref.llm.policy import Sampling
from mopref.llm.policy_gradient.reward_statistics import evaluate_rewards
from mopref.llm.rewards import token_reward
from mopref.objective import Metric, Update
from mopref.objectives import DPO, OnlineDPO
from mopref.scalarizers import Linear

NAMES = ("length", "even")
SAMPLING = Sampling(max_new_tokens=4, stop_token_ids=STOPS)
BETA = 0.3
CONFIG = SVDLoRAConfig(objectives=NAMES, rank=2, preference_rank=2)
constant = token_reward(lambda prompt_ids, response_ids: [2.0] * len(response_ids))
lowest = token_reward(lambda prompt_ids, response_ids: [-float(min(ids, default=0)) for ids in response_ids])


class Recorder:
    """Rewards that keep what they were shown and what they said."""

    def __init__(self, *rewards) -> None:
        self.seen: list[tuple[tuple[int, ...], tuple[int, ...]]] = []
        self.values: list[list[float]] = [[] for _ in rewards]
        self.rewards = {
            name: self._keep(index, reward) for index, (name, reward) in enumerate(zip(NAMES, rewards, strict=True))
        }

    def _keep(self, index, reward):
        @token_reward
        def keep(prompt_ids, response_ids):
            values = list(reward(prompt_ids, response_ids))
            self.values[index] += values
            if index == 0:
                self.seen += [(tuple(p), tuple(r)) for p, r in zip(prompt_ids, response_ids, strict=True)]
            return values

        return keep


def make(rewards=None, **options) -> OnlineDPO:
    return OnlineDPO(rewards or {"length": length, "even": even}, **{"beta": BETA, "sampling": SAMPLING, **options})


def update_of(objective: OnlineDPO, model, preferences=PREFERENCES, rows=ROWS, seed=0) -> Update:
    torch.manual_seed(seed)
    (update,) = objective.updates(model, objective.collate(rows), preferences)
    return update


def sampled(batch: PairBatch) -> tuple[list[list[int]], list[list[int]]]:
    """Prompts and responses of the 2B sequences as they are in the batch, without padding."""
    sequences = batch.sequences
    responses = [ids[mask].tolist() for ids, mask in zip(sequences.targets, sequences.response_mask, strict=True)]
    tokens = [
        ids[mask.bool()].tolist() for ids, mask in zip(sequences.input_ids, sequences.attention_mask, strict=True)
    ]
    return [ids[: len(ids) - len(response)] for ids, response in zip(tokens, responses, strict=True)], responses


def without_stop(response: list[int]) -> tuple[int, ...]:
    return tuple(token for token in response if token not in STOPS)


def label_of(first: float, second: float) -> int:
    return -1 if first == second else int(second > first)


# Pairs.


def test_pairs_are_labelled_by_each_reward_in_the_order_of_their_sequences(model):
    """Rewards see prompt by prompt, two responses each; sequences are first all y_0, then all y_1."""
    recorder = Recorder(length, lowest)
    update = update_of(make(recorder.rewards), model, rows=ROWS * 6)
    prompts, responses = sampled(update.batch)
    rows = [row["prompt_ids"] for row in ROWS * 6]
    assert prompts == rows * 2
    shown = [(tuple(prompt), without_stop(response)) for prompt, response in zip(prompts, responses, strict=True)]
    assert shown[:24] == recorder.seen[0::2]
    assert shown[24:] == recorder.seen[1::2]
    expected = [
        [label_of(values[2 * i], values[2 * i + 1]) if shown[i] != shown[24 + i] else -1 for values in recorder.values]
        for i in range(24)
    ]
    assert update.batch.labels.tolist() == expected
    assert {label for row in expected for label in row} == {0, 1, -1}
    assert any(a != b and -1 not in (a, b) for a, b in expected), "the two rewards disagree somewhere"
    assert torch.equal(update.preferences, PREFERENCES)


def test_equal_responses_have_no_label_whatever_a_reward_says(model):
    """As a reward that is not the same at every call; and different responses of equal rewards have none either."""
    values = iter(range(1000))
    moody = token_reward(lambda prompt_ids, response_ids: [float(next(values)) for _ in response_ids])
    greedy = Sampling(max_new_tokens=3, temperature=1e-3, stop_token_ids=())
    update = update_of(make({"length": moody, "even": even}, sampling=greedy), model)
    _, responses = sampled(update.batch)
    assert responses[:4] == responses[4:], "so cold that both are the likeliest"
    assert (update.batch.labels == -1).all()
    update = update_of(make({"length": moody, "even": constant}), model, rows=ROWS * 4)
    _, responses = sampled(update.batch)
    different = torch.tensor([first != second for first, second in zip(responses[:16], responses[16:], strict=True)])
    assert torch.equal(update.batch.labels[:, 0] == 1, different), "the later is the higher"
    assert different.sum() > 8
    assert (update.batch.labels[:, 1] == -1).all()


def test_each_row_is_sampled_under_the_preference_of_its_group(make_llama, randomise):
    """So cold that responses are the likeliest ones, token by token, of the model at that λ."""
    model = randomise(PreferenceModel(make_llama(std=0.3), CONFIG), std=0.4).eval()
    sampling = Sampling(max_new_tokens=3, temperature=1e-3, stop_token_ids=())
    rows = ROWS[:2] * 2
    _, responses = sampled(update_of(make(sampling=sampling), model, torch.eye(2), rows).batch)

    def likeliest(prompt: list[int], preference: Tensor) -> list[int]:
        ids = list(prompt)
        for _ in range(3):
            with torch.no_grad():
                ids.append(int(model(torch.tensor([ids]), preferences=preference).logits[0, -1].argmax()))
        return ids[len(prompt) :]

    expected = [likeliest(row["prompt_ids"], torch.eye(2)[i // 2]) for i, row in enumerate(rows)]
    assert responses == expected * 2
    assert expected[:2] != expected[2:], "λ matters"


def test_the_reference_is_the_base_model(model, make_llama):
    batch = update_of(make(), model).batch
    expected = [
        log_probabilities_of_tokens(make_llama(), prompt, response).sum()
        for prompt, response in zip(*sampled(batch), strict=True)
    ]
    torch.testing.assert_close(batch.reference_log_probabilities.double(), torch.stack(expected), atol=1e-4, rtol=1e-5)
    assert not batch.reference_log_probabilities.requires_grad


# Losses.


def losses_by_hand(model, base, batch: PairBatch, preferences: Tensor, beta: float = BETA) -> Tensor:
    """−log σ(β c d), pair by pair without padding; ℓ(0) where a group has no label: ``(G, m)``, differentiable."""
    prompts, responses = sampled(batch)
    count = len(batch.labels)
    of_group = count // len(preferences)
    sums = [[[] for _ in NAMES] for _ in preferences]
    for i in range(count):
        group = i // of_group
        h = []
        for k in (i, count + i):

            def policy(ids, group=group):
                return model(ids, preferences=preferences[group])

            own = log_probabilities_of_tokens(policy, prompts[k], responses[k]).sum()
            h.append(own - log_probabilities_of_tokens(base, prompts[k], responses[k]).sum().detach())
        for j, label in enumerate(batch.labels[i].tolist()):
            if label >= 0:
                margin = (h[0] - h[1]) * (1 if label == 0 else -1)
                sums[group][j].append(torch.log1p(torch.exp(-beta * margin)))
    neutral = torch.tensor(math.log(2), dtype=torch.float64)
    return torch.stack([torch.stack([torch.stack(x).mean() if x else neutral for x in row]) for row in sums])


def test_losses_and_gradients_by_hand(model, make_llama):
    objective = make()
    update = update_of(objective, model, rows=ROWS * 2)
    losses = objective.losses(model, update.batch, update.preferences)
    expected = losses_by_hand(model, make_llama(), update.batch, PREFERENCES)
    torch.testing.assert_close(losses.double(), expected, atol=1e-5, rtol=1e-5)
    assert (expected - math.log(2)).abs().min() > 1e-3
    weights = torch.tensor([[1.0, -0.5], [0.3, 2.0]])
    actual = gradients_of((weights * losses).sum(), model)
    by_hand = gradients_of((weights * losses_by_hand(model, make_llama(), update.batch, PREFERENCES)).sum(), model)
    scale = max(gradient.abs().max().item() for gradient in by_hand)
    assert scale > 1e-3
    for one, other in zip(actual, by_hand, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4 * scale, rtol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize(
    "options", [{}, {"loss": "ipo"}, {"loss": "hinge"}, {"loss": "robust", "label_smoothing": 0.2}], ids=str
)
@pytest.mark.parametrize("temperature", [1.0, 1.6])
def test_losses_equal_dpos_on_the_same_pairs(temperature, options, model):
    """As rows of data: of the model's own distribution, whatever the temperature that they were sampled at."""
    objective = make(
        sampling=Sampling(max_new_tokens=4, min_new_tokens=1, temperature=temperature, stop_token_ids=STOPS), **options
    )
    batch = update_of(objective, model, rows=ROWS * 8).batch
    prompts, responses = sampled(batch)
    rows = [
        {
            "prompt_ids": prompts[i],
            "response_0_ids": responses[i],
            "response_1_ids": responses[32 + i],
            "labels": labels,
        }
        for i, labels in enumerate(batch.labels.tolist())
    ]
    dpo = DPO(NAMES, beta=BETA, **options)
    expected = dpo.losses(model, dpo.collate(rows), PREFERENCES)
    torch.testing.assert_close(objective.losses(model, batch, PREFERENCES), expected, atol=1e-5, rtol=1e-5)
    wrong = dpo.losses(model, dpo.collate(rows), PREFERENCES.flip(0))
    assert (wrong - expected).abs().max() > 1e-3, "the losses are those of each group's own preference"


def test_at_the_start_every_loss_is_log_2(make_llama):
    model, objective = PreferenceModel(make_llama(), CONFIG), make()
    update = update_of(objective, model)
    losses = objective.losses(model, update.batch, update.preferences)
    torch.testing.assert_close(losses, torch.full((2, 2), math.log(2)), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("options", "neutral"),
    [({}, math.log(2)), ({"loss": "ipo"}, 1 / (4 * BETA**2)), ({"loss": "hinge"}, 1.0)],
    ids=["sigmoid", "ipo", "hinge"],
)
def test_a_group_without_labels_costs_the_loss_of_no_margin_and_pulls_nowhere(options, neutral, model):
    objective = make({"length": constant, "even": even}, **options)
    update = update_of(objective, model, rows=ROWS * 4)
    losses = objective.losses(model, update.batch, update.preferences)
    torch.testing.assert_close(losses[:, 0].detach(), torch.full((2,), neutral))
    assert (losses[:, 1] - neutral).abs().min() > 1e-4
    assert all((gradient == 0).all() for gradient in gradients_of(losses[:, 0].sum(), model))
    losses = objective.losses(model, update.batch, update.preferences)
    assert any((gradient != 0).any() for gradient in gradients_of(losses[:, 1].sum(), model))


def test_one_group_without_labels_leaves_the_other_alone(model):
    """A mean over a group's own labelled rows: labels of one group removed change only that group's loss."""
    objective = make()
    batch = update_of(objective, model, rows=ROWS * 2).batch
    labels = batch.labels.clone()
    labels[:4, 1] = -1
    before = objective.losses(model, batch, PREFERENCES)
    after = objective.losses(model, batch._replace(labels=labels), PREFERENCES)
    assert after[0, 1].item() == pytest.approx(math.log(2), abs=1e-6)
    keep = torch.tensor([[True, False], [True, True]])
    assert torch.equal(after[keep], before[keep])


@pytest.mark.parametrize("loss", ["sigmoid", "ipo"])
def test_a_step_of_ties_changes_nothing(loss, model):
    objective = make({"length": constant, "even": constant}, loss=loss)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trainer = trainer_of(model, objective, steps=2)
    history = trainer.train()
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in before.items())
    neutral = math.log(2) if loss == "sigmoid" else 1 / (4 * BETA**2)
    assert [entry["loss"] for entry in history] == pytest.approx([neutral] * 2, rel=1e-5)
    assert [entry["labelled/even"] for entry in history] == [0, 0]


# Metrics and history.


def trainer_of(model, objective: OnlineDPO, folder=None, **options) -> ParetoTrainer:
    checkpoints = {"checkpoint_every": 2, "output_dir": folder} if folder else {}
    settings = {"steps": 4, "batch_size": 4, "preferences_per_step": 2, "log_every": 1, "learning_rate": 1e-2}
    config = TrainerConfig(**{**settings, "progress": False, "cpu": True, **checkpoints, **options})
    return ParetoTrainer(model, objective, Linear(), train_data=ROWS, config=config)


def test_metrics_and_history_are_means_over_the_samples(model):
    recorder = Recorder(length, even)
    objective = make(recorder.rewards)
    update = update_of(objective, model, rows=ROWS * 20)
    rewards = torch.tensor(recorder.values, dtype=torch.float64).T.view(2, 80, 2).mean(dim=1)
    _, responses = sampled(update.batch)
    in_groups = [responses[:40] + responses[80:120], responses[40:80] + responses[120:]]
    lengths = [sum(len(without_stop(ids)) for ids in group) / 80 for group in in_groups]
    cut = [sum(not set(ids) & set(STOPS) for ids in group) / 80 for group in in_groups]
    assert len(objective.history) == 2
    for group, record in enumerate(objective.history):
        assert set(record) == {
            *(f"{part}/{name}" for part in ("preference", "reward") for name in NAMES),
            "response_length",
            "truncated",
        }
        assert [record[f"preference/{name}"] for name in NAMES] == pytest.approx(PREFERENCES[group].tolist())
        assert [record[f"reward/{name}"] for name in NAMES] == pytest.approx(rewards[group].tolist())
        assert record["response_length"] == pytest.approx(lengths[group])
        assert record["truncated"] == pytest.approx(cut[group])
    assert any(0 < value < 1 for value in cut)

    def value(name):
        metric = update.metrics[name]
        return metric.value if isinstance(metric, Metric) else metric

    for j, name in enumerate(NAMES):
        assert value(f"reward/{name}") == pytest.approx(rewards[:, j].mean().item())
        labelled = (update.batch.labels[:, j] >= 0).double().mean().item()
        assert value(f"labelled/{name}") == pytest.approx(labelled)
        weights = PREFERENCES[:, j] / PREFERENCES[:, j].sum()
        assert value(f"response_length/{name}") == pytest.approx((weights * torch.tensor(lengths)).sum().item())
    assert value("response_length") == pytest.approx(sum(lengths) / 2)
    assert value("truncated") == pytest.approx(sum(cut) / 2)
    assert 0 < value("labelled/even") < 1


def test_a_trainer_logs_the_metrics(model):
    objective = make()
    history = trainer_of(model, objective).train()
    assert len(objective.history) == 8
    for step, entry in enumerate(history):
        records = objective.history[2 * step : 2 * step + 2]
        assert entry["reward/length"] == pytest.approx(sum(record["reward/length"] for record in records) / 2)
        assert 0 <= entry["labelled/length"] <= 1


def test_the_state_is_the_history(model):
    objective, other = make(), make()
    update_of(objective, model)
    other.load_state_dict(objective.state_dict())
    assert other.history == objective.history
    update_of(objective, model)
    assert (len(other.history), len(objective.history)) == (2, 4), "the two do not share a list"


def test_samples_are_drawn_from_the_global_generator(model):
    first, again, other = (update_of(make(), model, seed=seed).batch for seed in (0, 0, 1))
    assert all(torch.equal(one, two) for one, two in zip(first.sequences[:4], again.sequences[:4], strict=True))
    assert sampled(first)[1] != sampled(other)[1]


def test_a_resumed_run_is_the_whole_one_bit_for_bit(make_llama, tmp_path):
    objectives = []

    def trainer(folder):
        objectives.append(make())
        return trainer_of(PreferenceModel(make_llama(), CONFIG), objectives[-1], folder, learning_rate=3e-2)

    assert_resumes_bit_for_bit(trainer, tmp_path)
    whole, _, resumed = objectives
    assert resumed.history == whole.history
    assert len(whole.history) == 8


# Rewards.


def test_rewards_that_read_text(make_llama):
    words = ["<pad>", "<s>", "</s>", *(f"w{i}" for i in range(97))]
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<pad>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", bos_token="<s>", eos_token="</s>")
    seen = []

    def last_number(prompts, responses):
        seen.extend(zip(prompts, responses, strict=True))
        return [float(response.split()[-1][1:] or 0) if "w" in response else 0.0 for response in responses]

    objective = OnlineDPO({"number": last_number, "length": length}, tokenizer, sampling=Sampling(max_new_tokens=2))
    model = PreferenceModel(make_llama(), SVDLoRAConfig(objectives=("number", "length")))
    rows = tokenize_prompts(tokenizer, ["w1 w2", "w3"])
    batch = update_of(objective, model, torch.tensor([[0.5, 0.5]]), rows).batch
    assert [prompt for prompt, _ in seen] == ["w1 w2", "w1 w2", "w3", "w3"]
    values = [last_number([prompt], [response])[0] for prompt, response in list(seen)]
    assert batch.labels[:, 0].tolist() == [label_of(*values[:2]), label_of(*values[2:4])]
    assert set(batch.labels[:, 0].tolist()) <= {0, 1}
    with pytest.raises(ValueError, match="no prompt:"):
        objective.collate([{"prompt_ids": [3]}])
    with pytest.raises(ValueError, match="the rewards read text, so the tokenizer"):
        OnlineDPO({"number": last_number}, sampling=SAMPLING)


def test_a_response_that_was_cut_loses_by_the_penalty(model):
    """With rewards that are all equal the label is which of the two came to its end."""
    plain = update_of(make({"length": constant, "even": constant}), model, rows=ROWS * 20).batch
    assert (plain.labels == -1).all()
    objective = make({"length": constant, "even": constant}, truncation_penalty=0.5)
    batch = update_of(objective, model, rows=ROWS * 20).batch
    _, responses = sampled(batch)
    cut = [not set(ids) & set(STOPS) for ids in responses]
    half = len(cut) // 2
    expected = [label_of(-float(cut[i]), -float(cut[half + i])) for i in range(half)]
    assert batch.labels.tolist() == [[label, label] for label in expected]
    assert set(expected) == {0, 1, -1}
    for record in objective.history:
        assert record["reward/even"] == pytest.approx(2 - 0.5 * record["truncated"])


# Evaluation.


def test_mean_losses_are_negative_mean_rewards_of_fresh_samples(model):
    """In the rewards' own units: no loss of pairs, no penalty; and the same at every call."""
    objective = make(seed=4, truncation_penalty=3.0)
    state = torch.get_rng_state()
    values = objective.mean_losses(model, ROWS, PREFERENCES, batch_size=3)
    assert values.shape == (2, 2)
    assert torch.equal(objective.mean_losses(model, ROWS, PREFERENCES, batch_size=3), values)
    assert torch.equal(torch.get_rng_state(), state)
    assert objective.history == []
    statistics = evaluate_rewards(model, objective.settings, ROWS, PREFERENCES, 3, seed=4)
    torch.testing.assert_close(values, -statistics.rewards.to(values))
    other = make(seed=5).mean_losses(model, ROWS * 4, PREFERENCES, batch_size=16)
    assert not torch.equal(other, make(seed=4).mean_losses(model, ROWS * 4, PREFERENCES, batch_size=16))


@torch.no_grad()
def test_mean_losses_are_expectations_under_each_preference(make_llama, randomise):
    """Of one token: E r from the probabilities of every token, to some standard errors of 800 samples."""
    model = randomise(PreferenceModel(make_llama(std=0.3), CONFIG), std=0.4).eval()
    small = token_reward(lambda prompt_ids, response_ids: [float(ids[0] < 50) for ids in response_ids])
    fixed = token_reward(lambda prompt_ids, response_ids: [3.0] * len(response_ids))
    objective = make({"length": fixed, "even": small}, sampling=Sampling(max_new_tokens=1, stop_token_ids=()))
    values = objective.mean_losses(model, ROWS * 100, torch.eye(2), batch_size=400)
    assert values[:, 0].tolist() == [-3, -3]
    expected = []
    for preference in torch.eye(2):
        logits = [model(torch.tensor([row["prompt_ids"]]), preferences=preference).logits[0, -1] for row in ROWS]
        expected.append(torch.stack([logit.softmax(-1)[:50].sum() for logit in logits]).mean().item())
    assert (-values[:, 1]).tolist() == pytest.approx(expected, abs=0.08)
    assert abs(expected[0] - expected[1]) > 0.1

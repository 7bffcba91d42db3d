"""PairObjective by two objectives of a few lines, whose scores can be worked out from the token ids.

One has no reference: a response's score is the mean of its token ids. The other subtracts the reference's
log-probability, so that it is seen where that comes from.
"""

import copy
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from mopref import PreferenceModel, SVDLoRAConfig
from mopref.llm.evaluation import preference_front
from mopref.llm.pairs import PairBatch, PairObjective
from mopref.llm.policy import Policy
from mopref.llm.policy.forward_traits import forward_traits

NAMES = ("a", "b")
LABELS = [[0, 1], [1, -1], [-1, 0], [0, 0], [1, 1]]
PREFERENCES = torch.tensor([[0.25, 0.75], [1.0, 0.0]])


class MeanToken(PairObjective):
    """Score: the mean token id times the preference's first entry; loss: the square of the signed difference less 1."""

    needs_reference = False

    def scores(self, model: nn.Module, batch: PairBatch, preferences: Tensor) -> Tensor:
        masked = batch.sequences.targets * batch.sequences.response_mask
        means = masked.sum(dim=1) / batch.sequences.response_mask.sum(dim=1)
        return torch.stack((means * preferences[:, 0].repeat(2)).chunk(2), dim=1)

    def pair_losses(self, scores: Tensor, labels: Tensor) -> Tensor:
        signs = torch.where(labels < 0, 0, 1 - 2 * labels)
        return (signs * (scores[..., 0] - scores[..., 1]).unsqueeze(-1) - 1) ** 2


class Unlikely(MeanToken):
    """Score: less the reference's log-probability."""

    needs_reference = True

    def scores(self, model: nn.Module, batch: PairBatch, preferences: Tensor) -> Tensor:
        reference = self.complete(model, batch).reference_log_probabilities
        return super().scores(model, batch, preferences) - torch.stack(reference.chunk(2), dim=1)


@pytest.fixture
def rows(make_pairs) -> list[dict]:
    return make_pairs(LABELS)


@pytest.fixture
def model(make_llama, randomise) -> PreferenceModel:
    return randomise(PreferenceModel(make_llama(), SVDLoRAConfig(objectives=NAMES, rank=2, layers=[1]))).eval()


@pytest.fixture
def forwards(model) -> list[int]:
    """One entry for each forward of the base model."""
    seen: list[int] = []
    model.base_model.register_forward_pre_hook(lambda *_: seen.append(1))
    return seen


def mean_tokens(rows: list[dict]) -> Tensor:
    """(B, 2), from the lists."""
    return torch.tensor(
        [[sum(row[f"response_{k}_ids"]) / len(row[f"response_{k}_ids"]) for k in (0, 1)] for row in rows]
    )


def expected_losses(rows: list[dict], weight: float) -> Tensor:
    """Means over labelled rows, pair by pair: ``(m,)``."""
    means = []
    for objective in range(2):
        terms = []
        for row, (first, second) in zip(rows, mean_tokens(rows).tolist(), strict=True):
            label = row["labels"][objective]
            if label >= 0:
                terms.append((weight * (first - second) * (1, -1)[label] - 1) ** 2)
        means.append(sum(terms) / len(terms))
    return torch.tensor(means)


def test_row_losses(model, rows):
    objective = MeanToken(NAMES)
    preferences = torch.tensor([[0.1 * i, 1 - 0.1 * i] for i in range(5)])
    values, labelled = objective.row_losses(model, objective.collate(rows), preferences)
    assert torch.equal(labelled, torch.tensor(LABELS) >= 0)
    for i, row in enumerate(rows):
        weight = 0.1 * i
        first, second = mean_tokens([row])[0].tolist()
        for j, label in enumerate(row["labels"]):
            if label >= 0:
                expected = (weight * (first - second) * (1, -1)[label] - 1) ** 2
                assert values[i, j].item() == pytest.approx(expected, rel=1e-4, abs=1e-4)
    torch.testing.assert_close(
        objective.margins(model, objective.collate(rows), preferences),
        preferences[:, 0] * (mean_tokens(rows)[:, 0] - mean_tokens(rows)[:, 1]),
    )


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5, 9])
def test_means_and_scores_do_not_depend_on_the_batch_size(batch_size, model, rows):
    """And are in the order of the rows, though rows of like length are taken together."""
    objective = MeanToken(NAMES)
    expected = torch.stack([expected_losses(rows, weight) for weight in (0.25, 1.0)])
    means = objective.mean_losses(model, rows, PREFERENCES, batch_size)
    torch.testing.assert_close(means.float(), expected, rtol=1e-5, atol=1e-4)
    scores = objective.all_scores(model, rows, PREFERENCES, batch_size)
    assert scores.dtype == torch.float64
    torch.testing.assert_close(scores.float(), PREFERENCES[:, :1, None] * mean_tokens(rows), rtol=1e-5, atol=1e-4)
    losses = objective.losses_of_scores(scores, objective.labels(rows))
    torch.testing.assert_close(losses.float(), expected, rtol=1e-5, atol=1e-4)


def test_losses_of_scores_needs_a_label_of_each_objective():
    with pytest.raises(ValueError, match=r"no row is labelled on 'b'\."):
        MeanToken(NAMES).losses_of_scores(torch.zeros(1, 2, 2), torch.tensor([[0, -1], [1, -1]]))


def test_evaluation_batches_hold_every_row_once_and_like_lengths_together(make_pairs):
    rows = make_pairs([[0, 1]] * 11)
    batches = MeanToken(NAMES).evaluation_batches(rows, 4)
    assert sorted(index for batch in batches for index in batch) == list(range(11))
    assert max(map(len, batches)) == 4

    def longest(row):
        return len(row["prompt_ids"]) + max(len(row["response_0_ids"]), len(row["response_1_ids"]))

    spans = sorted((min(longest(rows[i]) for i in batch), max(longest(rows[i]) for i in batch)) for batch in batches)
    assert all(end <= start for (_, end), (start, _) in pairwise(spans))


def test_collate(rows):
    batch = MeanToken(NAMES).collate(rows)
    assert isinstance(batch, PairBatch)
    assert batch.labels.tolist() == LABELS
    assert MeanToken(NAMES).num_rows(batch) == 5
    assert batch.reference_log_probabilities is None
    responses = [row[f"response_{k}_ids"] for k in (0, 1) for row in rows]
    sequences = batch.sequences
    assert [
        ids[mask].tolist() for ids, mask in zip(sequences.targets, sequences.response_mask, strict=True)
    ] == responses
    referenced = [{**row, "reference_log_probabilities": [i, 10 + i]} for i, row in enumerate(rows)]
    of_sequences = MeanToken(NAMES).collate(referenced).reference_log_probabilities
    assert of_sequences.tolist() == [0, 1, 2, 3, 4, 10, 11, 12, 13, 14], "those of response 0 first, as the sequences"


@pytest.mark.parametrize("frozen_layers", [False, True])
def test_without_a_reference_none_is_computed(frozen_layers, model, rows, forwards, monkeypatch):
    objective = MeanToken(NAMES)
    batch = objective.collate(rows)
    forward_traits(model)  # Tried once a model, on a few tokens.
    forwards.clear()
    assert objective.complete(model, batch) is batch
    objective.mean_losses(model, rows, PREFERENCES, 3)
    assert not forwards
    before = copy.deepcopy(rows)
    if not frozen_layers:
        monkeypatch.setattr("mopref.llm.pairs.pair_objective.map_rows", lambda *_: pytest.fail("nothing to compute"))
    cached = objective.precompute(model, rows, batch_size=2, frozen_layers=frozen_layers)
    assert rows == before
    assert not any(key.startswith("reference") for row in cached for key in row)
    assert all(("hidden_states_0" in row) == frozen_layers for row in cached)
    if not frozen_layers:
        assert cached == rows
        assert not forwards
    assert [row["prompt_ids"] for row in cached] == [row["prompt_ids"] for row in rows]


def test_activations_are_those_of_their_own_row_and_response(model, rows):
    """Of each sequence alone, without padding, whichever rows were computed together."""
    cached = MeanToken(NAMES).precompute(model, rows, batch_size=2, frozen_layers=True)
    states = []
    model.base_model.model.layers[1].register_forward_pre_hook(lambda _, args: states.append(args[0][0]))
    for row, kept in zip(rows, cached, strict=True):
        for k in (0, 1):
            with torch.no_grad(), model.disabled():
                model(torch.tensor([row["prompt_ids"] + row[f"response_{k}_ids"]]))
            torch.testing.assert_close(torch.as_tensor(kept[f"hidden_states_{k}"]), states[-1], atol=1e-5, rtol=1e-4)


def test_a_reference_is_the_base_models(model, rows, make_llama):
    """Its log-probabilities of whole responses, computed once a batch or kept with the rows."""
    objective, base = Unlikely(NAMES), make_llama()
    expected = torch.zeros(5, 2)
    for i, row in enumerate(rows):
        for k in (0, 1):
            prompt, response = row["prompt_ids"], row[f"response_{k}_ids"]
            with torch.no_grad():
                logits = base(torch.tensor([prompt + response])).logits[0]
            places = range(len(prompt) - 1, len(prompt) + len(response) - 1)
            expected[i, k] = torch.log_softmax(logits, -1)[places, response].sum()
    cached = objective.precompute(model, rows, batch_size=2)
    for row, pair in zip(cached, expected.tolist(), strict=True):
        assert row["reference_log_probabilities"] == pytest.approx(pair, abs=1e-4)
        assert row["reference_precision"] == "float32"
        assert row["reference_model"] == Policy(model).origin()
    for data in (rows, cached):
        scores = objective.all_scores(model, data, PREFERENCES[:1], batch_size=3)[0]
        torch.testing.assert_close(scores.float(), 0.25 * mean_tokens(rows) - expected, atol=1e-3, rtol=1e-5)


def test_evaluation_runs_the_reference_once_a_batch(model, rows, forwards):
    objective = Unlikely(NAMES)
    objective.complete(model, objective.collate(rows))
    forwards.clear()
    objective.mean_losses(model, rows, PREFERENCES.repeat(3, 1), batch_size=5)
    assert len(forwards) == 1
    objective.all_scores(model, rows, PREFERENCES.repeat(3, 1), batch_size=2)
    assert len(forwards) == 1 + 3


def test_preference_front_takes_any_of_them(model, rows):
    front = preference_front(model, MeanToken(NAMES), rows, PREFERENCES, batch_size=2)
    expected = torch.stack([expected_losses(rows, weight) for weight in (0.25, 1.0)])
    torch.testing.assert_close(torch.as_tensor(front.values).float(), expected, rtol=1e-5, atol=1e-4)
    differences = mean_tokens(rows)[:, 0] - mean_tokens(rows)[:, 1]
    for j, name in enumerate(NAMES):
        hits = [(d > 0) == (row[j] == 0) for d, row in zip(differences.tolist(), LABELS, strict=True) if row[j] >= 0]
        assert list(front.extra[f"accuracy_{name}"]) == pytest.approx([sum(hits) / len(hits)] * 2)


def test_a_new_one_needs_both_methods():
    with pytest.raises(TypeError, match=r"abstract methods? .*pair_losses.*scores"):
        PairObjective(NAMES)


def test_rows_of_another_objective_are_refused(rows):
    named = [{**row, "objectives": NAMES} for row in rows]
    assert torch.equal(MeanToken(NAMES).labels(named), torch.tensor(LABELS))
    with pytest.raises(ValueError, match=r"row 0 \(a, b\)"):
        MeanToken(("b", "a")).labels(named)
    rows[2]["labels"] = [0, 2]
    with pytest.raises(ValueError, match=r"row 2 has labels \[0, 2\]: give one for each of a, b"):
        MeanToken(NAMES).labelled(rows)

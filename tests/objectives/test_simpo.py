"""SimPO: m losses from one policy forward and no reference, against a computation row by row."""

import copy
import math

import pytest
import torch
from pair_inputs import (
    CONFIG,
    LABELS,
    NAMES,
    assert_resumes_bit_for_bit,
    assert_same_gradients,
    counted_rows,
    gradients_of,
    make_trainer,
    mean_log_probabilities,
    row_preferences,
    swapped,
)
from torch import Tensor

from mopref import PreferenceModel, SVDLoRAConfig
from mopref.llm.evaluation import preference_front
from mopref.llm.policy.forward_traits import forward_traits
from mopref.objectives import DPO, SimPO

BETA, GAMMA = 1.7, 0.6


@pytest.fixture
def rows(make_pairs) -> list[dict]:
    return make_pairs(LABELS)


@pytest.fixture
def base(make_lm):
    return make_lm()


@pytest.fixture
def model(base, randomise):
    return randomise(PreferenceModel(copy.deepcopy(base), CONFIG), std=0.15).eval()


@pytest.fixture
def llama(make_llama, randomise):
    return randomise(PreferenceModel(make_llama(), CONFIG), std=0.15).eval()


@pytest.fixture
def simpo() -> SimPO:
    return SimPO(NAMES, beta=BETA, gamma=GAMMA)


def loss_of(winner: Tensor, loser: Tensor, beta: float = BETA, gamma: float = GAMMA) -> Tensor:
    """−log σ(β(h̄_w − h̄_l) − γ), by the logarithm of one plus an exponential."""
    return torch.log1p(torch.exp(-(beta * (winner - loser) - gamma)))


def expected_values(scores: Tensor, labels: list[list[int]], **options: float) -> Tensor:
    """Row by row and objective by objective, NaN where there is no label: ``(B, 2)`` to ``(B, m)``."""
    nothing = scores.new_tensor(math.nan)
    return torch.stack(
        [
            torch.stack([nothing if c < 0 else loss_of(pair[c], pair[1 - c], **options) for c in row])
            for pair, row in zip(scores, labels, strict=True)
        ]
    )


@torch.no_grad()
def test_row_losses_equal_the_computation_row_by_row(simpo, base, model, rows, merge_by_hand):
    preferences = row_preferences()
    scores = mean_log_probabilities([merge_by_hand(base, model, p) for p in preferences], rows)
    expected = expected_values(scores, LABELS)
    values, labelled = simpo.row_losses(model, simpo.collate(rows), preferences)
    assert torch.equal(labelled, torch.tensor(LABELS) >= 0)
    torch.testing.assert_close(values[labelled].double(), expected[labelled], atol=2e-5, rtol=2e-5)
    torch.testing.assert_close(
        simpo.scores(model, simpo.collate(rows), preferences).double(), scores, atol=1e-5, rtol=1e-5
    )
    assert expected[labelled].std() > 0.1, "it would say little of rows that are all alike"
    assert torch.isfinite(values).all()
    lengths = {len(row["response_0_ids"]) - len(row["response_1_ids"]) for row in rows}
    assert lengths - {0}, "sums and means over tokens are to differ"


@torch.no_grad()
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_losses_are_group_means_over_labelled_rows(groups, simpo, base, model, rows, merge_by_hand):
    preferences = row_preferences()[:groups]
    merged = [merge_by_hand(base, model, p) for p in preferences for _ in range(8 // groups)]
    labels = copy.deepcopy(LABELS)
    labels[2][0] = labels[6][0] = 1  # So that every pair of rows has a label on each objective.
    labels[3][2] = labels[5][2] = 0
    labels[1][1] = 0
    labels[0][1] = labels[7][2] = -1
    for row, of_row in zip(rows, labels, strict=True):
        row["labels"] = of_row
    expected = expected_values(mean_log_probabilities(merged, rows), labels).view(groups, 8 // groups, 3).nanmean(dim=1)
    losses = simpo.losses(model, simpo.collate(rows), preferences)
    torch.testing.assert_close(losses.double(), expected, atol=2e-5, rtol=2e-5)


@torch.no_grad()
def test_a_batch_equals_the_loop_over_its_rows_in_any_order(simpo, llama, rows):
    preferences = row_preferences()
    values, labelled = simpo.row_losses(llama, simpo.collate(rows), preferences)
    for i in range(8):
        alone, _ = simpo.row_losses(llama, simpo.collate(rows[i : i + 1]), preferences[i : i + 1])
        torch.testing.assert_close(alone[0][labelled[i]], values[i][labelled[i]], atol=1e-5, rtol=1e-5)
    order = [5, 2, 7, 0, 1, 6, 3, 4]
    moved, _ = simpo.row_losses(llama, simpo.collate([rows[i] for i in order]), preferences[order])
    torch.testing.assert_close(moved[labelled[order]], values[order][labelled[order]], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_swapped_responses_with_flipped_labels_are_the_same_data(simpo, llama, rows):
    values, labelled = simpo.row_losses(llama, simpo.collate(rows), row_preferences())
    other, other_labelled = simpo.row_losses(llama, simpo.collate(swapped(rows)), row_preferences())
    assert torch.equal(labelled, other_labelled)
    torch.testing.assert_close(other[labelled], values[labelled], atol=1e-5, rtol=1e-5)
    flipped = [{**row, "labels": [c if c < 0 else 1 - c for c in row["labels"]]} for row in rows]
    wrong, _ = simpo.row_losses(llama, simpo.collate(flipped), row_preferences())
    assert (wrong[labelled] - values[labelled]).abs().min() > 1e-4, "labels alone make other losses"


@pytest.mark.parametrize("extreme", [1e30, math.inf, -math.inf, math.nan])
def test_rows_without_a_label_count_for_nothing(extreme, simpo):
    """In the values and in the gradients, whatever their scores are."""
    labels = torch.tensor([[0, -1], [1, 0], [-1, -1]])
    scores = torch.tensor([[-1.0, -2.0], [-3.0, -1.5], [extreme, -1.0]], requires_grad=True)
    values = simpo.pair_losses(scores, labels)
    assert values.shape == (3, 2)
    assert torch.isfinite(values).all(), "0 · NaN would be NaN in a mean"
    values[labels >= 0].sum().backward()
    assert torch.equal(scores.grad[2], torch.zeros(2))
    clean = scores.detach()[:2].clone().requires_grad_()
    loss_of(clean[0, 0], clean[0, 1]).backward()
    torch.testing.assert_close(scores.grad[0], clean.grad[0])
    mean = simpo.losses_of_scores(scores.detach().unsqueeze(0), labels)
    expected = expected_values(clean.detach(), [[0, -1], [1, 0]]).nanmean(dim=0)
    torch.testing.assert_close(mean[0], expected.to(mean))


def test_a_margin_that_overflows_without_a_label_leaves_the_gradients_alone(llama, rows):
    """β d beyond float32 on the third objective, which has no label."""
    for row in rows:
        row["labels"] = [-1, -1, -1]
    rows[0]["labels"], rows[0]["response_1_ids"] = [0, 1, -1], list(rows[0]["response_0_ids"])
    simpo = SimPO(NAMES, beta=1e38)
    values, labelled = simpo.row_losses(llama, simpo.collate(rows), row_preferences())
    assert torch.isfinite(values).all()
    assert labelled.sum() == 2
    assert all(torch.isfinite(g).all() for g in gradients_of(values[labelled].sum(), llama))


def test_gradients_are_those_of_the_written_formula(simpo, llama, rows):
    """Through the model, by autograd of the formula on full logits, row by row under the row's preference."""
    preferences = row_preferences()
    values, labelled = simpo.row_losses(llama, simpo.collate(rows), preferences)
    weights = torch.rand(8, 3, generator=torch.Generator().manual_seed(2))
    actual = gradients_of((weights * values)[labelled].sum(), llama)
    under = [lambda ids, p=p: llama(ids, preferences=p) for p in preferences]
    expected = expected_values(mean_log_probabilities(under, rows), LABELS)
    assert_same_gradients(actual, gradients_of((weights * expected)[labelled].sum(), llama))
    assert all(parameter.grad is None for parameter in llama.parameters() if not parameter.requires_grad)


def test_no_reference_is_run(simpo, llama, rows, monkeypatch):
    """One forward over both responses of each pair gives all losses; adapters are never disabled."""
    assert not SimPO.needs_reference
    forward_traits(llama)  # Tried once a model, on a few tokens.
    monkeypatch.setattr(PreferenceModel, "disabled", lambda *_: pytest.fail("the reference was asked for"))
    batch = simpo.collate(rows)
    with counted_rows(llama.base_model) as seen:
        simpo.losses(llama, batch, row_preferences()[:2])
    assert len(seen) == 1
    with counted_rows(llama.base_model) as seen:
        simpo.mean_losses(llama, rows, row_preferences()[:3], batch_size=4)
    assert len(seen) == 3 * 2, "two batches, three preferences"
    with counted_rows(llama.base_model) as seen:
        cached = simpo.precompute(llama, rows)
        assert simpo.complete(llama, batch).reference_log_probabilities is None
    assert seen == []
    assert all(not any("reference" in key for key in row) for row in cached)
    with counted_rows(llama.base_model) as seen:
        make_trainer(llama, simpo, rows, steps=1).train()
    assert len(seen) == 1


def test_the_value_by_hand():
    """β = 2, γ = ½: a margin of ¾ on y_0 gives −log σ(1) where y_0 is preferred, −log σ(−2) where y_1 is."""
    scores = torch.tensor([[-0.25, -1.0]], dtype=torch.float64)
    values = SimPO(("a", "b"), beta=2.0, gamma=0.5).pair_losses(scores, torch.tensor([[0, 1]]))
    expected = torch.tensor([[math.log1p(math.exp(-1)), math.log1p(math.exp(2))]], dtype=torch.float64)
    torch.testing.assert_close(values, expected, rtol=1e-12, atol=0)


@torch.no_grad()
def test_without_a_margin_it_is_dpos_sigmoid_loss_of_the_same_difference(llama, rows):
    """γ = 0 leaves −log σ(β d̄); and equal responses cost −log σ(−γ)."""
    simpo = SimPO(NAMES, beta=BETA, gamma=0.0)
    scores = simpo.scores(llama, simpo.collate(rows), row_preferences())
    labels = torch.tensor(LABELS)
    expected = DPO(NAMES, beta=BETA).pair_losses(scores, labels)
    torch.testing.assert_close(simpo.pair_losses(scores, labels)[labels >= 0], expected[labels >= 0])
    for gamma in (0.0, 1.3):
        values = SimPO(NAMES, gamma=gamma).pair_losses(torch.full((1, 2), -0.7), torch.tensor([[0, 1, 0]]))
        torch.testing.assert_close(values, torch.full((1, 3), math.log1p(math.exp(gamma))))


def test_hard_pairs_stay_finite(simpo):
    """Where an exponential would overflow the loss is the straight line."""
    scores = torch.tensor([[-200.0, -1.0], [-1.0, -200.0]], requires_grad=True)
    values = simpo.pair_losses(scores, torch.tensor([[0], [0]]))
    torch.testing.assert_close(values.detach(), torch.tensor([[BETA * 199 + GAMMA], [0.0]]))
    values.sum().backward()
    torch.testing.assert_close(scores.grad, torch.tensor([[-BETA, BETA], [0.0, 0.0]]))


@pytest.mark.parametrize("frozen_layers", [False, "auto", True])
def test_precomputed_rows_give_the_same_losses_and_gradients(frozen_layers, make_llama, randomise, simpo, rows):
    """What enters the second block is kept with the rows where it pays, and said to be of this model."""
    config = SVDLoRAConfig(objectives=NAMES, rank=3, preference_rank=2, layers=[1])
    model = randomise(PreferenceModel(make_llama(), config), std=0.15).eval()
    before = copy.deepcopy(rows)
    cached = simpo.precompute(model, rows, batch_size=3, frozen_layers=frozen_layers)
    assert rows == before
    kept = {f"hidden_states_{part}" for part in ("0", "1", "model", "precision")} if frozen_layers else set()
    assert all(set(row) - set(before[0]) == kept for row in cached)
    results = []
    for data in (rows, cached):
        values, labelled = simpo.row_losses(model, simpo.collate(data), row_preferences())
        results.append((values[labelled].detach(), gradients_of(values[labelled].sum(), model)))
    torch.testing.assert_close(results[1][0], results[0][0], atol=1e-5, rtol=1e-5)
    assert_same_gradients(results[1][1], results[0][1])
    if frozen_layers:
        other = randomise(PreferenceModel(make_llama(seed=1), config), std=0.15).eval()
        with pytest.raises(ValueError, match="row 0 has a hidden_states that was computed with the base of"):
            make_trainer(other, simpo, cached)
    assert make_trainer(model, simpo, cached, steps=1).train()[0]["loss"] > 0


@torch.no_grad()
def test_mean_losses_do_not_depend_on_the_batch_size(simpo, base, model, rows, merge_by_hand):
    """The mean over all labelled rows, not one of batch means."""
    preferences = row_preferences()[:2]
    expected = torch.stack(
        [
            expected_values(mean_log_probabilities([merge_by_hand(base, model, p)] * 8, rows), LABELS).nanmean(dim=0)
            for p in preferences
        ]
    )
    for batch_size in (1, 3, 8):
        values = simpo.mean_losses(model, rows, preferences, batch_size)
        torch.testing.assert_close(values.double(), expected, atol=2e-5, rtol=2e-5)


def test_preference_front(simpo, llama, rows):
    """Losses are the objective's means, accuracies the fraction of labelled pairs ordered by h̄ as labelled."""
    preferences = row_preferences()[:3]
    front = preference_front(llama, simpo, rows, preferences, batch_size=3)
    expected = simpo.mean_losses(llama, rows, preferences, 8)
    torch.testing.assert_close(torch.as_tensor(front.values), expected.double(), atol=1e-5, rtol=1e-5)
    with torch.no_grad():
        scores = torch.stack([simpo.scores(llama, simpo.collate(rows), p.expand(8, 3)) for p in preferences])
    preferred = (scores[..., 1] > scores[..., 0]).int()
    for j, name in enumerate(NAMES):
        of_rows = [[int(preferred[n, i] == row[j]) for i, row in enumerate(LABELS) if row[j] >= 0] for n in range(3)]
        accuracies = [sum(hits) / len(hits) for hits in of_rows]
        assert list(front.extra[f"accuracy_{name}"]) == pytest.approx(accuracies)


def test_training_lowers_each_loss_at_its_corner(simpo, make_llama, rows):
    model = PreferenceModel(make_llama(), CONFIG)
    before = simpo.mean_losses(model, rows, torch.eye(3), 8).diag()
    make_trainer(model, simpo, rows, steps=20).train()
    after = simpo.mean_losses(model, rows, torch.eye(3), 8).diag()
    assert (after < before - 0.1).all(), f"{before} to {after}"


def test_a_resumed_run_is_the_whole_one_bit_for_bit(simpo, make_llama, rows, tmp_path):
    def make(folder):
        return make_trainer(PreferenceModel(make_llama(), CONFIG), SimPO(NAMES, beta=BETA, gamma=GAMMA), rows, folder)

    assert_resumes_bit_for_bit(make, tmp_path)


@torch.no_grad()
def test_a_group_without_a_label_is_refused(simpo, llama, rows):
    for row in rows[:4]:
        row["labels"] = [0, -1, 1]
    with pytest.raises(ValueError, match="group 0 has no row labelled on 'harmless'"):
        simpo.losses(llama, simpo.collate(rows), row_preferences()[:2])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beta": 0.0}, r"beta is 0\.0"),
        ({"beta": -1.0}, r"beta is -1\.0"),
        ({"beta": math.nan}, "beta is nan"),
        ({"beta": math.inf}, "beta is inf"),
        ({"gamma": -0.1}, r"gamma is -0\.1"),
        ({"gamma": math.nan}, "gamma is nan"),
        ({"gamma": math.inf}, "gamma is inf"),
    ],
    ids=str,
)
def test_values_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        SimPO(NAMES, **options)


@pytest.mark.parametrize("options", [{"beta": "2"}, {"gamma": None}, {"disable_dropout": "no"}], ids=str)
def test_values_of_another_type_are_refused(options):
    with pytest.raises(TypeError, match=f"{next(iter(options))} is "):
        SimPO(NAMES, **options)


@pytest.mark.parametrize("names", [(), ("a", "a"), "ab", (1, 2)], ids=repr)
def test_names_that_are_none_are_refused(names):
    with pytest.raises(ValueError, match="names is "):
        SimPO(names)


def test_defaults_and_repr():
    simpo = SimPO(("a", "b"), beta=2.5, gamma=0.0, disable_dropout=False)
    assert repr(simpo) == "SimPO(names=('a', 'b'), beta=2.5, gamma=0.0, disable_dropout=False)"
    assert repr(SimPO(("a",))) == "SimPO(names=('a',), beta=2.0, gamma=1.0, disable_dropout=True)"


@pytest.mark.parametrize("disables", [True, False])
def test_dropout_is_turned_off_unless_it_is_to_stay(disables, make_gpt2):
    model = PreferenceModel(make_gpt2(resid_pdrop=0.3), CONFIG)
    SimPO(NAMES, disable_dropout=disables).prepare_model(model)
    assert any(part.p for part in model.modules() if isinstance(part, torch.nn.Dropout)) != disables

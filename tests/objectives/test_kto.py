"""KTO: m losses from one policy and one reference forward, against a row-by-row re-computation.

The policy of the re-computation is merged by hand at its λ, and its reference is the base that was never wrapped.
"""

import copy
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
import torch
from hypothesis import given, settings, strategies as st
from kto_inputs import (
    BETA,
    CONFIG,
    LABELS,
    NAMES,
    WEIGHTS,
    expected_values,
    log_ratio,
    make_rows,
    row_loss,
)
from torch import Tensor, nn

from mopref import PreferenceModel, SVDLoRAConfig
from mopref.llm.policy.forward_traits import forward_traits
from mopref.objectives import KTO
from mopref.objectives.kto import UnpairedBatch

GROUPS = [range(0, 4), range(4, 8), range(8, 12)]
MISMATCHED = "mismatched_response_ids"


@pytest.fixture
def rows() -> list[dict]:
    return make_rows()


@pytest.fixture
def base(make_lm):
    return make_lm()


@pytest.fixture
def model(base, randomise):
    return randomise(PreferenceModel(copy.deepcopy(base), CONFIG), std=0.15).eval()


@pytest.fixture
def preferences() -> Tensor:
    """One of each group of four rows; the second is a corner."""
    raw = torch.rand(3, 3, generator=torch.Generator().manual_seed(9))
    raw[1] = torch.tensor([0.0, 1.0, 0.0])
    return raw / raw.sum(-1, keepdim=True)


@pytest.fixture
def policies(base, model, preferences, merge_by_hand) -> list[nn.Module]:
    return [merge_by_hand(base, model, preference) for preference in preferences]


def row_values(kto: KTO, model: nn.Module, rows: list[dict], row_preferences: Tensor) -> Tensor:
    """``row_losses`` with NaN where there is no label."""
    values, labelled = kto.row_losses(model, kto.collate(rows), row_preferences)
    assert torch.isfinite(values).all(), "entries without a label must not be NaN: 0 · NaN is NaN in a mean"
    return values.masked_fill(~labelled, math.nan)


def assert_rows_equal(values: Tensor, expected: Tensor, atol: float = 1e-5) -> None:
    torch.testing.assert_close(values, expected, atol=atol, rtol=1e-5, equal_nan=True, check_dtype=False)


def steer(policy: nn.Module, base: nn.Module, rows: list[dict], members: Sequence[int], largest: bool) -> Tensor:
    """Give rows the mismatched token of which the policy thinks most (or least), beside the base; the mean of h."""
    for i in members:
        prompt = torch.tensor([rows[i]["prompt_ids"]])
        with torch.no_grad():
            ratios = torch.log_softmax(policy(prompt).logits[0, -1], -1) - torch.log_softmax(
                base(prompt).logits[0, -1], -1
            )
        rows[i][MISMATCHED] = [int(ratios[3:].argmax() if largest else ratios[3:].argmin()) + 3]
    return torch.stack([log_ratio(policy, base, rows[i], MISMATCHED) for i in members]).mean()


# Values.


@torch.no_grad()
@pytest.mark.parametrize("weights", [{}, WEIGHTS], ids=["equal", "weighted"])
def test_row_losses_equal_the_row_by_row_computation(weights, base, model, rows, preferences, policies):
    """Groups with z > 0, with z = 0 by the clamp, and one as it comes."""
    assert steer(policies[0], base, rows, GROUPS[0], largest=True) > 0.5
    assert steer(policies[1], base, rows, GROUPS[1], largest=False) < -0.5
    values = row_values(KTO(NAMES, BETA, **weights), model, rows, preferences.repeat_interleave(4, dim=0))
    expected = expected_values(policies, base, rows, GROUPS, **weights)
    assert_rows_equal(values, expected)
    assert torch.equal(~values.isnan(), torch.tensor(LABELS) >= 0)
    assert expected[~expected.isnan()].std() > 0.05, "the test would be vacuous if all log-ratios were zero"


@torch.no_grad()
@pytest.mark.parametrize("groups", [1, 2, 3])
def test_losses_are_group_means_over_labelled_rows(groups, base, model, rows, preferences, policies):
    members = [range(start, start + 12 // groups) for start in range(0, 12, 12 // groups)]
    losses = KTO(NAMES, BETA, **WEIGHTS).losses(model, KTO(NAMES).collate(rows), preferences[:groups])
    expected = expected_values(policies[:groups], base, rows, members, **WEIGHTS)
    assert losses.shape == (groups, 3)
    torch.testing.assert_close(losses, expected.reshape(groups, -1, 3).nanmean(dim=1), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_rows_do_not_depend_on_their_order_or_on_other_groups(model, rows, preferences):
    """A permutation of all rows with their preferences, groups torn apart; and each group alone."""
    kto, row_preferences = KTO(NAMES, BETA), preferences.repeat_interleave(4, dim=0)
    together = row_values(kto, model, rows, row_preferences)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(1))
    mixed = row_values(kto, model, [rows[i] for i in order], row_preferences[order])
    assert_rows_equal(mixed, together[order])
    for members in GROUPS:
        alone = row_values(kto, model, [rows[i] for i in members], row_preferences[list(members)])
        assert_rows_equal(alone, together[list(members)])


@torch.no_grad()
def test_groups_under_the_same_preference_share_their_reference_point(base, model, rows, preferences, policies):
    steer(policies[0], base, rows, GROUPS[0], largest=True)
    expected = expected_values([policies[0], policies[1]], base, rows, [[*GROUPS[0], *GROUPS[2]], GROUPS[1]])
    apart = expected_values([policies[0], policies[1], policies[0]], base, rows, GROUPS)
    assert (expected - apart)[:4].abs().nan_to_num().max() > 0.01, "pooling must matter"
    losses = KTO(NAMES, BETA).losses(model, KTO(NAMES).collate(rows), preferences[[0, 1, 0]])
    torch.testing.assert_close(losses, expected.reshape(3, 4, 3).nanmean(dim=1), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_preferences_that_share_a_weight_are_not_the_same(base, model, rows, merge_by_hand):
    """Each two of these are alike on one objective, and all three rows sum up to the same."""
    preferences = torch.tensor([[0.5, 0.3, 0.2], [0.5, 0.1, 0.4], [0.3, 0.3, 0.4]])
    policies = [merge_by_hand(base, model, preference) for preference in preferences]
    for policy, members, largest in zip(policies, GROUPS, (True, False, True), strict=True):
        steer(policy, base, rows, members, largest)
    values = row_values(KTO(NAMES, BETA), model, rows, preferences.repeat_interleave(4, dim=0))
    assert_rows_equal(values, expected_values(policies, base, rows, GROUPS))


@torch.no_grad()
def test_padding_changes_nothing(model, rows, preferences):
    """One row of fifty tokens makes all others of its batch as wide."""
    kto, row_preferences = KTO(NAMES, BETA), preferences[[0] * 4 + [2] * 4]
    expected = row_values(kto, model, rows[:4], row_preferences[:4])
    for name in ("response_ids", MISMATCHED):
        wide = copy.deepcopy(rows[:8])
        wide[7][name] = [5 + i for i in range(50)]
        assert_rows_equal(row_values(kto, model, wide, row_preferences)[:4], expected)


@pytest.mark.parametrize("weights", [{}, WEIGHTS], ids=["equal", "weighted"])
def test_at_the_start_every_loss_is_half_its_weight(weights, base, rows, preferences):
    """π = π_ref: h and z vanish, and 1 − σ(0) = ½, for every λ. The reference has no adapters."""
    model = PreferenceModel(copy.deepcopy(base), CONFIG).train()
    values = row_values(KTO(NAMES, BETA, **weights), model, rows, preferences.repeat_interleave(4, dim=0))
    good, bad = weights.get("desirable_weight", 1.0), weights.get("undesirable_weight", 1.0)
    expected = torch.tensor([math.nan, bad / 2, good / 2])[torch.tensor(LABELS) + 1]
    assert_rows_equal(values.detach(), expected, atol=1e-6)


@torch.no_grad()
def test_a_larger_log_ratio_is_better_for_good_answers_and_worse_for_bad_ones():
    """Signs, from the meaning alone: z = 0 here."""
    ratios = torch.stack([torch.tensor([-4.0, -1.0, 0.0, 1.0, 4.0]), torch.zeros(5)], dim=-1)[None].double()
    good, bad = (
        torch.cat([KTO(("a",)).losses_of_log_ratios(ratios[:, [i]], torch.tensor([[label]])) for i in range(5)])
        for label in (1, 0)
    )
    assert (good.diff(dim=0) < 0).all()
    assert (bad.diff(dim=0) > 0).all()
    torch.testing.assert_close(good + bad, torch.ones(5, 1).double())


# The reference point z.


@torch.no_grad()
def test_labels_do_not_move_the_reference_point(model, rows, preferences):
    """Not even of a row without any: it still tells how far the policy is from the reference."""
    kto, row_preferences = KTO(NAMES, BETA), preferences.repeat_interleave(4, dim=0)
    before = row_values(kto, model, rows, row_preferences)
    rows[1]["labels"] = [-1, -1, -1]
    rows[2]["labels"] = [1, 1, 1]
    after = row_values(kto, model, rows, row_preferences)
    others = [i for i in range(12) if i not in (1, 2)]
    assert torch.equal(after[others].nan_to_num(), before[others].nan_to_num())
    assert after[1].isnan().all()


@torch.no_grad()
@pytest.mark.parametrize("changed", [5, 9], ids=["a labelled row", "a row without labels"])
def test_one_mismatched_response_moves_its_whole_group_and_no_other(changed, base, model, rows, preferences, policies):
    kto, row_preferences, group = KTO(NAMES, BETA), preferences.repeat_interleave(4, dim=0), changed // 4
    steer(policies[group], base, rows, GROUPS[group], largest=True)
    before = row_values(kto, model, rows, row_preferences)
    steer(policies[group], base, rows, [changed], largest=False)
    differences = (row_values(kto, model, rows, row_preferences) - before).abs().reshape(3, 12)
    for index in range(3):
        of_group = differences[index][~differences[index].isnan()]
        assert (of_group > 1e-3).all() if index == group else (of_group < 1e-6).all()


@torch.no_grad()
def test_responses_of_a_group_do_not_move_the_reference_point(model, rows, preferences):
    """z is an estimate from mismatched pairs; the answers themselves are of a chosen kind."""
    kto, row_preferences = KTO(NAMES, BETA), preferences.repeat_interleave(4, dim=0)
    before = row_values(kto, model, rows, row_preferences)
    rows[0]["response_ids"] = [50, 60, 70, 80, 90, 10]
    after = row_values(kto, model, rows, row_preferences)
    assert (after - before)[0].abs().max() > 1e-2
    assert_rows_equal(after[1:], before[1:], atol=1e-6)


@pytest.mark.parametrize(("mean", "z"), [(-2.5, 0.0), (-1e-3, 0.0), (0.0, 0.0), (1e-3, 1e-3), (2.5, 2.5)])
def test_the_reference_point_is_clamped_after_the_mean(mean, z):
    """The mean of four of which two are below 0: clamped one by one they would give another z."""
    mismatched = torch.tensor([mean + 3, mean - 3, mean + 1, mean - 1], dtype=torch.float64)
    answers = torch.tensor([0.4, -0.7, 1.1, 0.2], dtype=torch.float64)
    losses = KTO(("a",), BETA).losses_of_log_ratios(
        torch.stack([answers, mismatched], dim=-1)[None], torch.tensor([[1], [0], [1], [-1]])
    )
    expected = [row_loss(answers[i], torch.tensor(z).double(), label) for i, label in enumerate((1, 0, 1))]
    torch.testing.assert_close(losses[0, 0], sum(expected) / 3, atol=1e-12, rtol=1e-12)


def test_each_preference_of_an_evaluation_has_its_own_reference_point():
    ratios = torch.randn(3, 6, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ratios[:, :, 1] += torch.tensor([2.0, -2.0, 0.5])[:, None]
    labels = torch.tensor(LABELS[:6])
    kto = KTO(NAMES, BETA, **WEIGHTS)
    losses = kto.losses_of_log_ratios(ratios, labels)
    for index in range(3):
        torch.testing.assert_close(
            losses[index : index + 1], kto.losses_of_log_ratios(ratios[index : index + 1], labels)
        )
    assert (losses[0] - losses[1]).abs().min() > 1e-3


ratio_values = st.floats(-20, 20, allow_nan=False)


@settings(max_examples=60, deadline=None)
@given(
    table=st.lists(
        st.tuples(ratio_values, ratio_values, st.tuples(*[st.sampled_from([1, 0, -1])] * 2)), min_size=1, max_size=9
    ),
    good=st.floats(0.05, 5),
    bad=st.floats(0.05, 5),
)
def test_losses_of_log_ratios_equal_a_loop(table, good, bad):
    """Two more rows so that each objective has a label."""
    table = [*table, (0.5, -1.0, (1, 0)), (-2.0, 3.0, (0, 1))]
    ratios = torch.tensor([row[:2] for row in table], dtype=torch.float64)
    labels = torch.tensor([row[2] for row in table])
    losses = KTO(("a", "b"), BETA, good, bad).losses_of_log_ratios(ratios[None], labels)
    z = max(0.0, sum(row[1] for row in table) / len(table))
    for j in range(2):
        shares = []
        for h, _, values in table:
            if values[j] == 1:
                shares.append(good * (1 - 1 / (1 + math.exp(-BETA * (h - z)))))
            elif values[j] == 0:
                shares.append(bad * (1 - 1 / (1 + math.exp(-BETA * (z - h)))))
        assert losses[0, j].item() == pytest.approx(sum(shares) / len(shares), abs=1e-9)
    assert ((losses >= 0) & (losses <= max(good, bad))).all()


def test_log_ratios_beyond_exp_stay_finite():
    """A policy that has given an answer up: h = −3000 nats."""
    ratios = torch.tensor([[-3000.0, 0.0], [3000.0, 0.0]])[None]
    losses = KTO(("a", "b"), 1.0).losses_of_log_ratios(ratios, torch.tensor([[0, 1], [1, 0]]))
    assert losses.tolist() == [[0.0, 1.0]]


# Gradients.


def adapter_gradients(loss: Tensor, model: nn.Module, **options: bool) -> Tensor:
    parameters = [p for p in model.parameters() if p.requires_grad]
    return torch.cat([gradient.flatten() for gradient in torch.autograd.grad(loss, parameters, **options)])


def written_loss(model: nn.Module, base: nn.Module, rows: list[dict], preference: Tensor, z: Tensor | None) -> Tensor:
    """The sum of all labelled losses of a group, from unpadded rows; z with its gradient where it is not given."""
    if z is None:
        ratios = [log_ratio(model, base, row, MISMATCHED, preferences=preference) for row in rows]
        z = torch.stack(ratios).mean().clamp(min=0)
    total = torch.zeros((), dtype=torch.float64)
    for row in rows:
        h = log_ratio(model, base, row, "response_ids", preferences=preference)
        total = total + sum(row_loss(h, z, label, **WEIGHTS) for label in row["labels"] if label >= 0)
    return total


def test_gradients_are_those_of_the_formula_with_z_a_constant(base, randomise, rows, preferences, merge_by_hand):
    """In float64; with a gradient through z it would be another."""
    base = base.double()
    model = randomise(PreferenceModel(copy.deepcopy(base), CONFIG), std=0.15).double()
    for parameter in base.parameters():
        parameter.requires_grad_(False)
    rows, preference = rows[:6], preferences[0].double()
    policy = merge_by_hand(base, model, preference)
    z = steer(policy, base, rows, range(6), largest=True)
    values, labelled = KTO(NAMES, BETA, **WEIGHTS).row_losses(model, KTO(NAMES).collate(rows), preference.expand(6, 3))
    assert values.dtype == torch.float64
    gradients = adapter_gradients(values[labelled].sum(), model)
    expected = adapter_gradients(written_loss(model, base, rows, preference, z.detach()), model)
    assert expected.abs().max() > 1e-2
    # The reference is kept in float32 on its way to a row.
    torch.testing.assert_close(gradients, expected, atol=1e-5 * expected.abs().max().item(), rtol=1e-5)
    through_z = adapter_gradients(written_loss(model, base, rows, preference, None), model)
    assert (through_z - expected).abs().max() > 0.1 * expected.abs().max()


def test_gradients_agree_with_finite_differences(make_gpt2, randomise, rows, preferences, merge_by_hand):
    """Along random directions in float64, below the clamp, where z is 0 before and after the step."""
    base = make_gpt2().double()  # Llama norms and rotates in float32 whatever its weights are.
    model = randomise(PreferenceModel(copy.deepcopy(base), CONFIG), std=0.15).double()
    rows, row_preferences = rows[:4], preferences[:1].double().expand(4, 3)
    assert steer(merge_by_hand(base, model, preferences[0].double()), base, rows, range(4), largest=False) < -0.5
    kto = KTO(NAMES, BETA, **WEIGHTS)
    batch = kto.collate(rows)

    def loss() -> Tensor:
        values, labelled = kto.row_losses(model, batch, row_preferences)
        return values[labelled].sum()

    gradients = adapter_gradients(loss(), model)
    parameters = [p for p in model.parameters() if p.requires_grad]
    start = nn.utils.parameters_to_vector(parameters).detach().clone()
    generator = torch.Generator().manual_seed(2)
    for _ in range(3):
        direction = torch.randn(start.shape, generator=generator, dtype=torch.float64)
        ends = []
        for step in (1e-5, -1e-5):
            nn.utils.vector_to_parameters(start + step * direction, parameters)
            ends.append(loss().item())
        nn.utils.vector_to_parameters(start, parameters)
        assert (ends[0] - ends[1]) / 2e-5 == pytest.approx((gradients @ direction).item(), rel=1e-4, abs=1e-5)


def test_gradients_are_finite_and_reach_every_adapter(model, rows, preferences):
    KTO(NAMES, BETA).losses(model, KTO(NAMES).collate(rows), preferences).sum().backward()
    gradients = [p.grad for p in model.parameters() if p.requires_grad]
    assert all(g is not None and torch.isfinite(g).all() for g in gradients)
    assert all(p.grad is None for p in model.parameters() if not p.requires_grad)
    assert all(g.abs().max() > 0 for g in gradients)


def test_unlabelled_rows_have_no_gradient(model, rows, preferences):
    """Another answer in a row without labels: losses and gradients of the others stay."""
    results = []
    for response in (rows[9]["response_ids"], [50, 60, 70, 80]):
        rows[9]["response_ids"] = response
        losses = KTO(NAMES, BETA).losses(model, KTO(NAMES).collate(rows), preferences)
        results.append((losses.detach(), adapter_gradients(losses.sum(), model)))
    torch.testing.assert_close(results[0], results[1], atol=1e-5, rtol=1e-4)


def test_an_extreme_unlabelled_row_changes_nothing(model, rows, preferences):
    for row in rows:
        row["labels"] = [1, 0, -1]
    values, labelled = KTO(NAMES, beta=1e30).row_losses(
        model, KTO(NAMES).collate(rows), preferences.repeat_interleave(4, dim=0)
    )
    assert not labelled[:, 2].any()
    values[labelled].sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.requires_grad)


# Several objectives.


def test_each_objective_is_a_run_of_its_own(model, rows, preferences):
    """Values and gradients of a column are those of KTO on that column alone, with the same z."""
    losses = KTO(NAMES, BETA, **WEIGHTS).losses(model, KTO(NAMES).collate(rows), preferences)
    for j, name in enumerate(NAMES):
        alone = KTO((name,), BETA, **WEIGHTS)
        column = [{**row, "labels": [row["labels"][j]]} for row in rows]
        values, labelled = alone.row_losses(model, alone.collate(column), preferences.repeat_interleave(4, dim=0))
        single = values.masked_fill(~labelled, math.nan).reshape(3, 4).nanmean(dim=1)
        torch.testing.assert_close(losses[:, j], single, atol=1e-6, rtol=1e-6)
        gradients = [adapter_gradients(loss, model, retain_graph=True) for loss in (losses[:, j].sum(), single.sum())]
        torch.testing.assert_close(*gradients, atol=1e-5, rtol=1e-4)


@contextmanager
def counted_forwards(module: nn.Module) -> Iterator[list[tuple[int, bool]]]:
    """How many rows of tokens each forward of a module sees, and whether with gradients."""
    seen: list[tuple[int, bool]] = []
    handle = module.register_forward_hook(
        lambda _module, _inputs, output: seen.append((output.logits.shape[0], torch.is_grad_enabled()))
    )
    yield seen
    handle.remove()


@pytest.mark.parametrize("m", [1, 2, 6])
def test_cost_does_not_grow_with_the_number_of_objectives(m, make_llama, randomise, rows):
    """One policy and one reference forward of answers and of mismatched ones; a gradient for the answers alone."""
    names = tuple("abcdef"[:m])
    for row in rows:
        row["labels"] = [1] * m
    model = randomise(PreferenceModel(make_llama(), SVDLoRAConfig(objectives=names, rank=2)))
    forward_traits(model)  # Tried once a model, on a few tokens.
    kto, preferences = KTO(names), torch.full((3, m), 1 / m)
    with counted_forwards(model.base_model) as seen:
        kto.losses(model, kto.collate(rows), preferences)
    assert len(seen) == 4
    assert sum(gradients for _, gradients in seen) == 1
    batch = kto.collate(kto.precompute(model, rows))
    with counted_forwards(model.base_model) as seen:
        kto.losses(model, batch, preferences)
    assert sorted(gradients for _, gradients in seen) == [False, True], "with cached references only the policy runs"


def test_a_batch(model, rows):
    kto = KTO(NAMES)
    batch = kto.collate(rows)
    assert type(batch) is UnpairedBatch
    assert UnpairedBatch in kto.record_types
    assert kto.num_rows(batch) == 12
    complete = kto.complete(model, batch)
    assert kto.complete(model, complete) is complete


def test_labels(rows):
    assert KTO(NAMES).labels(rows).tolist() == LABELS
    assert torch.equal(KTO(NAMES).labelled(rows), torch.tensor(LABELS) >= 0)


def test_repr_tells_the_options():
    kto = KTO(("a", "b"), beta=0.2, desirable_weight=1.5, undesirable_weight=0.5, disable_dropout=False)
    expected = "KTO(names=('a', 'b'), beta=0.2, desirable_weight=1.5, undesirable_weight=0.5, disable_dropout=False)"
    assert repr(kto) == expected


def test_a_training_logs_rewards_accuracies_and_the_estimate_of_the_kl(base, model, rows, preferences, policies):
    kto = KTO(NAMES, beta=BETA)
    losses = kto.training_losses(model, kto.collate(rows), preferences)
    torch.testing.assert_close(losses.values, kto.losses(model, kto.collate(rows), preferences))
    points, ratios = [], []
    for group, policy in zip(GROUPS, policies, strict=True):
        members = [rows[i] for i in group]
        mismatched = [log_ratio(policy, base, row, MISMATCHED).item() for row in members]
        points += [max(0.0, sum(mismatched) / 4)] * 4
        ratios += [log_ratio(policy, base, row, "response_ids").item() for row in members]
    shown = {name: float(metric.value) for name, metric in losses.metrics.items()}
    assert shown.pop("kl") == pytest.approx(sum(points) / 12, abs=1e-5)
    expected = {}
    for index, name in enumerate(NAMES):
        labels = [row["labels"][index] for row in rows]
        good, bad = ([BETA * h for h, label in zip(ratios, labels, strict=True) if label == which] for which in (1, 0))
        correct = [(h > z) == (label == 1) for h, z, label in zip(ratios, points, labels, strict=True) if label >= 0]
        expected |= {
            f"reward_good/{name}": sum(good) / len(good),
            f"reward_bad/{name}": sum(bad) / len(bad),
            f"accuracy/{name}": sum(correct) / len(correct),
        }
    assert shown == pytest.approx(expected, abs=1e-5)
    weights = {name: int(metric.weight) for name, metric in losses.metrics.items()}
    assert weights["kl"] == 12
    assert weights["reward_good/helpful"] == sum(row["labels"][0] == 1 for row in rows)

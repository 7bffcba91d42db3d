import math

import pytest
import torch
from hypothesis import given, strategies as st

from mopref.baselines import MODPO, Trainings, mixed_model, modpo_losses
from mopref.baselines.modpo import modpo, with_corner_margins
from mopref.baselines.plain_lora import trained_lora
from mopref.baselines.soups import corner_loras
from mopref.llm.policy import Policy
from mopref.objectives import DPO
from mopref.objectives.dpo import preference_signs, sigmoid_loss
from mopref.preferences import simplex_lattice

NAMES = ("helpful", "harmless")


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


@pytest.mark.parametrize(("label", "sign"), [(0, 1.0), (1, -1.0)])
def test_the_gradient_on_a_hand_example(label, sign):
    """One pair, λ = (.25, .75), k = 0, β = .1, d_θ = 3, d_1 = −2."""
    margin = torch.tensor([3.0], dtype=torch.float64, requires_grad=True)
    corner = torch.tensor([[50.0, -2.0]], dtype=torch.float64)
    loss = modpo_losses(margin, corner, torch.tensor([label]), torch.tensor([0.25, 0.75]).double(), 0, beta=0.1)
    loss.sum().backward()
    # (1/.25)·[.1·c·3 − .75·c·(.1·(−2))] = 4·c·(.3 + .15) = 1.8 c
    assert loss.item() == pytest.approx(-math.log(sigmoid(1.8 * sign)))
    # −σ(−1.8 c)·β·c/λ_k
    assert margin.grad.item() == pytest.approx(-sigmoid(-1.8 * sign) * 0.1 * sign / 0.25)


@given(
    first=st.floats(0.05, 1.0),
    d=st.floats(-20, 20),
    corner=st.floats(-20, 20),
    label=st.sampled_from([0, 1]),
)
def test_its_optimum_is_where_the_linear_rewards_say(first, d, corner, label):
    """The loss is DPO's of the margin (β·d − Σ_{j≠k} λ_j r_j)/λ_k, so it is least where λ_k r_k + λ_j r_j = β·d."""
    preference, beta = torch.tensor([first, 1 - first], dtype=torch.float64), 0.3
    labels = torch.tensor([label])
    own = modpo_losses(
        torch.tensor([d], dtype=torch.float64),
        torch.tensor([[1e3, corner]], dtype=torch.float64),
        labels,
        preference,
        0,
        beta,
    )
    implied = (d - (1 - first) * corner) / first
    assert own.item() == pytest.approx(sigmoid_loss(preference_signs(labels).double() * implied, beta).item(), rel=1e-9)


def test_it_is_dpo_at_its_own_corner_and_0_without_a_label():
    margins, labels = torch.tensor([1.0, -2.0, 5.0]), torch.tensor([0, 1, -1])
    losses = modpo_losses(margins, torch.full((3, 2), 7.0), labels, torch.tensor([0.0, 1.0]), 1, beta=0.1)
    expected = sigmoid_loss(torch.tensor([1.0, 2.0, 0.0]), 0.1)
    assert torch.allclose(losses, torch.where(labels < 0, torch.zeros(3), expected))


def test_an_end_point_without_its_objective_is_refused():
    with pytest.raises(ValueError, match="weight 0 for 'helpful'"):
        MODPO(NAMES, [0.0, 1.0], index=0)
    with pytest.raises(ValueError, match="index 2"):
        MODPO(NAMES, [0.5, 0.5], index=2)


@pytest.fixture(scope="module")
def rows_with_margins(trainings, rows):
    loras, setup = corner_loras(trainings), trainings.setup
    model = mixed_model(setup.make_model, setup.adapter, loras)
    return with_corner_margins(model, setup.objective, rows, batch_size=3)


def test_the_margins_are_those_of_the_merged_corner_models(rows_with_margins, trainings, rows, merged, base):
    """By plain models of transformers, one sequence at a time."""
    loras = corner_loras(trainings)
    for index in range(2):
        corner = merged(loras, [float(index == 0), float(index == 1)])

        def h(row, response, corner=corner):
            ids = torch.tensor([row["prompt_ids"] + row[response]])
            start = len(row["prompt_ids"]) - 1
            with torch.no_grad():
                new, old = (model(input_ids=ids).logits[0, start:-1].log_softmax(-1) for model in (corner, base))
            targets = torch.tensor(row[response])[:, None]
            return float((new.gather(1, targets) - old.gather(1, targets)).sum())

        for row in rows_with_margins:
            expected = h(row, "response_0_ids") - h(row, "response_1_ids")
            assert float(row["corner_margins"][index]) == pytest.approx(expected, abs=1e-4)


def test_the_objective_has_the_formula_of_the_models_margins(rows_with_margins, trainings, make_model, randomise):
    objective = MODPO(NAMES, {"harmless": 0.75, "helpful": 0.25}, index=0, beta=0.2)
    model = randomise(make_model(trainings.setup.adapter)).eval()
    preferences = torch.tensor([[0.25, 0.75]]).expand(len(rows_with_margins), -1)
    batch = objective.complete(model, objective.collate(rows_with_margins))
    losses = objective.row_losses(model, batch, preferences)
    margins = DPO(NAMES, beta=0.2).all_scores(model, rows_with_margins, [0.25, 0.75], 4)[0]
    labels = torch.tensor([row["labels"][0] for row in rows_with_margins])
    corner = torch.stack([row["corner_margins"] for row in rows_with_margins])
    known = (corner, labels, torch.tensor([0.25, 0.75]), 0, 0.2)
    expected = modpo_losses((margins[:, 0] - margins[:, 1]).float(), *known)
    assert torch.allclose(losses.values, expected[:, None].expand(-1, 2), atol=1e-5)
    assert torch.equal(losses.labelled, (labels >= 0)[:, None].expand(-1, 2))
    assert torch.equal(objective.labelled(rows_with_margins), losses.labelled)


def test_interior_runs_have_the_margin_and_end_points_are_plain(trainings):
    preferences = simplex_lattice(2, 3)
    policy = modpo(trainings, preferences)
    assert policy.budget.runs == 3
    own = policy.model._loras
    for place, preference in enumerate(preferences.tolist()):
        plain = trained_lora(trainings, preference)
        name = next(iter(plain.factors))
        is_same = torch.equal(own[place].factors[name][1], plain.factors[name][1])
        assert is_same == (max(preference) == 1.0)


def test_runs_that_are_not_served_count_too(trainings):
    policy = modpo(trainings, torch.tensor([[0.5, 0.5]]))
    assert policy.budget.runs == 3
    assert policy.budget.stored_parameters == policy.budget.trained_parameters / 3


def test_another_loss_is_refused(make_setup):
    from mopref.baselines import Trainings

    for objective in (DPO(NAMES, loss="ipo"), DPO(NAMES, length_normalized=True)):
        with pytest.raises(ValueError, match="MODPO's margin is defined for DPO"):
            modpo(Trainings(make_setup(objective=objective)), simplex_lattice(2, 3))


def test_it_is_measured_at_what_it_was_trained_for(trainings, rows):
    policy = modpo(trainings, simplex_lattice(2, 3))
    losses = policy.at([0.5, 0.5]).mean_losses(trainings.setup.objective, rows)
    assert losses.isfinite().all()
    assert Policy(policy.model).conditioned is policy.model.module


def test_each_index_has_runs_of_its_own(trainings):
    """k is in the names of its trainings: the second objective's are none of the first one's."""
    centre = torch.tensor([[0.5, 0.5]])
    own = [modpo(trainings, centre, index).model._loras[0].factors for index in (0, 1, 0)]
    first, second, again = (next(iter(factors.values()))[1] for factors in own)
    assert not torch.equal(first, second)
    assert torch.equal(first, again)


@pytest.mark.parametrize("index", [-1, 2])
def test_an_index_that_no_objective_has_is_refused(trainings, index):
    with pytest.raises(ValueError, match=f"index is {index}: there are 2 objectives, numbered from 0"):
        modpo(trainings, torch.tensor([[0.5, 0.5]]), index)


def test_forwards_for_the_margins_count(make_setup, monkeypatch):
    calls: list[None] = []

    def counted(model, *given):
        rows = with_corner_margins(model, *given)
        # Once more, since the first forwards of a model find out what it can.
        handle = model.base_model.register_forward_pre_hook(lambda *_: calls.append(None))
        with_corner_margins(model, *given)
        handle.remove()
        return rows

    monkeypatch.setattr("mopref.baselines.modpo.with_corner_margins", counted)
    plain, lattice = make_setup(), simplex_lattice(2, 3)
    # The reference is computed before, as in a comparison, and counts for nobody.
    known = plain.objective.precompute(plain.make_model(plain.adapter), plain.rows)
    trainings = Trainings(make_setup(rows=known))
    policy = modpo(trainings, lattice)
    runs = sum(lora.cost.forwards for lora in policy.model._loras)
    assert policy.budget.forwards == runs + len(calls) > runs
    assert modpo(trainings, lattice).budget.forwards == policy.budget.forwards, "found trainings had them, too"
    ends = modpo(trainings, torch.eye(2))
    assert ends.budget.forwards == sum(lora.cost.forwards for lora in ends.model._loras)

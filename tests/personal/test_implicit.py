"""Margins of a language model, and the preference of a person who chose between its pairs."""

import copy

import numpy as np
import pytest
import torch
from torch.nn.functional import logsigmoid

from mopref import PreferenceModel, SVDLoRAConfig
from mopref.llm.policy import Policy
from mopref.personal import fit_choices, fit_preference, margin_nodes, pair_margins

NAMES = ("helpful", "harmless")


@pytest.fixture
def model(make_llama, randomise):
    """A tiny Llama whose adapters are random and small enough for λ to act smoothly."""
    return randomise(PreferenceModel(make_llama(), SVDLoRAConfig(NAMES, rank=2, preference_rank=2)), std=0.08)


@pytest.fixture
def pairs(make_pairs):
    return make_pairs([[0, 1]] * 24)


def margin(model, row, preference, beta):
    """β [h(y_0) − h(y_1)] of one pair at one λ, by single plain forwards."""
    values = []
    with torch.no_grad():
        for response in (row["response_0_ids"], row["response_1_ids"]):
            ids = torch.tensor([row["prompt_ids"] + response])
            targets, start = ids[0, len(row["prompt_ids"]) :], len(row["prompt_ids"]) - 1
            policy = model(ids, preferences=preference).logits
            with model.disabled():
                reference = model(ids).logits
            logs = [
                part[0, start:-1].double().log_softmax(-1).gather(1, targets[:, None]).sum()
                for part in (policy, reference)
            ]
            values.append(logs[0] - logs[1])
    return float(beta * (values[0] - values[1]))


def test_at_the_nodes_they_are_those_of_single_forwards(model, pairs):
    found = pair_margins(model, pairs[:5], beta=0.3, steps=2, batch_size=2)
    assert (found.names, found.steps, len(found)) == (NAMES, 2, 5)
    for number, row in enumerate(pairs[:5]):
        for node, value in zip(margin_nodes(2, 2), found.values[number].tolist(), strict=True):
            assert value == pytest.approx(margin(model, row, node, 0.3), abs=1e-4)


def test_between_the_nodes_they_are_near(model, pairs):
    found = pair_margins(model, pairs[:6])
    for preference in ([0.9, 0.1], [0.35, 0.65]):
        exact = torch.tensor([margin(model, row, preference, 0.1) for row in pairs[:6]]).double()
        error = (found.at(preference)[:, 0] - exact).square().mean().sqrt()
        assert error < 0.02 * exact.square().mean().sqrt()


def test_the_batch_changes_nothing(model, pairs):
    one, many = (pair_margins(model, pairs, batch_size=size).values for size in (1, 24))
    torch.testing.assert_close(one, many, rtol=0, atol=1e-5)


def test_an_untrained_model_has_none(make_llama, pairs):
    untouched = PreferenceModel(make_llama(), SVDLoRAConfig(NAMES))
    assert pair_margins(untouched, pairs[:3]).values.abs().max() < 1e-5


def test_objectives_in_another_order_give_the_same_in_that_order(model, pairs, make_llama):
    other = PreferenceModel(make_llama(), SVDLoRAConfig(NAMES[::-1], rank=2, preference_rank=2))
    with torch.no_grad():
        for name, layer in model.adapters.items():
            own = other.adapters[name]
            # k general directions stay in front; those of one objective change places with the other's.
            order = torch.tensor([0, 1, 4, 5, 2, 3])
            own.U.copy_(layer.U[:, order]), own.V.copy_(layer.V[:, order])
            own.sigma.copy_(layer.sigma), own.scale.copy_(layer.scale)
    torch.testing.assert_close(
        pair_margins(other, pairs[:4]).at([0.3, 0.7]), pair_margins(model, pairs[:4]).at([0.7, 0.3]), rtol=0, atol=1e-5
    )


def test_the_model_is_left_as_it_was(model, pairs):
    model.train()
    before = copy.deepcopy(model.state_dict())
    pair_margins(model, pairs[:2])
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_pairs_of_the_same_tokens_have_one_key(model, pairs):
    swapped = pairs[0] | {"response_0_ids": pairs[0]["response_1_ids"], "response_1_ids": pairs[0]["response_0_ids"]}
    found = pair_margins(model, [pairs[0], swapped, pairs[1]])
    assert found.keys[0] == found.keys[1] != found.keys[2]
    torch.testing.assert_close(found.values[0], -found.values[1], rtol=0, atol=1e-5)


def test_a_model_that_bends_more_than_the_polynomial_is_told(make_llama, randomise, pairs):
    wild = randomise(PreferenceModel(make_llama(), SVDLoRAConfig(NAMES, rank=2, preference_rank=2)), std=1.0)
    with pytest.warns(UserWarning, match="give more steps"):
        pair_margins(wild, pairs[:4], steps=1)


def test_fitting_is_margins_and_then_choices(model, pairs):
    comparisons = [row | {"choice": n % 2} for n, row in enumerate(pairs[:6])]
    preference, region = fit_preference(model, comparisons, beta=0.2, alpha=2.0, level=0.8)
    margins = pair_margins(model, pairs[:6], beta=0.2)
    expected = fit_choices(margins, {n: n % 2 for n in range(6)}, alpha=2.0, level=0.8)
    torch.testing.assert_close(preference, expected.preference, rtol=0, atol=1e-6)
    assert torch.equal(region.inside, expected.region.inside)


@pytest.mark.parametrize("truth", [[0.85, 0.15], [0.2, 0.8]])
def test_other_choices_are_predicted_better_than_at_the_centre(model, make_pairs, truth):
    """A person of known λ who answers by the model's own margins, seldom against them."""
    rows = make_pairs([[0, 1]] * 60)
    true_margins = pair_margins(model, rows, beta=1.0).at(truth)[:, 0]
    beta = 2.5 / true_margins.abs().mean()
    chances = (beta * true_margins).sigmoid().numpy()
    choices = (np.random.default_rng(0).random(len(rows)) > chances).astype(int)
    asked = [row | {"choice": int(choice)} for row, choice in zip(rows[:40], choices[:40], strict=True)]
    decisiveness = [float(beta) / 4, float(beta), float(beta) * 4]
    preference, _ = fit_preference(model, asked, beta=1.0, decisiveness=decisiveness)
    others = pair_margins(model, rows[40:], beta=1.0)
    signs = torch.from_numpy(1.0 - 2.0 * choices[40:])
    fitted, centre = (logsigmoid(beta * signs * others.at(at)[:, 0]).mean() for at in (preference, [0.5, 0.5]))
    assert fitted > centre
    assert (preference - torch.tensor(truth).double()).abs().max() < 0.25


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"pairs": []}, ValueError, "pairs are empty"),
        ({"pairs": [{"prompt_ids": [3]}]}, ValueError, "response_0_ids"),
        ({"pairs": "rows.jsonl"}, TypeError, "give the rows themselves"),
        ({"beta": 0.0}, ValueError, "beta is 0"),
        ({"steps": 0}, ValueError, "steps is 0"),
        ({"batch_size": 0}, ValueError, "batch_size is 0"),
    ],
)
def test_what_is_wrong_is_named(model, pairs, options, error, message):
    with pytest.raises(error, match=message):
        pair_margins(model, **({"pairs": pairs[:2]} | options))


def test_tokens_that_the_model_has_not_are_refused_and_lengths_told(model, pairs):
    with pytest.raises(ValueError, match="100"):
        pair_margins(model, [pairs[0] | {"response_1_ids": [500]}])
    with pytest.warns(UserWarning, match="made for 64"):
        pair_margins(model, [pairs[0] | {"prompt_ids": [5] * 100}])


def test_a_model_without_a_reference_is_refused(make_llama, pairs):
    with pytest.raises(TypeError, match="PreferenceModel"):
        pair_margins(make_llama(), pairs[:2])


@pytest.mark.parametrize(("choice", "error"), [(2, ValueError), (-1, ValueError), ("0", TypeError), (None, TypeError)])
def test_a_choice_that_is_none_is_refused_before_any_forward(model, pairs, choice, error, monkeypatch):
    monkeypatch.setattr(Policy, "sequence_log_probabilities", lambda *options: pytest.fail("a forward was run"))
    with pytest.raises(error, match="row 1"):
        fit_preference(model, [pairs[0] | {"choice": 0}, pairs[1] | {"choice": choice}])
    with pytest.raises(ValueError, match="but no choice: say which response was chosen"):
        fit_preference(model, pairs[:2])
    with pytest.raises(ValueError, match=r"but no prompt_ids, .*: use tokenize_records"):
        fit_preference(model, [{"prompt": "a", "response_0": "b", "response_1": "c", "choice": 0}])


@pytest.mark.parametrize("option", ["alpha", "level", "beta", "steps"])
def test_numbers_out_of_range_are_refused_before_any_forward(model, pairs, option, monkeypatch):
    monkeypatch.setattr(Policy, "sequence_log_probabilities", lambda *options: pytest.fail("a forward was run"))
    with pytest.raises(ValueError, match=f"{option} is -2"):
        fit_preference(model, [pairs[0] | {"choice": 0}], **{option: -2})
    with pytest.raises(ValueError, match="decisiveness is empty"):
        fit_preference(model, [pairs[0] | {"choice": 0}], decisiveness=[])


def test_blocks_below_the_adapters_are_run_once_for_all_preferences(make_llama, randomise, pairs, monkeypatch):
    """And change nothing."""
    upper = randomise(PreferenceModel(make_llama(), SVDLoRAConfig(NAMES, rank=2, layers=[1])), std=0.1)
    # The model is tried, once, before what is counted.
    pair_margins(upper, pairs[:1])
    ran = []
    part = upper.base_model.model.layers[0].mlp
    part.register_forward_hook(lambda part, inputs, output: ran.append(output.numel()))
    shared = pair_margins(upper, pairs[:6], batch_size=3).values
    work = sum(ran)
    monkeypatch.setattr(Policy, "settled_frozen_layers", lambda *options: False)
    ran.clear()
    torch.testing.assert_close(pair_margins(upper, pairs[:6], batch_size=3).values, shared, rtol=0, atol=1e-5)
    assert 0 < work < 0.75 * sum(ran)

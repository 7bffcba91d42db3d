"""The pre-training term: the mean −log π of a token, under the step's preferences in turn."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from mopref.llm.policy import Policy
from mopref.llm.policy_gradient import PretrainingTerm

ROWS = [
    {"prompt_ids": [45], "response_ids": [46, 47, 48]},
    {"prompt_ids": [50, 51], "response_ids": [52]},
    {"prompt_ids": [60], "response_ids": [61, 62, 63, 64, 65]},
]


def token_losses(model, row, preference) -> torch.Tensor:
    """−log π of each response token, by a plain forward: ``(R,)``."""
    prompt, response = row["prompt_ids"], row["response_ids"]
    with torch.no_grad():
        logits = model(torch.tensor([prompt + response]), preferences=preference).logits[0, len(prompt) - 1 : -1]
    return cross_entropy(logits, torch.tensor(response), reduction="none")


def test_is_the_mean_negative_log_probability_of_a_token(model):
    preference = torch.tensor([[0.3, 0.7]])
    term = PretrainingTerm(ROWS[:1], coefficient=3.0, batch_size=1).loss(Policy(model), preference)
    assert term.shape == ()
    assert term.item() == pytest.approx(3 * token_losses(model, ROWS[0], preference).mean().item(), rel=1e-5)


def test_rows_are_drawn_at_random_and_share_the_preferences_in_turn(model):
    """A mean over all tokens of the batch, not over rows."""
    preferences = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    torch.manual_seed(2)
    term = PretrainingTerm(ROWS, batch_size=5).loss(Policy(model), preferences)
    torch.manual_seed(2)
    indices = torch.randint(3, (5,)).tolist()
    assert len(set(indices)) > 1
    losses = torch.cat([token_losses(model, ROWS[i], preferences[n % 2]) for n, i in enumerate(indices)])
    assert term.item() == pytest.approx(losses.mean().item(), rel=1e-5)
    turned = torch.cat([token_losses(model, ROWS[i], preferences[(n + 1) % 2]) for n, i in enumerate(indices)])
    assert abs(turned.mean() - losses.mean()) > 1e-3, "preferences matter, or their turn is not tested"


def test_gradient_reaches_the_adapters(model):
    PretrainingTerm(ROWS).loss(Policy(model), torch.tensor([[0.5, 0.5]])).backward()
    assert all(layer.U.grad.abs().max() > 0 for layer in model.adapters.values())


def test_its_repr_leaves_the_data_out():
    """Thousands of rows of token ids."""
    assert repr(PretrainingTerm(ROWS, coefficient=2.0)) == "PretrainingTerm(coefficient=2.0, batch_size=4)"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data": []}, "the pre-training data has no row: leave the term out, or give at least one"),
        ({"coefficient": 0.0}, r"coefficient is 0\.0: it must be positive, or leave the term out"),
        ({"coefficient": -1.0}, r"coefficient is -1\.0"),
        ({"batch_size": 0}, "batch_size is 0: it must be at least 1"),
    ],
)
def test_bad_settings_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        PretrainingTerm(**{"data": ROWS, **options})


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"data": [{}]}, ValueError, "use plain_text_rows"),
        ({"data": iter(ROWS)}, TypeError, "data is a list_iterator, whose rows cannot be had by their number"),
        ({"coefficient": "1"}, TypeError, "coefficient is '1'"),
        ({"coefficient": float("inf")}, ValueError, "coefficient is inf: it must be positive and finite"),
        ({"batch_size": 2.0}, TypeError, r"batch_size is 2\.0"),
    ],
)
def test_what_is_no_row_or_number_is_named(options, error, message):
    with pytest.raises(error, match=message):
        PretrainingTerm(**({"data": ROWS} | options))

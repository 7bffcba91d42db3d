"""Losses of one margin, by hand, and over the labels of m objectives."""

import json
import math

import pytest
import torch

from mopref.llm.pairs import LOSSES, MarginLoss
from mopref.llm.pairs.margin_losses import preference_signs, signed_margins

LABELS = torch.tensor([[0, 1, -1], [1, -1, 0]])
SETTINGS = [{}, {"loss": "ipo"}, {"loss": "hinge"}, {"loss": "robust"}, {"loss": "robust", "label_smoothing": 0.2}]


def by_hand(margin: float, beta: float, loss: str = "sigmoid", label_smoothing: float = 0.1) -> float:
    """ℓ(d) of a signed margin in plain Python."""
    clean, flipped = (math.log1p(math.exp(-sign * beta * margin)) for sign in (1, -1))
    return {
        "sigmoid": clean,
        "ipo": (margin - 1 / (2 * beta)) ** 2,
        "hinge": max(0.0, 1 - beta * margin),
        "robust": ((1 - label_smoothing) * clean - label_smoothing * flipped) / (1 - 2 * label_smoothing),
    }[loss]


@pytest.mark.parametrize("options", SETTINGS, ids=str)
def test_values_by_hand(options):
    margins = torch.tensor([1.5, -0.4], dtype=torch.float64)
    values = MarginLoss(beta=0.7, **options)(margins, LABELS)
    assert values.shape == (2, 3)
    for row, margin in enumerate(margins.tolist()):
        for objective, label in enumerate(LABELS[row].tolist()):
            if label >= 0:
                expected = by_hand(margin if label == 0 else -margin, 0.7, **options)
                assert values[row, objective].item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("options", SETTINGS, ids=str)
def test_margins_under_many_preferences_share_the_labels(options):
    """``(N, rows)`` to ``(N, rows, m)``: each preference as if it were alone."""
    margins = torch.randn(4, 2, generator=torch.Generator().manual_seed(0))
    loss = MarginLoss(beta=0.7, **options)
    together = loss(margins, LABELS)
    assert together.shape == (4, 2, 3)
    assert torch.equal(together, torch.stack([loss(of_one, LABELS) for of_one in margins]))


@pytest.mark.parametrize("options", SETTINGS, ids=str)
@pytest.mark.parametrize("extreme", [1e30, math.inf, -math.inf, math.nan])
def test_a_margin_without_a_label_counts_for_nothing(extreme, options):
    """It has the loss of margin 0 and no gradient, whatever it is."""
    labels = torch.tensor([[0, -1], [-1, -1]])
    margins = torch.tensor([0.5, extreme], requires_grad=True)
    values = MarginLoss(beta=0.7, **options)(margins, labels)
    neutral = by_hand(0.0, 0.7, **options)
    torch.testing.assert_close(values[labels < 0].detach(), torch.full((3,), neutral))
    values.sum().backward()
    assert margins.grad[1] == 0
    assert margins.grad[0] < 0, "the labelled one is to grow"


@pytest.mark.parametrize("options", SETTINGS, ids=str)
def test_a_larger_margin_the_right_way_costs_less(options):
    """Within IPO's aim ±1/(2β) and the hinge's ±1/β."""
    margins = torch.linspace(-0.7, 0.7, 10)
    values = MarginLoss(beta=0.7, **options)(margins, torch.tensor([[0, 1]] * 10))
    assert (values[:, 0].diff() < 0).all()
    assert (values[:, 1].diff() > 0).all()


def test_signs_and_signed_margins():
    assert preference_signs(torch.tensor([0, 1, -1])).tolist() == [1, -1, 0]
    signed = signed_margins(torch.tensor([2.0, 3.0]), LABELS)
    assert signed.tolist() == [[2, -2, 0], [-3, 0, 3]]
    assert signed_margins(torch.tensor([math.nan, math.inf]), torch.tensor([[-1], [-1]])).tolist() == [[0], [0]]


def test_the_losses_are_four_and_a_new_one_is_one_function():
    assert set(LOSSES) == {"sigmoid", "ipo", "hinge", "robust"}
    for name in LOSSES:
        value = LOSSES.find(name)(torch.tensor([1.5], dtype=torch.float64), 0.7).item()
        assert value == pytest.approx(by_hand(1.5, 0.7, name), rel=1e-12)


def test_large_margins_do_not_overflow():
    for name in ("sigmoid", "robust"):
        margins = torch.tensor([-1e5, 1e5], requires_grad=True)
        values = MarginLoss(name, beta=1.0)(margins, torch.tensor([[0], [0]]))
        assert torch.isfinite(values).all()
        values.sum().backward()
        assert torch.isfinite(margins.grad).all()
        assert values[0] > 9e4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beta": 0.0}, r"beta is 0\.0: it must be positive and finite\."),
        ({"beta": -0.1}, r"beta is -0\.1"),
        ({"beta": math.nan}, "beta is nan"),
        ({"beta": math.inf}, "beta is inf"),
        ({"loss": "cubic"}, "unknown DPO loss 'cubic': choose one of sigmoid, ipo, hinge, robust"),
        ({"loss": "robust", "label_smoothing": 0.5}, r"label_smoothing is 0\.5"),
        ({"loss": "robust", "label_smoothing": -0.1}, r"label_smoothing is -0\.1"),
        ({"loss": "robust", "label_smoothing": math.nan}, "label_smoothing is nan"),
        ({"loss": "ipo", "label_smoothing": 0.0}, "label_smoothing belongs to the robust loss, not to 'ipo'"),
    ],
    ids=str,
)
def test_values_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        MarginLoss(**options)


def test_no_flipped_labels_leave_the_plain_loss():
    """ε = 0, the end of its range; and ε close to ½, the other."""
    margins = torch.tensor([1.5, -0.4], dtype=torch.float64)
    robust, plain = MarginLoss("robust", label_smoothing=0.0), MarginLoss("sigmoid")
    torch.testing.assert_close(robust(margins, LABELS), plain(margins, LABELS))
    value = MarginLoss("robust", 0.7, 0.49)(margins, LABELS)[0, 0].item()
    assert value == pytest.approx(by_hand(1.5, 0.7, "robust", 0.49), rel=1e-9)


def test_a_name_read_from_a_file_is_the_same_name():
    name = json.loads('"robust"')
    assert MarginLoss(name, label_smoothing=0.2).label_smoothing == 0.2


@pytest.mark.parametrize(
    "options", [{"beta": "1"}, {"loss": 3}, {"loss": "robust", "label_smoothing": "no"}, {"beta": None}], ids=str
)
def test_values_of_another_type_are_refused(options):
    name = "label_smoothing" if "label_smoothing" in options else next(iter(options))
    with pytest.raises(TypeError, match=f"{name} is "):
        MarginLoss(**options)


def test_repr():
    assert repr(MarginLoss("robust", 0.2, 0.3)) == "MarginLoss(loss='robust', beta=0.2, label_smoothing=0.3)"
    assert repr(MarginLoss()) == "MarginLoss(loss='sigmoid', beta=0.1, label_smoothing=None)"

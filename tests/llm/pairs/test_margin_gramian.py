"""Products of gradients in the space of margins: their formula, and what they are beside those of the parameters."""

import pytest
import torch
from torch import nn

from mopref.gradients import cosines, gramians
from mopref.llm.pairs import MarginLoss, margin_gramians

LABELS = torch.tensor([[0, 1], [0, 0], [1, -1], [1, 0]])
LOSSES = [MarginLoss(beta=0.5), MarginLoss("ipo", beta=0.7), MarginLoss("hinge", beta=2.0), MarginLoss("robust")]


def draw(groups=3, rows=4):
    return torch.randn(groups, rows, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_a_number_by_hand():
    """∂/∂d of −log σ(2 c d) at d = 0 is −c: (−1, 1)/2 over two pairs on one objective, (1, 0)/1 over one on another."""
    found = margin_gramians(torch.zeros(1, 2), torch.tensor([[0, 1], [1, -1]]), MarginLoss(beta=2.0))
    assert found.tolist() == [[[0.5, -0.5], [-0.5, 1.0]]]


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.loss)
def test_differences_give_the_same(loss):
    """Central ones of the mean loss over the pairs that are labelled."""
    margins, step = draw(), 1e-6
    for group, own in enumerate(margins):
        rows = []
        for place in range(len(own)):
            values = []
            for sign in (1, -1):
                moved = own.clone()
                moved[place] += sign * step
                each = loss(moved, LABELS)
                values.append(torch.stack([each[LABELS[:, i] >= 0, i].mean() for i in range(2)]))
            rows.append((values[0] - values[1]) / (2 * step))
        jacobian = torch.stack(rows)
        found = margin_gramians(margins, LABELS, loss)[group]
        torch.testing.assert_close(found, jacobian.T @ jacobian, atol=1e-7, rtol=1e-6)


def losses_of(margins, loss):
    labelled = LABELS >= 0
    each = loss(margins, LABELS)
    return torch.where(labelled, each, 0.0).sum(dim=-2) / labelled.sum(dim=0)


def test_where_every_pair_has_a_parameter_of_its_own_it_is_the_exact_one():
    margins = draw(groups=1).requires_grad_()
    exact = gramians(losses_of(margins, LOSSES[0]), [margins])
    torch.testing.assert_close(margin_gramians(margins, LABELS, LOSSES[0]), exact)


def test_elsewhere_it_is_another_metric():
    """The exact product has the Jacobian of the margins in the middle, which may turn agreement into conflict."""
    features = torch.randn(4, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    model = nn.Linear(3, 1, bias=False).double()
    margins = model(features).T
    heuristic = margin_gramians(margins, LABELS, LOSSES[0])
    exact = gramians(losses_of(margins, LOSSES[0]), model.parameters())
    own = margins.detach().requires_grad_()
    parts = losses_of(own, LOSSES[0])[0]
    first, second = (torch.autograd.grad(part, own, retain_graph=True)[0][0] for part in parts)
    middle = features @ features.T
    expected = torch.tensor([[a @ middle @ b for b in (first, second)] for a in (first, second)])
    torch.testing.assert_close(exact[0], expected)
    assert (cosines(exact) - cosines(heuristic)).abs().max() > 0.1


def test_groups_have_labels_of_their_own_and_no_label_is_no_gradient():
    margins = draw(groups=2)
    labels = torch.stack([LABELS, torch.full_like(LABELS, -1)])
    found = margin_gramians(margins, labels, LOSSES[0])
    torch.testing.assert_close(found[0], margin_gramians(margins[:1], LABELS, LOSSES[0])[0])
    assert not found[1].any()


def test_no_graph_is_needed_or_kept():
    margins = draw().requires_grad_()
    with torch.no_grad():
        found = margin_gramians(2 * margins, LABELS, LOSSES[0])
    assert not found.requires_grad
    assert margins.grad is None


@pytest.mark.parametrize(
    ("margins", "labels", "message"),
    [
        (torch.zeros(4), LABELS, r"margins have shape \(4,\)"),
        (torch.zeros(0, 4), LABELS, r"margins have shape \(0, 4\)"),
        (torch.zeros(1, 3), LABELS, r"labels have shape \(4, 2\) beside margins of shape \(1, 3\)"),
        (torch.zeros(2, 4), LABELS.unsqueeze(0), r"labels have shape \(1, 4, 2\)"),
        (torch.zeros(1, 4), LABELS + 1, "labels hold something else"),
    ],
)
def test_other_shapes_and_labels_are_refused(margins, labels, message):
    with pytest.raises(ValueError, match=message):
        margin_gramians(margins, labels, LOSSES[0])

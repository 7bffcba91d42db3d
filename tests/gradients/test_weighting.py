"""The interface: what is checked before and after the method, and what every method must keep to."""

import pytest
import torch
from _tensors import DEVICE, rand, randn
from hypothesis import given, settings, strategies as st

from mopref.gradients import EPO, MGDA, CAGrad, GradientWeighting, WeightedMGDA

# The weights of these sum to 1.
CONVEX = {"mgda": MGDA, "epo": EPO, "weighted-mgda": WeightedMGDA}
METHODS = {**CONVEX, "cagrad": CAGrad, "cagrad-clipped": lambda: CAGrad(clip=True)}


class Fixed(GradientWeighting):
    """Returns what it was made with, and keeps what it was called with."""

    def __init__(self, result=None) -> None:
        self.result = result

    def weights(self, losses, gramians, preferences):
        self.seen = (losses, gramians, preferences)
        return torch.full_like(losses, 0.5) if self.result is None else self.result


def draw(groups: int, m: int, n: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Losses, Gramians, preferences and the gradients (G, m, n) that the Gramians are of."""
    generator = torch.Generator().manual_seed(seed)
    jacobians = randn((groups, m, n), generator, torch.float64)
    losses = rand((groups, m), generator, torch.float64) + 0.1
    raw = rand((groups, m), generator, torch.float64) + 0.05
    return losses, jacobians @ jacobians.mT, raw / raw.sum(dim=1, keepdim=True), jacobians


@st.composite
def jacobians(draw_value: st.DrawFn) -> torch.Tensor:
    """Gradients (m, n) of any rank, some of them equal, opposite or zero, of lengths 1e-3 to 1e3."""
    m, n = draw_value(st.integers(1, 5)), draw_value(st.integers(1, 6))
    rows = draw_value(st.lists(st.lists(st.integers(-3, 3), min_size=n, max_size=n), min_size=m, max_size=m))
    powers = draw_value(st.lists(st.integers(-3, 3), min_size=m, max_size=m))
    return torch.tensor(rows, dtype=torch.float64) * 10.0 ** torch.tensor(powers, dtype=torch.float64).unsqueeze(1)


@pytest.mark.parametrize("method", CONVEX)
@settings(max_examples=30, deadline=None)
@given(jacobian=jacobians(), data=st.data())
def test_every_gramian_of_gradients_gives_weights_on_the_simplex(method, jacobian, data):
    m = len(jacobian)
    losses = data.draw(st.lists(st.floats(0, 5), min_size=m, max_size=m))
    raw = data.draw(st.lists(st.integers(0, 9), min_size=m, max_size=m).filter(any))
    weights = METHODS[method]()(
        torch.tensor([losses], dtype=torch.float64),
        (jacobian @ jacobian.T).float().unsqueeze(0),
        torch.tensor([raw], dtype=torch.float64) / sum(raw),
    )
    assert weights.shape == (1, m)
    assert (weights >= 0).all()
    assert weights.sum().item() == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("m", [1, 2, 3, 6])
def test_a_batch_equals_the_loop_over_its_groups(method, m):
    losses, gram, preferences, _ = draw(7, m, 8, seed=m)
    weights = METHODS[method]()(losses, gram, preferences)
    for g in range(7):
        one = METHODS[method]()(losses[g : g + 1], gram[g : g + 1], preferences[g : g + 1])
        torch.testing.assert_close(one[0], weights[g], rtol=0, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("m", [2, 4])
def test_permuting_the_objectives_permutes_the_weights(method, m):
    losses, gram, preferences, _ = draw(6, m, 8, seed=10 + m)
    order = torch.randperm(m, generator=torch.Generator().manual_seed(m))
    weights = METHODS[method]()(losses, gram, preferences)
    permuted = METHODS[method]()(losses[:, order], gram[:, order][:, :, order], preferences[:, order])
    torch.testing.assert_close(permuted, weights[:, order], rtol=0, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("m", [2, 4])
@pytest.mark.parametrize("factor", [1e-24, 1e-4, 1e6])
def test_the_scale_of_all_gradients_does_not_matter(method, m, factor):
    losses, gram, preferences, _ = draw(6, m, 8, seed=20 + m)
    weights = METHODS[method]()(losses, gram, preferences)
    torch.testing.assert_close(METHODS[method]()(losses, factor * gram, preferences), weights, rtol=0, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_gradients_that_are_all_zero_give_finite_weights(method):
    for m in (2, 3):
        weights = METHODS[method]()(torch.ones(2, m), torch.zeros(2, m, m), torch.full((2, m), 1 / m))
        torch.testing.assert_close(weights.sum(dim=1), torch.ones(2))


def test_the_method_sees_float64_without_a_graph_and_the_result_has_the_losses_dtype():
    losses, gram, preferences, _ = draw(2, 2, 3)
    for given_dtype, expected in (
        (torch.float64, torch.float64),
        (torch.float32, torch.float32),
        (torch.bfloat16, torch.float32),
    ):
        method = Fixed()
        weights = method(losses.to(given_dtype).requires_grad_(), gram, preferences.float())
        assert weights.dtype == expected
        assert weights.device.type == DEVICE.type
        assert not weights.requires_grad
        assert all(value.dtype == torch.float64 and not value.requires_grad for value in method.seen)
        assert all(value.device.type == "cpu" for value in method.seen)


def test_rounding_of_a_float32_gramian_is_allowed():
    gram = torch.tensor([[[1.0, 1.0 + 1e-6], [1.0, 1.0]]])  # the eigenvalue −5e-7, and asymmetric
    Fixed()(torch.ones(1, 2), gram, torch.full((1, 2), 0.5))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"losses": torch.ones(2)}, r"losses have shape \(2,\)"),
        ({"losses": torch.ones(0, 2)}, r"losses have shape \(0, 2\)"),
        ({"gramians": torch.eye(3).unsqueeze(0)}, r"gramians have shape \(1, 3, 3\), not \(1, 2, 2\)"),
        ({"gramians": torch.eye(2).expand(2, 2, 2)}, r"gramians have shape \(2, 2, 2\), not \(1, 2, 2\)"),
        ({"preferences": torch.tensor([0.5, 0.5])}, r"preferences have shape \(2,\), not \(1, 2\)"),
        ({"losses": torch.tensor([[1.0, torch.nan]])}, r"losses: entry \[1\] of group 0 is nan"),
        ({"gramians": torch.tensor([[[1.0, 0.0], [0.0, torch.inf]]])}, r"gramians: entry \[1, 1\] of group 0 is inf"),
        ({"preferences": torch.tensor([[1.5, -0.5]])}, "preferences hold -0.5"),
        ({"gramians": torch.tensor([[[1.0, 2.0], [2.0, 1.0]]])}, "has the eigenvalue -1, its largest entry being 2"),
        ({"gramians": torch.tensor([[[4.0, 1.0], [0.0, 4.0]]])}, "is asymmetric by 1, its largest entry being 4"),
    ],
)
def test_invalid_input_raises_with_its_values(change, message):
    valid = {
        "losses": torch.ones(1, 2),
        "gramians": torch.eye(2).unsqueeze(0),
        "preferences": torch.tensor([[0.5, 0.5]]),
    }
    Fixed()(**valid)
    with pytest.raises(ValueError, match=message):
        Fixed()(**(valid | change))


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (torch.ones(2, dtype=torch.float64), r"Fixed.weights returned shape \(2,\), not \(1, 2\)"),
        (torch.tensor([[1.0, torch.nan]], dtype=torch.float64), r"weights of Fixed: entry \[1\] of group 0 is nan"),
    ],
)
def test_an_invalid_result_raises(result, message):
    with pytest.raises(ValueError, match=message):
        Fixed(result)(torch.ones(1, 2), torch.eye(2).unsqueeze(0), torch.tensor([[0.5, 0.5]]))


@pytest.mark.parametrize("method", METHODS)
def test_there_is_no_state_to_keep(method):
    weighting = METHODS[method]()
    weighting.observe(torch.ones(3, 2))
    assert weighting.state_dict() == {}
    weighting.load_state_dict({})


def test_a_preference_says_importance():
    """Of two equal losses EPO lowers the important one, as a scalarizer would; MGDA does not look."""
    assert Fixed().convention == EPO().convention == MGDA().convention == "importance"
    losses, gramian = torch.ones(2, 2), torch.eye(2).expand(2, 2, 2)
    preferences = torch.tensor([[0.8, 0.2], [0.2, 0.8]])
    assert EPO()(losses, gramian, preferences).tolist() == [[1.0, 0.0], [0.0, 1.0]]
    assert MGDA()(losses, gramian, preferences).tolist() == [[0.5, 0.5], [0.5, 0.5]]

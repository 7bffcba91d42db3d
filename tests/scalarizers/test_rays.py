"""The ray that a preference asks for: by hand, at corners, in any float type."""

import pytest
import torch
from _tensors import tensor, tolerance

from mopref.scalarizers.rays import importance_ray


def test_the_ray_is_one_over_the_preference():
    """1/λ = (4, 4/3), and 1/4 of it; with ε = 1/2 in place of 1/4, (2, 4/3) and 1/2 of it."""
    lam = tensor([0.25, 0.75])
    assert importance_ray(lam, 1e-3).tolist() == pytest.approx([1.0, 1 / 3], rel=tolerance(1e-12))
    assert importance_ray(lam, 0.5).tolist() == pytest.approx([1.0, 2 / 3], rel=tolerance(1e-12))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("epsilon", [1e-3, 1e-12])
def test_a_corner_asks_for_almost_nothing_of_its_own_loss(dtype, epsilon):
    corners = torch.eye(3, dtype=dtype)
    ray = importance_ray(tensor(corners, dtype), epsilon)
    expected = 1 - corners + epsilon * corners
    torch.testing.assert_close(ray.cpu(), expected, rtol=1e-5, atol=0)
    assert ray.dtype == dtype


def test_rows_are_independent_and_inputs_stay():
    lam = tensor([[[0.2, 0.8], [1.0, 0.0]], [[0.5, 0.5], [0.0, 1.0]]])
    before = lam.clone()
    rays = importance_ray(lam, 1e-3)
    assert torch.equal(lam, before)
    for i in range(2):
        for j in range(2):
            assert torch.equal(rays[i, j], importance_ray(lam[i, j], 1e-3))

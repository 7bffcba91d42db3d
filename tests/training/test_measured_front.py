"""A front from measured losses: what is asked for is checked before anything is measured."""

import numpy as np
import pytest
import torch

from mopref.training.measured_front import measured_front

NAMES = ("helpful", "harmless")


class Losses:
    """f(λ) = 1 − λ, counting its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, preferences):
        self.calls += 1
        return 1 - preferences


@pytest.mark.parametrize(
    "preferences",
    [
        [[0.1, 0.9], [0.3, 0.7]],
        np.array([[0.1, 0.9], [0.3, 0.7]]),
        torch.tensor([[0.1, 0.9], [0.3, 0.7]]),
        torch.tensor([[0.1, 0.9], [0.3, 0.7]], dtype=torch.float16),
        torch.tensor([[0.1, 0.9], [0.3, 0.7]], dtype=torch.bfloat16),
        np.array([[0.1, 0.9], [0.3, 0.7]], dtype=np.float16),
        [{"harmless": 0.9, "helpful": 0.1}, {"helpful": 0.3, "harmless": 0.7}],
    ],
    ids=["list", "array", "tensor", "float16", "bfloat16", "float16 array", "by name"],
)
def test_preferences_of_every_kind(preferences):
    front = measured_front(Losses(), preferences, NAMES, metadata={"seed": 3}, convention="ray")
    np.testing.assert_allclose(front.preferences, [[0.1, 0.9], [0.3, 0.7]], atol=5e-3)
    np.testing.assert_allclose(front.preferences.sum(axis=1), 1, atol=1e-12)
    np.testing.assert_allclose(front.values, 1 - front.preferences)
    assert front.names == NAMES
    assert front.metadata["seed"] == 3
    assert front.convention == "ray"


@pytest.mark.parametrize("preferences", [[0.25, 0.75], {"harmless": 0.75, "helpful": 0.25}], ids=str)
def test_a_single_preference_is_a_front_of_one_point(preferences):
    assert measured_front(Losses(), preferences, NAMES).preferences.tolist() == [[0.25, 0.75]]


@pytest.mark.parametrize("count", [5, np.int64(5)])
@pytest.mark.parametrize("spread", ["preferences", "front"])
def test_a_number_of_points(count, spread):
    front = measured_front(Losses(), count, NAMES, spread=spread)
    np.testing.assert_allclose(sorted(front.preferences[:, 0]), [0, 0.25, 0.5, 0.75, 1], atol=1e-3)


@pytest.mark.parametrize(
    ("preferences", "spread", "message"),
    [
        (5, "sideways", "spread is 'sideways': choose 'preferences' or 'front'"),
        ([[0.5, 0.5]], "front", "spread is 'front', but the preferences are given"),
        (True, "preferences", r"preferences have shape \(\)"),
        (0.5, "preferences", r"preferences have shape \(\)"),
        ("helpful", "preferences", "preferences is no rectangular array of real numbers"),
        (None, "preferences", "preferences"),
        ([[0.5, 0.6]], "preferences", "sums to 1.1, not 1"),
        ([0.2, 0.3, 0.5], "preferences", r"preferences have shape \(3,\), but there are 2 objectives"),
        ({"helpful": 1.0}, "preferences", "no weight for harmless"),
    ],
)
def test_what_is_wrong_is_refused_before_anything_is_measured(preferences, spread, message):
    losses = Losses()
    with pytest.raises(ValueError, match=message):
        measured_front(losses, preferences, NAMES, spread=spread)
    assert losses.calls == 0


def test_losses_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"mean_losses returned shape \(2,\), not \(2, 2\): one row for each"):
        measured_front(lambda preferences: preferences.sum(dim=1), torch.eye(2), NAMES)

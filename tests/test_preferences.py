"""Preferences: checked once, at the boundary; lattices evenly spread with their corners; parts of equal volume."""

import math
import os
from itertools import pairwise

import numpy as np
import pytest
import torch
from _tensors import DEVICE, tensor
from hypothesis import given, strategies as st

import mopref.preferences
from mopref import simplex_lattice
from mopref._kept_array import write_array
from mopref.preferences import simplex_cells, validate_preferences


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MOPREF_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize("objectives", [2, ("helpful", "harmless")])
@pytest.mark.parametrize(
    "preferences",
    [
        [[0.3, 0.7], [1.0, 0.0]],
        tensor([[0.3, 0.7], [1.0, 0.0]], torch.float32),
        tensor([[0.3, 0.7], [1.0, 0.0]], torch.float64),
        np.array([[0.3, 0.7], [1.0, 0.0]]),
        np.array([[0.3, 0.7], [1.0, 0.0]], dtype=np.float32),
    ],
)
def test_valid_preferences_pass_unchanged(preferences, objectives):
    checked = validate_preferences(preferences, objectives)
    assert checked.shape == (2, 2)
    assert checked.dtype == torch.float64
    assert torch.equal(checked.cpu(), torch.as_tensor(preferences, dtype=torch.float64).cpu())
    torch.testing.assert_close(checked.cpu(), torch.tensor([[0.3, 0.7], [1.0, 0.0]]).double(), atol=1e-7, rtol=0)


def test_the_result_is_on_the_device_of_the_input():
    assert validate_preferences(tensor([[0.25, 0.75]]), 2).device.type == DEVICE.type
    assert validate_preferences([0.25, 0.75], 2).device.type == "cpu"


def test_one_preference_becomes_one_row():
    assert validate_preferences([0.25, 0.75], 2).tolist() == [[0.25, 0.75]]
    assert validate_preferences(tensor([1, 0], torch.int64), 2).tolist() == [[1.0, 0.0]]


def test_a_list_keeps_every_digit():
    assert validate_preferences([[0.1, 0.9], [0.3, 0.7]], 2).tolist() == [[0.1, 0.9], [0.3, 0.7]]


NOT_FINITE, NEGATIVE = "which is not finite: weights must be ≥ 0", "which is negative: weights must be ≥ 0"


@pytest.mark.parametrize("objectives", [2, ("helpful", "harmless")])
@pytest.mark.parametrize("container", ["list", "tensor"])
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        pytest.param([0.2, 0.3, 0.5], r"have shape \(3,\), but there are 2 objectives", id="too-long"),
        pytest.param([1.0], r"have shape \(1,\), but there are 2 objectives", id="too-short"),
        pytest.param([-0.1, 1.1], "preference 0 has weight -0.1 .*" + NEGATIVE, id="negative"),
        pytest.param([math.nan, 1.0], "preference 0 has weight nan .*" + NOT_FINITE, id="nan"),
        pytest.param([math.inf, 0.0], "preference 0 has weight inf .*" + NOT_FINITE, id="infinite"),
        pytest.param([0.5, 0.4], r"preference 0 = \[0.5, 0.4\] sums to 0.9, not 1: divide it", id="sum-below-1"),
        pytest.param([0.5, 0.6], r"preference 0 = \[0.5, 0.6\] sums to 1.1, not 1", id="sum-above-1"),
        pytest.param([0.5, 0.5001], "sums to 1.0001, not 1", id="sum-off-by-1e-4"),
        pytest.param([0.5, 0.500002], "sums to 1.000002, not 1", id="sum-off-by-2e-6"),
        pytest.param([[0.5, 0.5], [0.5, 0.4]], "preference 1 = .* sums to 0.9, not 1", id="second-row"),
        pytest.param([[[0.5, 0.5]]], r"have shape \(1, 1, 2\), but", id="three-axes"),
        pytest.param([0.0, 0.0], "sums to 0, not 1", id="all-zero"),
        pytest.param(np.empty((0, 2)), r"have shape \(0, 2\), but", id="no-row"),
    ],
)
def test_invalid_preferences_raise(wrong, message, container, objectives):
    with pytest.raises(ValueError, match=message):
        validate_preferences(tensor(wrong) if container == "tensor" else wrong, objectives)


@pytest.mark.parametrize("wrong", [None, "ab", [[0.5, 0.5], [1.0]], [["a", "b"]]])
def test_what_is_no_array_of_numbers_says_so(wrong):
    with pytest.raises(ValueError, match=r"preferences (is no rectangular array of real numbers|have shape \(\))"):
        validate_preferences(wrong, 2)


def float32_rows(m, count=1000, seed=0):
    raw = torch.rand(count, m, generator=torch.Generator().manual_seed(seed), dtype=torch.float32)
    return tensor(raw / raw.sum(-1, keepdim=True), torch.float32)


@pytest.mark.parametrize("m", [2, 3, 7, 8, 20])
def test_float32_rounding_is_left_alone(m):
    """What a sampler or a lattice draws in float32 goes into a model bit for bit, through the float64 of the check."""
    rows = float32_rows(m)
    checked = validate_preferences(rows, m)
    assert torch.equal(checked, rows.double())
    assert torch.equal(checked.float(), rows)
    assert (checked.sum(dim=1) - 1).abs().max() > 0, "would be vacuous if every row summed to 1 exactly"
    thirds = torch.full((1, 3), 1 / 3)
    assert torch.equal(validate_preferences(thirds, 3), thirds.double())


@pytest.mark.parametrize("off", [9e-7, -9e-7])
def test_what_is_off_by_more_than_rounding_is_divided_by_its_sum(off):
    rows = tensor([[0.25, 0.75], [0.25, 0.75 + off], [0.3, 0.7 + off]], torch.float64)
    checked = validate_preferences(rows, 2)
    assert torch.equal(checked[0], rows[0])
    assert (checked.sum(dim=1) - 1).abs().max() <= 2.3e-16
    torch.testing.assert_close(checked, rows / rows.sum(dim=1, keepdim=True), rtol=1e-15, atol=0)
    assert not torch.equal(checked[1], rows[1])


def test_many_float32_weights_may_be_off_by_their_rounding():
    """Twenty of them by 2.4e-6; and what comes out is taken wherever it is checked again."""
    weights = torch.full((1, 20), 0.05)
    weights[0, 0] += 1.6e-6
    assert 1.5e-6 < weights.double().sum() - 1 < 1.7e-6
    for values in (weights, weights.double(), weights.numpy(), weights.tolist()):
        checked = validate_preferences(values, 20)
        assert checked.sum().item() == pytest.approx(1.0, abs=1e-15)
        assert torch.equal(validate_preferences(checked, 20), checked)
    weights[0, 0] += 1.6e-6
    with pytest.raises(ValueError, match=r"sums to 1\.000003, not 1"):
        validate_preferences(weights, 20)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision_is_judged_by_its_own_rounding(kind):
    half = tensor([[0.1, 0.9], [0.3, 0.7]], kind)
    assert (half.double().sum(dim=1) - 1).abs().max() > 1e-6, "would be vacuous if no rounding were left"
    checked = validate_preferences(half, 2)
    assert checked.dtype == torch.float64
    assert (checked.sum(dim=1) - 1).abs().max() <= 2.3e-16
    torch.testing.assert_close(checked.cpu(), half.cpu().double(), rtol=2 * torch.finfo(kind).eps, atol=0)
    if kind == torch.float16:
        assert torch.equal(validate_preferences(half.cpu().numpy(), 2), checked.cpu())
    # The same numbers in float64 are off by more than its rounding.
    with pytest.raises(ValueError, match=r"sums to (0\.99|1\.00).*, not 1"):
        validate_preferences(half.double(), 2)
    with pytest.raises(ValueError, match=r"sums to 0\.9[45].*, not 1"):
        validate_preferences(tensor([0.1, 0.85], kind), 2)


@given(
    weights=st.lists(st.floats(0, 1, width=32), min_size=2, max_size=24).filter(lambda weights: sum(weights) > 0.1),
    off=st.floats(-9e-7, 9e-7),
)
def test_a_second_check_changes_nothing(weights, off):
    once = validate_preferences(np.array(weights) / sum(weights) * (1 + off), len(weights))
    assert abs(once.sum().item() - 1) <= max(1e-15, min(1e-6, len(weights) * 2.0**-23))
    assert torch.equal(validate_preferences(once, len(weights)), once)
    assert validate_preferences(once.tolist(), len(weights)).tolist() == once.tolist()


@pytest.mark.parametrize("off", [0.0, 9e-7])
def test_gradients_pass_through(off):
    preferences = tensor([[0.25, 0.75 + off]], torch.float64).requires_grad_()
    validate_preferences(preferences, 2)[0, 0].backward()
    # Of λ_1 / Σλ where it is divided: (λ_2 / Σ², −λ_1 / Σ²).
    expected = [[0.75, -0.25]] if off else [[1.0, 0.0]]
    torch.testing.assert_close(preferences.grad.cpu(), torch.tensor(expected).double(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("off", [0.0, 9e-7])
def test_the_input_is_not_modified(off):
    for kind in (torch.float32, torch.float64):
        preferences = tensor([[0.25, 0.75 + off]], kind)
        before = preferences.clone()
        checked = validate_preferences(preferences, 2)
        checked = checked + 1
        assert torch.equal(preferences, before)


def test_the_message_names_the_objectives():
    with pytest.raises(ValueError, match="harmless"):
        validate_preferences([0.2, 0.3, 0.5], ("helpful", "harmless"))


@pytest.mark.parametrize("m", [2, 3, 4, 5])
@pytest.mark.parametrize("n", [5, 11, 21, 66])
def test_lattice_lies_on_the_simplex_with_its_corners(m, n):
    lattice = simplex_lattice(m, n)
    assert lattice.ndim == 2
    assert lattice.shape[1] == m
    assert m <= len(lattice) <= n
    assert (lattice >= 0).all()
    torch.testing.assert_close(lattice.double().sum(-1), torch.ones(len(lattice)).double(), atol=1e-6, rtol=0)
    assert len(torch.unique(lattice, dim=0)) == len(lattice), "no preference twice"
    for corner in torch.eye(m):
        assert (lattice.float() == corner).all(-1).any(), f"corner {corner.tolist()} is missing"


def test_lattice_is_as_fine_as_asked():
    """Two objectives: n equal steps. Three: the finest triangular lattice that fits, (h + 1)(h + 2)/2 points."""
    two = simplex_lattice(2, 11)
    torch.testing.assert_close(two[:, 0].sort().values.double(), torch.linspace(0, 1, 11, dtype=torch.float64))
    assert len(simplex_lattice(3, 66)) == 66
    assert len(simplex_lattice(3, 77)) == 66
    steps = simplex_lattice(3, 66).double() * 10
    torch.testing.assert_close(steps, steps.round(), atol=1e-5, rtol=0)


def test_a_lattice_smaller_than_its_corners_raises():
    with pytest.raises(ValueError, match="a lattice of 2 points cannot hold the 3 corners of the simplex"):
        simplex_lattice(3, 2)


def test_an_unknown_method_raises():
    with pytest.raises(ValueError, match="method is 'uniform': choose 'das-dennis' or 'riesz-energy'"):
        simplex_lattice(3, 10, method="uniform")


def test_a_lattice_of_nothing_raises():
    with pytest.raises(ValueError, match="num_objectives is 0: at least one objective is needed"):
        simplex_lattice(0, 10)


@pytest.mark.parametrize("m", [1, 2])
def test_with_two_objectives_both_methods_take_even_steps(m, cache):
    assert torch.equal(simplex_lattice(m, 9, "riesz-energy"), simplex_lattice(m, 9))
    assert not cache.exists()


@pytest.mark.parametrize(("m", "n"), [(3, 3), (3, 4), (3, 20), (4, 13), (6, 8)])
def test_points_of_least_riesz_energy(m, n):
    """Any number of points, the corners among them, all apart; and no copy of the energy is needed to see them rest."""
    points = simplex_lattice(m, n, "riesz-energy").double()
    assert points.shape == (n, m)
    assert (points >= 0).all()
    torch.testing.assert_close(points.sum(1), torch.ones(n).double(), atol=1e-6, rtol=0)
    for corner in torch.eye(m).double():
        assert (points == corner).all(1).any(), f"corner {corner.tolist()} is missing"

    def energy(points):
        return torch.pdist(points).pow(-2 * m).sum()

    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        # Moved a little within the simplex, all but the corners.
        weights = 0.05 * torch.rand(n, 1, generator=generator, dtype=torch.float64)
        weights[(points == 1).any(1)] = 0
        towards = torch.rand(n, m, generator=generator, dtype=torch.float64)
        moved = (1 - weights) * points + weights * towards / towards.sum(1, keepdim=True)
        assert energy(moved) >= energy(points) * (1 - 1e-3)


def test_six_points_repel_each_other_into_the_corners_and_the_middles_of_the_edges():
    points = simplex_lattice(3, 6, "riesz-energy")
    expected = torch.cat([torch.eye(3), (torch.ones(3, 3) - torch.eye(3)) / 2])
    assert torch.cdist(expected, points).amin(dim=1).max() < 0.01


def test_corners_that_the_search_left_by_a_hair_are_put_back(monkeypatch):
    class Search:
        def __init__(self, m, n):
            assert (m, n) == (3, 4)

        def do(self, seed):
            return np.array([[0.999, 0.001, 0.0], [0.3, 0.3, 0.4], [0.0, 0.99, 0.01], [0.0, 0.0, 1.0]])

    monkeypatch.setattr("pymoo.util.ref_dirs.RieszEnergyReferenceDirectionFactory", Search)
    expected = [[1.0, 0.0, 0.0], [0.3, 0.3, 0.4], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    np.testing.assert_allclose(simplex_lattice(3, 4, "riesz-energy"), expected, rtol=1e-6)


@pytest.fixture
def computed(monkeypatch):
    """Counts how often points of least energy are computed, and makes that quick."""
    calls = []

    def quick(m, n):
        calls.append((m, n))
        inside = np.random.default_rng(n).dirichlet(np.ones(m), n - m)
        return np.concatenate([np.eye(m), inside])

    monkeypatch.setattr(mopref.preferences, "_least_riesz_energy", quick)
    return calls


def test_points_of_least_energy_are_computed_once(computed, cache):
    first = simplex_lattice(3, 9, "riesz-energy")
    assert torch.equal(simplex_lattice(3, 9, "riesz-energy"), first)
    assert computed == [(3, 9)]
    simplex_lattice(3, 10, "riesz-energy")
    simplex_lattice(4, 9, "riesz-energy")
    assert computed == [(3, 9), (3, 10), (4, 9)]
    assert sorted(path.suffix for path in (cache / "lattices").iterdir()) == [".npy"] * 3, "nothing half-written"


def broken(kind):
    points = np.concatenate([np.eye(3), np.random.default_rng(0).dirichlet(np.ones(3), 6)])
    if kind == "another-number":
        return points[:-1]
    if kind == "float32":
        return points.astype(np.float32)
    points[8] = {
        "not-finite": [math.nan, 0.5, 0.5],
        "negative": [-0.1, 0.6, 0.5],
        "off-the-simplex": [0.4, 0.4, 0.4],
        "one-twice": points[7],
    }.get(kind, points[8])
    if kind == "without-a-corner":
        points[0] = [0.9, 0.05, 0.05]
    return points


@pytest.mark.parametrize(
    "kind",
    [
        "another-number",
        "float32",
        "not-finite",
        "negative",
        "off-the-simplex",
        "one-twice",
        "without-a-corner",
    ],
)
def test_a_wrong_file_in_the_cache_is_replaced(computed, cache, kind):
    right = simplex_lattice(3, 9, "riesz-energy")
    (path,) = (cache / "lattices").iterdir()
    write_array(path, broken(kind))
    assert torch.equal(simplex_lattice(3, 9, "riesz-energy"), right)
    assert len(computed) == 2
    assert torch.equal(simplex_lattice(3, 9, "riesz-energy"), right)
    assert len(computed) == 2, "the replaced file is good"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
@pytest.mark.parametrize("name", [".", "lattices"])
def test_a_cache_of_others_costs_time_and_a_warning(computed, cache, name):
    right = simplex_lattice(3, 9, "riesz-energy")
    assert (cache.stat().st_mode & 0o777, (cache / "lattices").stat().st_mode & 0o777) == (0o700, 0o700)
    (cache / name).chmod(0o777)
    with pytest.warns(UserWarning, match=r"other users may write into .*MOPREF_CACHE.* were computed") as told:
        assert torch.equal(simplex_lattice(3, 9, "riesz-energy"), right)
    assert told[0].filename == __file__
    assert len(computed) == 2


@pytest.mark.parametrize("content", [b"", b"nonsense", b"PK\x03\x04", "cut", "long"])
def test_a_damaged_file_in_the_cache_is_replaced(computed, cache, content):
    right = simplex_lattice(3, 9, "riesz-energy")
    (path,) = (cache / "lattices").iterdir()
    whole = path.read_bytes()
    path.write_bytes({"cut": whole[:-20], "long": whole + b"0" * 10_000}.get(content, content))
    assert torch.equal(simplex_lattice(3, 9, "riesz-energy"), right)
    assert len(computed) == 2


def test_a_cache_that_cannot_be_written_costs_time_only(computed, cache):
    cache.write_text("a file where the folder should be")
    assert torch.equal(simplex_lattice(3, 9, "riesz-energy"), simplex_lattice(3, 9, "riesz-energy"))
    assert len(computed) == 2


@given(m=st.integers(2, 6), n=st.integers(1, 70))
def test_cells_have_equal_volume_and_cover_the_simplex(m, n):
    """The simplex has determinant 1, so a part of an n-th of its volume has 1/n."""
    cells = simplex_cells(m, n)
    assert cells.shape == (n, m, m)
    assert (cells >= 0).all()
    np.testing.assert_allclose(cells.sum(axis=-1), 1, atol=1e-12)
    np.testing.assert_allclose(np.abs(np.linalg.det(cells)), 1 / n, rtol=1e-9)
    # No two overlap: a point inside one is outside all others. With the volumes it follows that they cover all.
    for points in (cells.mean(axis=1), np.einsum("j,njk->nk", np.arange(1, m + 1) / (m * (m + 1) / 2), cells)):
        coordinates = np.einsum("pi,nij->pnj", points, np.linalg.inv(cells)).min(axis=-1)
        assert ((coordinates > 1e-12) == np.eye(n, dtype=bool)).all()


def test_cells_of_two_objectives_are_intervals_in_order():
    np.testing.assert_allclose(simplex_cells(2, 5)[:, :, 0], list(pairwise([1.0, 0.8, 0.6, 0.4, 0.2, 0.0])), atol=1e-12)


def test_cells_are_compact():
    """The longest edge is the one that is cut: of 64 parts of a triangle none is longer than a third of it."""
    edges = np.linalg.norm(simplex_cells(3, 64)[:, :, None] - simplex_cells(3, 64)[:, None], axis=-1)
    assert edges.max() < math.sqrt(2) / 3


def test_cells_cannot_be_changed_for_others():
    with pytest.raises(ValueError, match="read-only"):
        simplex_cells(3, 4)[0, 0, 0] = 2.0


@pytest.mark.parametrize(("m", "n"), [(0, 4), (3, 0)])
def test_cells_of_nothing_raise(m, n):
    with pytest.raises(ValueError, match=f"num_objectives and num_cells are {m} and {n}: each must be at least 1"):
        simplex_cells(m, n)


def test_many_weights_in_half_precision_are_no_licence():
    """m·eps passes 1 with 128 bfloat16 weights; a sum of 0 is refused all the same."""
    with pytest.raises(ValueError, match="sums to 0, not 1"):
        validate_preferences(torch.zeros(1, 200, dtype=torch.bfloat16), 200)
    assert validate_preferences(torch.full((200,), 1 / 200, dtype=torch.bfloat16), 200).sum().item() == pytest.approx(1)


# By name.

NAMES = ("helpful", "harmless", "brief")


@pytest.mark.parametrize(
    "preference",
    [
        {"helpful": 0.25, "harmless": 0.75, "brief": 0},
        {"brief": 0.0, "harmless": 0.75, "helpful": 0.25},
        {"brief": np.int64(0), "harmless": np.float32(0.75), "helpful": torch.tensor(0.25)},
        {"brief": torch.tensor(0.0), "harmless": np.array(0.75), "helpful": np.float16(0.25)},
    ],
)
def test_a_preference_by_name_is_in_the_order_of_the_objectives(preference):
    before = dict(preference)
    expected = torch.tensor([[0.25, 0.75, 0.0]], dtype=torch.float64)
    assert torch.equal(validate_preferences(preference, NAMES), expected)
    assert torch.equal(validate_preferences([preference, preference], NAMES), expected.expand(2, 3))
    assert preference == before


def test_names_go_with_numbered_objectives_too():
    assert validate_preferences({"objective 1": 1, "objective 0": 0}, 2).tolist() == [[0.0, 1.0]]


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_weights_by_name_in_half_precision(kind):
    weights = torch.tensor([0.1, 0.2, 0.7], dtype=kind)
    by_name = validate_preferences(dict(zip(NAMES, weights, strict=True)), NAMES)
    assert torch.equal(by_name, validate_preferences(weights, NAMES))


@pytest.mark.parametrize(
    ("preference", "message"),
    [
        (
            {"helpful": 1.0},
            r"the preference \{'helpful': 1.0\} has no weight for harmless: give one for each of helpful, h",
        ),
        ({}, "has no weight for helpful"),
        (
            {"helpful": 1.0, "harmless": 0.0, "brief": 0.0, "polite": 0.0},
            "has a weight for polite, which is no objective",
        ),
        ({0: 1.0, 1: 0.0, 2: 0.0}, "has a weight for 0, which is no objective"),
        ({"helpful": "1", "harmless": 0.0, "brief": 0.0}, "has the weight '1' for helpful: give a number"),
        ({"helpful": True, "harmless": False, "brief": False}, "has the weight True for helpful: give a number"),
        ({"helpful": None, "harmless": 0.0, "brief": 0.0}, "has the weight None for helpful"),
        ({"helpful": [0.5, 0.5], "harmless": 0.0, "brief": 0.0}, r"has the weight \[0.5, 0.5\] for helpful"),
        ({"helpful": 1j, "harmless": 0.0, "brief": 0.0}, "has the weight 1j for helpful"),
        ({"helpful": 0.5, "harmless": 0.6, "brief": 0.0}, "sums to 1.1, not 1"),
        ({"helpful": 1.5, "harmless": -0.5, "brief": 0.0}, "weight -0.5 for harmless, which is negative"),
        ({"helpful": float("nan"), "harmless": 0.5, "brief": 0.5}, "weight nan for helpful, which is not finite"),
        ([{"helpful": 1, "harmless": 0, "brief": 0}, [0, 1, 0]], r"preference 1 is \[0, 1, 0\] among dicts"),
        ([[0, 1, 0], {"helpful": 1, "harmless": 0, "brief": 0}], r"preference 0 is \[0, 1, 0\] among dicts"),
    ],
    ids=lambda part: part if isinstance(part, str) else type(part).__name__,
)
def test_what_is_wrong_by_name_is_told_with_its_value(preference, message):
    with pytest.raises(ValueError, match=message):
        validate_preferences(preference, NAMES)


def test_complex_weights_are_refused():
    with pytest.raises(ValueError, match=r"preferences are torch\.complex64: weights are real numbers"):
        validate_preferences(torch.tensor([0.5 + 0j, 0.5 + 1j]), 2)


@pytest.mark.parametrize("objectives", [math.nan, 2.0, True, "ab", None, b"ab", torch.tensor([2])])
def test_objectives_that_are_no_number_and_no_names(objectives):
    with pytest.raises(TypeError, match=r"objectives is .*: give a whole number"):
        validate_preferences([0.5, 0.5], objectives)


def test_any_number_of_objectives_costs_nothing_before_it_is_refused():
    with pytest.raises(ValueError, match=r"there are 10000000000 objectives \(objective 0, .*, … \(10+ of them\)\)"):
        validate_preferences([0.5, 0.5], 10**10)


@pytest.mark.parametrize("count", [math.inf, math.nan, 4.0, "4", True, None])
def test_counts_that_are_no_whole_numbers(count):
    for make, name in (
        (lambda: simplex_lattice(5, count), "num_points"),
        (lambda: simplex_lattice(count, 5), "num_objectives"),
        (lambda: simplex_cells(2, count), "num_cells"),
        (lambda: simplex_cells(count, 2), "num_objectives"),
    ):
        with pytest.raises(TypeError, match=f"{name} is .*: give a whole number"):
            make()

"""Array-likes of points: float64 copies of every kind of input, or an error that names it."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from _tensors import tensor

from mopref._arrays import as_float64, as_points, as_vector, real_array, signs

POINTS = [[0.0, 2.0], [1.0, 0.5]]


@pytest.mark.parametrize(
    "values",
    [
        POINTS,
        tuple(map(tuple, POINTS)),
        np.array(POINTS),
        np.array(POINTS, dtype=np.float16),
        pd.DataFrame(POINTS),
        tensor(POINTS),
        tensor(POINTS).requires_grad_(),
        tensor(POINTS, torch.bfloat16),
        [torch.tensor([0.0, 2.0]), torch.tensor([1.0, 0.5])],
    ],
    ids=lambda values: type(values).__name__,
)
@pytest.mark.parametrize("read", [real_array, as_float64, as_points])
def test_every_kind_of_numbers_is_copied_to_float64(read, values):
    array = read(values, "values")
    assert type(array) is np.ndarray
    assert array.dtype == np.float64
    assert array.tolist() == POINTS
    array[0, 0] = 7.0
    assert real_array(values, "values").tolist() == POINTS


@pytest.mark.parametrize("read", [real_array, as_float64, as_points])
@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([[1.0, 2.0], [1.0]], "inhomogeneous"),
        ([["a", "b"]], "could not convert string to float"),
        ([[1j, 0.0]], "the numbers are complex"),
        ([[None, {}]], "dict"),
        ([torch.ones(2, requires_grad=True)], "requires grad"),
    ],
)
def test_what_is_no_array_of_numbers_is_named(read, values, reason):
    with pytest.raises(
        ValueError, match=rf"losses is no rectangular array of real numbers \(.*{reason}.*: give numbers"
    ):
        read(values, "losses")


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_found(bad):
    with pytest.raises(ValueError, match=f"values has {bad} at row 1, column 0, which cannot be compared"):
        as_float64([[1.0, 2.0], [bad, bad]], "values")
    with pytest.raises(ValueError, match=f"scale has {bad} at index 1, which"):
        as_float64([0.0, bad], "scale")
    assert real_array([0.0, bad], "scale").tolist() == pytest.approx([0.0, bad], nan_ok=True)


@pytest.mark.parametrize(("values", "shape"), [([1.0, 2.0], r"\(2,\)"), (1.0, r"\(\)"), (np.ones((2, 0)), r"\(2, 0\)")])
def test_points_are_a_matrix(values, shape):
    with pytest.raises(
        ValueError, match=rf"front has shape {shape}: it must be \(N, m\).*write a single point as \[\["
    ):
        as_points(values, "front")


def test_no_point_is_refused_unless_allowed():
    with pytest.raises(ValueError, match=r"values is empty \(shape \(0, 2\)\): at least one point is needed"):
        as_points(np.empty((0, 2)))
    assert as_points(np.empty((0, 2)), allow_empty=True).shape == (0, 2)


def test_vectors_have_their_length():
    assert as_vector((1, 2, 3), 3, "scale").tolist() == [1.0, 2.0, 3.0]
    for wrong, shape in (([1.0, 2.0], r"\(2,\)"), (1.0, r"\(\)"), ([[1.0, 2.0, 3.0]], r"\(1, 3\)")):
        with pytest.raises(ValueError, match=rf"scale has shape {shape}: it must be \(3,\), one number per objective"):
            as_vector(wrong, 3, "scale")


@pytest.mark.parametrize(
    ("maximize", "expected"),
    [(False, [1, 1]), (True, [-1, -1]), ([True, False], [-1, 1]), (np.array([False, True]), [1, -1])],
)
def test_signs_turn_every_objective_to_be_minimised(maximize, expected):
    assert signs(maximize, 2).tolist() == expected


@pytest.mark.parametrize(
    ("maximize", "message"),
    [
        (1, "maximize is 1: give one bool for all objectives, or one for each"),
        ("yes", "maximize is 'yes': give one bool"),
        ([True], r"maximize has shape \(1,\), but there are 2 objectives: give one bool, or 2 of them"),
        ([[True, False]], r"maximize has shape \(1, 2\)"),
    ],
)
def test_another_direction_says_so(maximize, message):
    with pytest.raises(ValueError, match=message):
        signs(maximize, 2)


@pytest.mark.parametrize("read", [real_array, as_float64, as_points])
@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([["0.5", "0.5"]], "its entries are of type <U3, such as np.str_"),
        (np.array([["0.5", 0.5]], dtype=object), "its entries are of type object, such as '0.5'"),
        (np.array([[b"0.5"]]), "its entries are of type"),
        (np.array([["2020"]], dtype="datetime64[Y]"), "its entries are of type datetime64"),
        (np.array([[3]], dtype="timedelta64[D]"), "its entries are of type timedelta64"),
        ({0.5, 0.25}, "a set has no order"),
        ((row for row in POINTS), "an iterator can be read only once"),
        (map(list, POINTS), "an iterator can be read only once"),
    ],
    ids=lambda part: part if isinstance(part, str) else type(part).__name__,
)
def test_what_only_looks_like_numbers_is_refused(read, values, reason):
    with pytest.raises(ValueError, match=rf"losses is no rectangular array of real numbers \(.*{reason}"):
        read(values, "losses")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (torch.tensor([[1j, 0.0]]), r"losses is torch\.complex64: real numbers are needed, so give its real part"),
        (torch.zeros(2, 2).to_sparse(), "losses is a sparse, nested or quantised tensor: give a dense one"),
        (torch.zeros(2, 2).to_sparse_csr(), "losses is a sparse, nested or quantised tensor"),
        (torch.nested.nested_tensor([torch.zeros(2)], layout=torch.jagged), "losses is a sparse, nested or quantised"),
        (torch.zeros(2, 2, device="meta"), "losses is a tensor on the meta device, which holds no numbers"),
    ],
)
@pytest.mark.filterwarnings("ignore:Sparse CSR")
def test_tensors_without_rows_of_numbers_are_refused(values, message):
    for read in (real_array, as_float64, as_points):
        with pytest.raises(ValueError, match=message):
            read(values, "losses")


def test_directions_with_labels_are_refused():
    named = pd.Series([True, False], index=["harmless", "helpful"])
    with pytest.raises(ValueError, match="maximize"):
        signs(named, 2)
    assert signs(named.to_numpy(), 2).tolist() == [-1.0, 1.0]


def test_masked_entries_are_no_numbers():
    with pytest.raises(ValueError, match="some of its entries are masked"):
        real_array(np.ma.array([1.0, 999.0], mask=[False, True]), "losses")
    assert real_array(np.ma.array([1.0, 2.0]), "losses").tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("maximize", "message"),
    [
        ([[True], [True, False]], r"maximize is \[\[True\], \[True, False\]\]: give one bool"),
        (torch.ones(2, dtype=torch.bool, device="meta"), "maximize is a tensor on the meta device"),
        (torch.ones(2, dtype=torch.bool).to_sparse(), "maximize is a sparse"),
        (None, "maximize is None: give one bool"),
    ],
)
def test_directions_that_are_no_bools_are_refused_by_name(maximize, message):
    with pytest.raises(ValueError, match=message):
        signs(maximize, 2)

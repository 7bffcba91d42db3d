"""Numbers with labels: by name in any order where the names are known, refused where they are not, never by position.

polars and xarray are no dependencies: two small classes have what theirs have.
"""

from collections import OrderedDict, deque, namedtuple
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from datasets import Dataset
from hypothesis import given, strategies as st

from mopref import Front
from mopref._arrays import as_float64, as_points, as_vector, named_array, real_array
from mopref._labels import labels_of
from mopref.gradients import EPO
from mopref.indicators import hypervolume, igd
from mopref.preferences import validate_preferences
from mopref.samplers import DirichletSampler
from mopref.scalarizers import (
    PBI,
    AchievementScalarizing,
    Hypervolume,
    InvertedPBI,
    Linear,
    Normalized,
)

NAMES = ("helpful", "harmless")
BY_NAME = {"harmless": 0.25, "helpful": 0.75}
COLUMNS = {"harmless": [0.25, 1.0], "helpful": [0.75, 0.0]}
ROWS = [BY_NAME, {"harmless": 1.0, "helpful": 0.0}]
Weights = namedtuple("Weights", ["harmless", "helpful"])
STRUCTURE = [("harmless", "f8"), ("helpful", "f8")]


@dataclass
class WeightsOfAClass:
    harmless: float = 0.25
    helpful: float = 0.75


class LikePolars:
    columns = ("harmless", "helpful")

    def __getitem__(self, name):
        return np.array(COLUMNS[name])


class LikeXarray:
    dims = ("row", "objective")

    def __init__(self, **coords):
        self.coords = coords

    def __array__(self, dtype=None, copy=None):
        return np.array([COLUMNS[name] for name in COLUMNS], dtype=dtype).T


SINGLE = {
    "dict": BY_NAME,
    "OrderedDict": OrderedDict(BY_NAME),
    "MappingProxyType": MappingProxyType(BY_NAME),
    "Series": pd.Series(BY_NAME),
    "half Series": pd.Series(BY_NAME, dtype="float16"),
    "named tuple": Weights(0.25, 0.75),
    "dataclass": WeightsOfAClass(),
    "structured array's row": np.array([(0.25, 0.75)], dtype=STRUCTURE)[0],
}
TABLES = {
    "columns": COLUMNS,
    "columns of tensors": {name: torch.tensor(column) for name, column in COLUMNS.items()},
    "columns of Series": {name: pd.Series(column) for name, column in COLUMNS.items()},
    "dicts": ROWS,
    "DataFrame": pd.DataFrame(ROWS),
    "DataFrame with named rows": pd.DataFrame(ROWS, index=["a", "b"]),
    "rows of a DataFrame": [row for _, row in pd.DataFrame(ROWS).iterrows()],
    "named rows of a DataFrame": list(pd.DataFrame(ROWS).itertuples(index=False)),
    "Arrow table": pa.Table.from_pylist(ROWS),
    "Arrow batch": pa.RecordBatch.from_pylist(ROWS),
    "data set": Dataset.from_list(ROWS),
    "structured array": np.array([tuple(row.values()) for row in ROWS], dtype=STRUCTURE),
    "record array": np.array([tuple(row.values()) for row in ROWS], dtype=STRUCTURE).view(np.recarray),
    "like polars": LikePolars(),
    "like xarray": LikeXarray(objective=np.array(list(COLUMNS))),
}
POSITIONS = {
    "Series": pd.Series([0.75, 0.25]),
    "DataFrame": pd.DataFrame([[0.75, 0.25]]),
    "DataFrame with named rows": pd.DataFrame([[0.75, 0.25]], index=["run 3"]),
    "deque": deque([0.75, 0.25]),
    "range": range(1, -1, -1),
    "tuple": (0.75, 0.25),
}


@pytest.mark.parametrize("kind", SINGLE)
def test_a_labelled_preference_is_read_by_name(kind):
    assert validate_preferences(SINGLE[kind], NAMES).tolist() == [[0.75, 0.25]]
    assert validate_preferences([SINGLE[kind]] * 2, NAMES).tolist() == [[0.75, 0.25]] * 2
    assert named_array(SINGLE[kind], NAMES, "point").tolist() == [0.75, 0.25]


@pytest.mark.parametrize("kind", TABLES)
def test_a_labelled_table_is_read_by_name(kind):
    assert validate_preferences(TABLES[kind], NAMES).tolist() == [[0.75, 0.25], [0.0, 1.0]]
    assert named_array(TABLES[kind], NAMES, "values").tolist() == [[0.75, 0.25], [0.0, 1.0]]
    front = Front(TABLES[kind], TABLES[kind], NAMES)
    assert front.preferences.tolist() == front.values.tolist() == [[0.75, 0.25], [0.0, 1.0]]


def test_half_precision_is_known_by_name_too():
    row = dict(zip(NAMES, np.array([0.1, 0.9], dtype=np.float16), strict=True))
    for preferences in (pd.Series(row), pd.DataFrame([row]).astype("float16"), {n: [w] for n, w in row.items()} | row):
        assert validate_preferences(preferences, NAMES).sum().item() == pytest.approx(1.0, abs=1e-15)


@pytest.mark.parametrize("kind", POSITIONS)
def test_what_has_no_labels_is_read_by_position(kind):
    expected = [1.0, 0.0] if kind == "range" else [0.75, 0.25]
    assert validate_preferences(POSITIONS[kind], NAMES).tolist() == [expected]
    assert real_array(POSITIONS[kind], "point").reshape(-1).tolist() == expected


@pytest.mark.parametrize(
    ("labelled", "reason"),
    [
        (
            pd.Series([0.25, 0.75], index=[1, 0]),
            r"\(a Series with the labels 1, 0\) has .* for 1, which is no objective",
        ),
        (pd.Series({"a": 0.25, "b": 0.75}), "for a, which is no objective: give one for each of helpful, harmless"),
        (pd.Series({"helpful": 1.0}), "no .* for harmless"),
        (pd.Series([0.2, 0.3, 0.5], index=["harmless", "harmless", "helpful"]), "more than one .* for harmless"),
        (pd.DataFrame([[0.2, 0.3, 0.5]], columns=["harmless", "harmless", "helpful"]), "more than one .* for harmless"),
        (pd.DataFrame([[0.25, 0.75]], columns=[1, 0]), "for 1, which is no objective"),
        (pd.DataFrame({0: BY_NAME, 1: BY_NAME}), "has a row for each objective: give its transpose"),
        (list(pd.DataFrame([BY_NAME]).itertuples()), "for Index, which is no objective"),
        (pa.table({"a": [1.0], "b": [0.0]}), r"\(a Table with the labels a, b\) has .* for a, which"),
        (namedtuple("Other", ["a", "b"])(0.25, 0.75), "for a, which is no objective"),
        (np.array([(0.25, 0.75)], dtype=[("a", "f8"), ("b", "f8")]), "for a, which is no objective"),
        (LikeXarray(objective=np.array(["a", "b"])), "for a, which is no objective"),
        ({None: 0.25, "helpful": 0.75}, "for None, which is no objective"),
        ({}, "no .* for helpful"),
    ],
    ids=lambda part: part if isinstance(part, str) else type(part).__name__,
)
def test_other_labels_are_refused(labelled, reason):
    with pytest.raises(ValueError, match=reason):
        validate_preferences(labelled, NAMES)
    with pytest.raises(ValueError, match=reason):
        named_array(labelled, NAMES, "values")
    with pytest.raises(ValueError, match=reason):
        Front([[0.75, 0.25]], labelled, NAMES)


def test_columns_differ_in_length():
    columns = {"helpful": [1.0], "harmless": [0.0, 1.0]}
    with pytest.raises(ValueError, match=r"the columns of preferences have 1, 2 weights: give equally many"):
        validate_preferences(columns, NAMES)
    with pytest.raises(ValueError, match="its columns differ in length"):
        named_array(columns, NAMES, "values")


@pytest.mark.parametrize("kind", {**SINGLE, **TABLES})
@pytest.mark.parametrize(
    "use",
    [
        lambda values: real_array(values, "ideal"),
        lambda values: as_float64(values, "ideal"),
        lambda values: as_points(values, "ideal"),
        lambda values: as_vector(values, 2, "ideal"),
        lambda values: PBI(ideal=values),
        lambda values: EPO(ideal=values),
        lambda values: Normalized(Linear(), ideal=values),
    ],
)
def test_where_no_names_are_known_labels_are_refused(kind, use):
    with pytest.raises(
        ValueError, match=r"ideal has labels .*read by position: give plain numbers in the order of the"
    ):
        use((SINGLE | TABLES)[kind])


@pytest.mark.parametrize(
    ("use", "name"),
    [
        (lambda point: InvertedPBI(nadir=point), "nadir"),
        (lambda point: Normalized(Linear(), nadir=point), "nadir"),
        (lambda point: Hypervolume(point), "reference_point"),
        (lambda point: AchievementScalarizing(point), "reference_point"),
        (lambda point: Hypervolume.between(point, [2.0, 2.0]), "ideal"),
        (lambda point: DirichletSampler(2, alpha=point), "alpha"),
        (lambda point: hypervolume([[0.0, 0.0]], point), "reference_point"),
        (lambda point: hypervolume([point], [1.0, 1.0]), "values"),
        (lambda point: igd([[0.0, 0.0]], [point]), "front"),
    ],
)
def test_every_door_of_points_refuses_labels(use, name):
    with pytest.raises(ValueError, match=rf"{name} has labels .*: give plain numbers in the order of the objectives"):
        use(pd.Series(BY_NAME))
    use(pd.Series([0.75, 0.25]))


def test_a_front_reads_its_points_by_name():
    front = Front(
        [[1, 0], [0, 1]], [[0, 4], [0.5, 0]], NAMES, metadata={"reference_point": {"harmless": 5.0, "helpful": 2.0}}
    )
    expected = front.hypervolume([2.0, 5.0])
    assert expected != front.hypervolume([5.0, 2.0])
    assert front.hypervolume() == front.hypervolume(pd.Series({"harmless": 5.0, "helpful": 2.0})) == expected
    near = Front([[1, 0], [0, 1]], [[0.0, 100.0], [0.5, 0.0]], NAMES)
    assert near.is_collapsed(tolerance=0.9, scale={"harmless": 1e4, "helpful": 1.0})
    assert not near.is_collapsed(tolerance=0.9, scale={"harmless": 1.0, "helpful": 1e4})
    with pytest.raises(ValueError, match=r"the reference_point .* has a number for a, which is no objective"):
        front.hypervolume({"a": 1.0, "helpful": 2.0})


def test_a_front_needs_a_row_for_each_preference_by_name_too():
    with pytest.raises(ValueError, match=r"preferences have shape \(1, 2\) and values \(2, 2\)"):
        Front(BY_NAME, [[0, 1], [1, 0]], NAMES)
    with pytest.raises(ValueError, match=r"preferences have shape \(2, 2\) and values \(1, 2\)"):
        Front(pd.DataFrame(ROWS), [[0, 1]], NAMES)


def test_a_dirichlet_sampler_with_names_reads_alpha_by_name():
    assert DirichletSampler(NAMES, alpha={"harmless": 1.0, "helpful": 2.0}).alpha.tolist() == [2.0, 1.0]


@given(st.permutations(range(4)), st.sampled_from(["Series", "DataFrame", "Arrow", "structured", "dict"]))
def test_the_order_of_labels_never_counts(order, kind):
    names, weights = ("a", "b", "c", "d"), np.array([0.1, 0.2, 0.3, 0.4])
    row = {names[i]: weights[i] for i in order}
    labelled = {
        "Series": lambda: pd.Series(row),
        "DataFrame": lambda: pd.DataFrame([row]),
        "Arrow": lambda: pa.Table.from_pylist([row]),
        "structured": lambda: np.array([tuple(row.values())], dtype=[(name, "f8") for name in row]),
        "dict": lambda: row,
    }[kind]()
    assert validate_preferences(labelled, names).tolist() == [weights.tolist()]


def test_a_long_list_of_labels_is_cut():
    with pytest.raises(ValueError, match=r"… \(100000 of them\)") as error:
        validate_preferences(pd.Series(np.full(100000, 1e-5), index=[f"run {i}" for i in range(100000)]), NAMES)
    assert len(str(error.value)) < 1000
    with pytest.raises(ValueError, match="which is no objective") as error:
        validate_preferences({f"run {i}": 1e-5 for i in range(100000)}, NAMES)
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize(
    "value", [[0.5, 0.5], (0.5, 0.5), np.zeros(2), torch.zeros(2), 0.5, "ab", None, dict, WeightsOfAClass]
)
def test_what_has_no_labels(value):
    assert labels_of(value) is None


@pytest.mark.parametrize(
    ("preferences", "message"),
    [
        (
            torch.tensor([0.75, 0.25]).to_sparse(),
            "preferences is a sparse, nested or quantised tensor: give a dense one",
        ),
        (torch.empty(2, device="meta"), "preferences is a tensor on the meta device, which holds no numbers"),
        (["0.75", "0.25"], "preferences is no rectangular array of real numbers .*such as np.str_"),
        ({0.75, 0.25}, "a set has no order"),
        (iter([0.75, 0.25]), "an iterator can be read only once"),
        (BY_NAME.values(), "preferences is no rectangular array of real numbers"),
    ],
    ids=lambda part: part if isinstance(part, str) else type(part).__name__,
)
def test_preferences_without_an_order_or_numbers_are_refused(preferences, message):
    with pytest.raises(ValueError, match=message):
        validate_preferences(preferences, NAMES)

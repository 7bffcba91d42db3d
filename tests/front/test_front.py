"""Front: what it accepts, says, and keeps through files."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from mopref import indicators
from mopref.front import Front

NAMES = ("helpful", "harmless")


def small(**changes):
    arguments = {
        "preferences": [[1.0, 0.0], [0.5, 0.5], [0.25, 0.75], [0.0, 1.0]],
        "values": [[0.0, 2.0], [1.0, 1.0], [1.5, 1.5], [2.0, 0.0]],
        "names": NAMES,
        "extra": {"length": [10, 20, 30, 40], "accuracy": [0.1, None, 0.3, 1.0], "text": ["a", "b, c", 'd"', "é\nλ"]},
        "metadata": {"seed": 3, "reference_point": (3, 3), "model": {"id": "x", "rank": np.int64(8)}},
    }
    return Front(**(arguments | changes))


def same(a, b):
    """Equal in every bit and type."""
    assert a.names == b.names
    assert a.maximize == b.maximize
    assert type(a.maximize) is type(b.maximize)
    assert a.metadata == b.metadata
    pairs = [(a.values, b.values), (a.preferences, b.preferences)]
    assert list(a.extra) == list(b.extra)
    for x, y in pairs + [(a.extra[name], b.extra[name]) for name in a.extra]:
        assert x.dtype == y.dtype
        assert x.shape == y.shape
        assert x.tobytes() == y.tobytes() if x.dtype.kind != "f" else np.array_equal(x, y, equal_nan=True)


# --- what is stored --------------------------------------------------------------------------------------------------


def test_stores_float64_copies():
    preferences, values = np.array([[1.0, 0.0]]), np.array([[1.0, 2.0]])
    front = Front(preferences, values, NAMES)
    front.values[0, 0] = 5
    front.preferences[0, 0] = 5
    assert values[0, 0] == 1.0
    assert preferences[0, 0] == 1.0
    kept = Front(torch.tensor([[0.1, 0.9]]), torch.ones(1, 2, requires_grad=True), list(NAMES))
    assert kept.preferences.dtype == kept.values.dtype == np.float64
    assert kept.names == NAMES
    assert len(kept) == 1
    assert repr(kept) == "Front(1 points, names=('helpful', 'harmless'), maximize=False)"


def test_float32_preferences_are_precise_enough():
    weights = np.random.default_rng(0).dirichlet(np.ones(3), 200).astype(np.float32)
    assert len(Front(weights, np.zeros((200, 3)), ("a", "b", "c"))) == 200


@pytest.mark.parametrize(
    ("preferences", "message"),
    [
        ([[1.0, 0.0], [0.6, 0.5]], "row 1 does not sum to 1 .*sum 1.1"),
        ([[1.0, 0.0], [1.5, -0.5]], "row 1 is negative"),
        ([[1.0, 0.0], [math.nan, 1.0]], "preferences has nan at row 1, column 0"),
        ([[1.0, 0.0]], r"\(1, 2\) and values \(2, 2\)"),
        ([1.0, 0.0], r"preferences must have shape \(N, m\).*\(2,\)"),
        ([[1.0, 0.0], [0.5, 0.5 + 2e-6]], "row 1 does not sum to 1"),
    ],
)
def test_bad_preferences_raise(preferences, message):
    with pytest.raises(ValueError, match=message):
        Front(preferences, [[1, 2], [3, 4]], NAMES)


def test_bad_values_raise():
    with pytest.raises(ValueError, match="values has inf at row 0, column 1"):
        Front([[1, 0]], [[1, math.inf]], NAMES)
    with pytest.raises(ValueError, match="empty"):
        Front(np.empty((0, 2)), np.empty((0, 2)), NAMES)


@pytest.mark.parametrize("names", ["ab", ("a",), ("a", "a"), ("a", ""), ("a", 1), ("a", "b", "c")])
def test_bad_names_raise(names):
    with pytest.raises(ValueError, match="names must be"):
        Front([[1, 0]], [[1, 2]], names)


@pytest.mark.parametrize(
    ("given", "kept"),
    [(True, True), ([False, False], False), ((True, True), True), ([True, False], (True, False))],
)
def test_maximize_is_one_bool_where_all_agree(given, kept):
    front = small(maximize=given)
    assert front.maximize == kept
    assert type(front.maximize) is type(kept)
    assert front.is_maximized() == (kept if isinstance(kept, tuple) else (kept, kept))
    with pytest.raises(ValueError, match=r"maximize has shape \(3,\)"):
        small(maximize=[True] * 3)


def test_extra_columns():
    front = small(extra={"flag": [True, False, True, True], "tensor": torch.tensor([1, 2, 3, 4]), "none": [None] * 4})
    assert front.extra["flag"].dtype == bool
    assert front.extra["tensor"].dtype == np.int64
    assert np.isnan(front.extra["none"]).all()
    for wrong in ([1, 2], [[1], [2], [3], [4]], ["a", None, "b", "c"], [{}, 1, 2, 3]):
        with pytest.raises(ValueError, match="extra column 'x'"):
            small(extra={"x": wrong})
    with pytest.raises(ValueError, match="infinite number in row 2"):
        small(extra={"x": [1.0, 2.0, math.inf, 3.0]})
    for name in ("helpful", "preference_helpful", "preference_x"):
        with pytest.raises(ValueError, match="rename"):
            small(extra={name: [1, 2, 3, 4]})


def test_metadata_must_fit_into_json_from_the_start():
    assert small().metadata == {"seed": 3, "reference_point": [3, 3], "model": {"id": "x", "rank": 8}}
    assert small(metadata={"a": torch.tensor([1.0, 2.0])}).metadata == {"a": [1.0, 2.0]}
    for wrong in (object(), math.nan, {"deep": [math.inf]}):
        with pytest.raises(ValueError, match=r"metadata\['bad'\]"):
            small(metadata={"bad": wrong})


# --- what it says ----------------------------------------------------------------------------------------------------


def test_hypervolume_never_guesses_the_reference_point():
    front = small()
    assert front.hypervolume([3, 3]) == indicators.hypervolume(front.values, [3, 3]) == 6.0
    assert front.hypervolume() == 6.0  # the one in metadata
    assert front.hypervolume([2, 2]) == 1.0
    assert small(maximize=True).hypervolume([0, 0]) == 2.25
    with pytest.raises(ValueError, match="No reference point"):
        small(metadata={}).hypervolume()


@pytest.mark.parametrize("maximize", [False, True, (True, False)])
def test_indicators_are_the_functions(maximize):
    front = small(maximize=maximize)
    values, true_front = front.values, [[0.0, 0.5], [0.5, 0.0]]
    point = np.where(front.is_maximized(), -1.0, 3.0)
    found = front.indicators(point, true_front)
    assert found == {
        "hypervolume": indicators.hypervolume(values, point, maximize),
        "hypervolume_exact": True,
        "reference_point": point.tolist(),
        "inner_product": indicators.inner_product(front.preferences, values, maximize),
        "sparsity": pytest.approx(indicators.sparsity(values, maximize), nan_ok=True),
        "spacing": indicators.spacing(values, maximize),
        "range": {"helpful": 2.0, "harmless": 2.0},
        "non_dominated": indicators.non_dominated(values, maximize).sum(),
        "distinct_non_dominated": indicators.number_of_distinct_non_dominated(values, maximize=maximize),
        "fraction_non_dominated": indicators.fraction_non_dominated(values, maximize),
        "collapsed": front.is_collapsed(),
        "igd": indicators.igd(values, true_front, maximize),
        "igd_plus": indicators.igd_plus(values, true_front, maximize),
        "gd": indicators.gd(values, true_front, maximize),
        "gd_plus": indicators.gd_plus(values, true_front, maximize),
        "fill_distance": indicators.fill_distance(values, true_front),
    }
    bare = small(metadata={}).indicators()
    assert not {"hypervolume", "reference_point", "igd"} & set(bare)
    assert small().indicators()["reference_point"] == [3.0, 3.0]


def test_non_dominated_keeps_everything_that_belongs_to_a_point():
    front = small().non_dominated()
    assert front.values.tolist() == [[0, 2], [1, 1], [2, 0]]
    assert front.preferences[:, 0].tolist() == [1, 0.5, 0]
    assert front.extra["length"].tolist() == [10, 20, 40]
    assert front.metadata == small().metadata
    assert small(maximize=True).non_dominated().values.tolist() == [[0, 2], [1.5, 1.5], [2, 0]]


def test_collapse_is_noticed():
    rng = np.random.default_rng(0)
    weights = rng.dirichlet(np.ones(2), 20)
    noise = 1e-4 * rng.random((20, 2))
    assert Front(weights, 0.6 + noise, NAMES).is_collapsed()
    assert not Front(weights, 0.6 + noise, NAMES).is_collapsed(tolerance=1e-6)
    assert not Front(weights, 0.6 + noise, NAMES).is_collapsed(scale=[1e-4, 1e-4])
    assert not Front(weights, 0.6 + weights / 10, NAMES).is_collapsed()
    # The verdict does not depend on the objectives' units.
    for units in (1e-6, 1e6):
        assert Front(weights, (0.6 + noise) * units, NAMES).is_collapsed()
        assert not Front(weights, (0.6 + weights / 10) * units, NAMES).is_collapsed()
    # One point that dominates all others leaves nothing to choose either.
    assert Front(weights, np.stack([weights[:, 0]] * 2, axis=1), NAMES).is_collapsed()
    assert not Front([[1, 0], [0, 1]], [[0, 1], [1, 0]], NAMES).is_collapsed()
    assert not Front([[1, 0]], [[0, 1]], NAMES).is_collapsed()
    assert Front([[1], [1]], [[2], [2]], ["a"]).is_collapsed()
    assert not Front([[1], [1]], [[1], [2]], ["a"]).is_collapsed()
    with pytest.raises(ValueError, match=r"scale must have shape \(2,\)"):
        small().is_collapsed(scale=[1.0])


def test_summary_shows_every_point_and_what_the_numbers_rest_on():
    text = small(extra={"[bold]length[/bold]": [10, 20, 30, 40]}).summary()
    assert "\x1b" not in text
    header, _, *rows = text.split("\n\n")[0].splitlines()
    assert header.split("  ")[0].strip() == "λ helpful"
    assert "helpful ↓" in header
    assert "[bold]length[/bold]" in header
    assert [row.split() for row in rows] == [
        ["1.0000", "0.0000", "0.0000", "2.0000", "10"],
        ["0.5000", "0.5000", "1.0000", "1.0000", "20"],
        ["0.2500", "0.7500", "1.5000", "1.5000", "30", "dominated"],
        ["0.0000", "1.0000", "2.0000", "0.0000", "40"],
    ]
    below = text.split("\n\n")[1]
    assert "hypervolume     6  (reference point [3.0, 3.0])" in below
    assert "non-dominated   3 of 4, 3 of them distinct" in below
    assert "seed            3" in below
    assert "range           helpful 2, harmless 2" in below
    assert "COLLAPSED" not in text
    assert "IGD" not in text


def test_summary_says_what_it_lacks():
    bare = small(metadata={}).summary(true_front=[[0.0, 2.0]])
    assert "needs a reference point" in bare
    assert "seed            not recorded" in bare
    assert "IGD+            0" in bare
    assert "helpful ↑" in small(maximize=True).summary([0, 0])
    assert "COLLAPSED" in small(values=np.ones((4, 2))).summary()


def test_summary_is_never_cut():
    names = tuple(f"an objective with quite a long name {i}" for i in range(8))
    front = Front(np.eye(8), np.eye(8), names)
    lines = front.summary().split("\n\n")[0].splitlines()
    assert len(lines) == 2 + 8
    assert all(f"{name} ↓" in lines[0] and f"λ {name}" in lines[0] for name in names)


def test_to_frame():
    frame = small().to_frame()
    columns = ["preference_helpful", "preference_harmless", "helpful", "harmless", "length", "accuracy", "text"]
    assert list(frame.columns) == columns
    assert frame["preference_harmless"].tolist() == [0, 0.5, 0.75, 1]
    assert frame["harmless"].tolist() == [2, 1, 1.5, 0]
    assert frame["length"].tolist() == [10, 20, 30, 40]


# --- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("maximize", [False, True, (True, False)])
def test_json_comes_back_exactly(tmp_path, maximize):
    front = small(maximize=maximize)
    front.save(tmp_path / "new" / "folder" / "front.json")
    same(Front.load(tmp_path / "new" / "folder" / "front.json"), front)
    assert [file.name for file in (tmp_path / "new" / "folder").iterdir()] == ["front.json"]


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_any_front_comes_back_exactly(tmp_path_factory, data):
    m, n = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 5))
    numbers = st.floats(allow_nan=False, allow_infinity=False)
    values = data.draw(st.lists(st.lists(numbers, min_size=m, max_size=m), min_size=n, max_size=n))
    names = data.draw(st.lists(st.text("ab_λ, \n\"'", min_size=1), min_size=m, max_size=m, unique=True))
    weights = np.random.default_rng(n).dirichlet(np.ones(m), n)
    front = Front(weights, values, names)
    folder = tmp_path_factory.mktemp("fronts")
    front.save(folder / "front.json")
    same(Front.load(folder / "front.json"), front)
    front.save(folder / "front.csv")
    same(Front.load(folder / "front.csv", maximize=False), front)


def test_csv_keeps_the_table(tmp_path):
    front = small(maximize=(True, False))
    front.save(tmp_path / "front.csv")
    with pytest.raises(ValueError, match="does not say whether higher is better"):
        Front.load(tmp_path / "front.csv")
    loaded = Front.load(tmp_path / "front.csv", maximize=(True, False))
    same(loaded, small(maximize=(True, False), metadata={}))
    assert (tmp_path / "front.csv").read_text().startswith("preference_helpful,preference_harmless,helpful,harmless,le")


def test_files_are_strict_json(tmp_path):
    small().save(tmp_path / "front.json")

    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    content = json.loads((tmp_path / "front.json").read_text(), parse_constant=refuse)
    assert content["extra"]["accuracy"] == [0.1, None, 0.3, 1.0]
    assert content["values"] == small().values.tolist()
    spoilt = small()
    spoilt.values[0, 0] = math.nan
    with pytest.raises(ValueError, match="JSON"):
        spoilt.save(tmp_path / "spoilt.json")
    assert not (tmp_path / "spoilt.json").exists()


def test_other_names_are_refused(tmp_path):
    for name in ("front.pkl", "front", "front.json.gz"):
        with pytest.raises(ValueError, match=r"must end in \.json or \.csv"):
            small().save(tmp_path / name)
        with pytest.raises(ValueError, match=r"must end in \.json or \.csv"):
            Front.load(tmp_path / name)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(FileNotFoundError):
        Front.load(tmp_path / "missing.json")
    small().save(tmp_path / "front.json")
    with pytest.raises(ValueError, match="leave maximize out"):
        Front.load(tmp_path / "front.json", maximize=False)


@pytest.mark.parametrize("step", ["os.fsync", "os.replace"])
def test_a_failing_save_leaves_the_old_file(tmp_path, monkeypatch, step):
    path = tmp_path / "front.json"
    small().save(path)
    before = path.read_text()

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(step, fail)
    with pytest.raises(OSError, match="disk full"):
        small(metadata={}).save(path)
    assert path.read_text() == before
    assert [file.name for file in tmp_path.iterdir()] == ["front.json"]


def damaged(change):
    def apply(text):
        content = json.loads(text)
        change(content)
        return json.dumps(content)

    return apply


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[: len(text) // 2], "damaged"),
        (lambda text: "", "damaged"),
        (lambda text: "[1, 2]", 'no "format"'),
        (lambda text: '{"values": [[1, 2]]}', 'no "format"'),
        (damaged(lambda c: c.pop("values")), "lacks values"),
        (damaged(lambda c: (c.pop("maximize"), c.pop("extra"))), "lacks maximize, extra"),
        (damaged(lambda c: c.update(version=99)), "version is 99"),
        (damaged(lambda c: c["values"].pop()), r"\(4, 2\) and values \(3, 2\)"),
        (damaged(lambda c: c["values"][1].__setitem__(0, math.nan)), "values has nan at row 1, column 0"),
        (damaged(lambda c: c["values"][1].pop()), "rectangular"),
        (damaged(lambda c: c.update(names=None)), "NoneType"),
        (damaged(lambda c: c.update(extra=[1])), "list"),
        (damaged(lambda c: c.update(extra={"length": 7})), "int"),
        (damaged(lambda c: c.update(maximize="no")), "maximize must be a bool"),
        (damaged(lambda c: c["preferences"].__setitem__(0, [2.0, 0.0])), "row 0 does not sum to 1"),
    ],
)
def test_damaged_json_says_what_is_wrong(tmp_path, change, message):
    path = tmp_path / "front.json"
    small().save(path)
    path.write_text(change(path.read_text()))
    with pytest.raises(ValueError, match=f"(?s)front.json is not a front.*{message}"):
        Front.load(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "columns"),
        ("a,b\n1,2\n", "columns"),
        ("preference_a,a\n", "no rows"),
        ("preference_a,a\n1.0\n", "row 0 has 1 cells, not 2"),
        ("preference_a,a\n1.0,x\n", "could not convert"),
        ("preference_a,a,a\n1,2,3\n", "each once"),
        ("preference_a,preference_b,a\n1.0,0.0,2.0\n", "rename"),
    ],
)
def test_other_csv_files_say_what_is_wrong(tmp_path, text, message):
    path = tmp_path / "front.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"front.csv is not a front.*{message}"):
        Front.load(path, maximize=False)

"""The files of a front: JSON and CSV come back as they were, and anything else says what is wrong with it."""

import json
import math

import numpy as np
import pytest
from front_asserts import assert_same
from front_inputs import small
from hypothesis import given, settings, strategies as st

from mopref.front import Front
from mopref.front.files import FrontContent, from_csv, from_json, to_csv, to_json

CONTENT = FrontContent(
    preferences=[[1.0, 0.0], [0.0, 1.0]],
    values=[[0.1, 2.0], [3.0, 1e-300]],
    names=["a", "b"],
    maximize=[True, False],
    extra={"length": np.array([10, 20]), "accuracy": np.array([0.5, math.nan])},
    metadata={"seed": 3},
    convention="ray",
)


def test_json_holds_everything():
    content = from_json(to_json(CONTENT))
    assert content[:4] == CONTENT[:4]
    assert content.extra == {"length": [10, 20], "accuracy": [0.5, None]}
    assert content.metadata == {"seed": 3}
    assert content.convention == "ray"


def test_csv_holds_the_table():
    headers = ["preference_a", "preference_b", "a", "b", "length", "accuracy"]
    columns = [*np.transpose(CONTENT.preferences), *np.transpose(CONTENT.values), *CONTENT.extra.values()]
    text = to_csv(headers, columns)
    assert text.splitlines() == [",".join(headers), "1.0,0.0,0.1,2.0,10,0.5", "0.0,1.0,3.0,1e-300,20,"]
    content = from_csv(text, maximize=(True, False))
    assert np.array_equal(content.preferences, CONTENT.preferences)
    assert np.array_equal(content.values, CONTENT.values)
    assert content.names == CONTENT.names
    assert content.maximize == (True, False)
    assert content.extra["length"] == [10, 20]
    assert content.extra["accuracy"][0] == 0.5
    assert math.isnan(content.extra["accuracy"][1])
    assert content.metadata == {}
    assert content.convention is None
    assert from_csv(text, (True, False), "ray").convention == "ray"


@pytest.mark.parametrize("convention", ["importance", "ray", "unrecorded"])
@pytest.mark.parametrize("maximize", [False, True, (True, False)])
def test_json_comes_back_exactly(tmp_path, maximize, convention):
    front = small(maximize=maximize, convention=convention)
    front.save(tmp_path / "new" / "folder" / "front.json")
    assert_same(Front.load(tmp_path / "new" / "folder" / "front.json"), front)
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
    assert_same(Front.load(folder / "front.json"), front)
    front.save(folder / "front.csv")
    assert_same(Front.load(folder / "front.csv", maximize=False, convention="importance"), front)


def test_csv_keeps_the_table(tmp_path):
    front = small(maximize=(True, False))
    front.save(tmp_path / "front.csv")
    with pytest.raises(ValueError, match="does not say whether higher is better"):
        Front.load(tmp_path / "front.csv")
    loaded = Front.load(tmp_path / "front.csv", maximize=(True, False))
    assert_same(loaded, small(maximize=(True, False), metadata={}, convention="unrecorded"))
    assert Front.load(tmp_path / "front.csv", (True, False), "ray").convention == "ray"
    with pytest.raises(ValueError, match=r"front.csv is not a front.*convention is 'rays'"):
        Front.load(tmp_path / "front.csv", (True, False), "rays")
    assert (tmp_path / "front.csv").read_text().startswith("preference_helpful,preference_harmless,helpful,harmless,le")


def version_1(path):
    """Makes a front's file what version 0.1 wrote: of another version, without a convention."""
    content = json.loads(path.read_text())
    del content["convention"]
    path.write_text(json.dumps(content | {"version": 1}))


def test_a_file_of_version_1_says_that_it_does_not_record_the_convention(tmp_path):
    path = tmp_path / "front.json"
    small().save(path)
    assert json.loads(path.read_text())["version"] == 2
    version_1(path)
    with pytest.warns(
        UserWarning, match=r"front.json is of version 1.* LARGER λ_i .* convention='ray'.*save it"
    ) as told:
        front = Front.load(path)
    assert told[0].filename == __file__
    assert front.convention == "unrecorded"
    assert_same(front, small(convention="unrecorded"))


@pytest.mark.parametrize("convention", ["importance", "ray"])
def test_a_file_of_version_1_moves_by_being_told_its_convention(tmp_path, recwarn, convention):
    path = tmp_path / "front.json"
    small().save(path)
    version_1(path)
    Front.load(path, convention=convention).save(path)
    assert_same(Front.load(path), small(convention=convention))
    assert not recwarn
    with pytest.raises(ValueError, match=r"front\.json holds the convention of its preferences itself: leave"):
        Front.load(path, convention=convention)


@pytest.mark.parametrize("word", ["rays", "Ray", "", None, 1, ["ray"]])
def test_only_a_convention_can_be_set(word, tmp_path):
    front = small()
    with pytest.raises(ValueError, match=r"convention is .*: choose"):
        front.convention = word
    front.convention = "ray"
    front.save(tmp_path / "front.json")
    assert Front.load(tmp_path / "front.json").convention == "ray"


@pytest.mark.parametrize("ending", ["json", "csv"])
@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("names", ("a", "a"), "names are"),
        ("names", ("a", 1), "names are"),
        ("names", ("a",), "names are"),
        ("preferences", np.full((4, 2), 0.7), "sums to 1.4, not 1"),
        ("values", np.full((3, 2), 0.5), "preferences have shape"),
        ("values", np.full((4, 2), np.nan), "values has nan"),
        ("maximize", (True,), "maximize"),
        ("extra", {"x": [1.0, 2.0]}, "extra column 'x'"),
        ("extra", {"preference_x": [1.0, 2.0, 3.0, 4.0]}, "rename"),
        ("metadata", {"x": object()}, "cannot be written as JSON"),
        ("metadata", 3, "items"),
    ],
)
def test_what_was_spoilt_since_is_not_saved(name, value, message, ending, tmp_path):
    front = small()
    setattr(front, name, value)
    with pytest.raises(
        ValueError, match=f"changed after it was made, and neither .* could be loaded again: .*{message}"
    ):
        front.save(tmp_path / f"front.{ending}")
    assert not list(tmp_path.iterdir())


def test_what_was_changed_to_something_else_that_is_right_is_saved(tmp_path):
    front = small()
    front.names, front.values, front.extra = ["x", "y"], front.values.tolist(), {"length": [1, 2, 3, 4]}
    front.save(tmp_path / "front.json")
    loaded = Front.load(tmp_path / "front.json")
    assert loaded.names == ("x", "y")
    assert loaded.extra["length"].tolist() == [1, 2, 3, 4]


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
    with pytest.raises(FileNotFoundError, match=r"missing\.json"):
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
        (damaged(lambda c: c.update(version=99)), "version is 99, and this mopref reads 1 and 2"),
        (damaged(lambda c: c.pop("convention")), "lacks convention"),
        (damaged(lambda c: c.update(convention="rays")), "convention is 'rays': choose"),
        (damaged(lambda c: c.update(convention=None)), "convention is None: choose"),
        (damaged(lambda c: c["values"].pop()), r"\(4, 2\) and values \(3, 2\)"),
        (damaged(lambda c: c["values"][1].__setitem__(0, math.nan)), "values has nan at row 1, column 0"),
        (damaged(lambda c: c["values"][1].pop()), "rectangular"),
        (damaged(lambda c: c.update(names=None)), "NoneType"),
        (damaged(lambda c: c.update(extra=[1])), "list"),
        (damaged(lambda c: c.update(extra={"length": 7})), "int"),
        (damaged(lambda c: c.update(maximize="no")), "maximize is 'no': give one bool"),
        (
            damaged(lambda c: c["preferences"].__setitem__(0, [2.0, 0.0])),
            r"preference 0 = \[2\.0, 0\.0\] sums to 2, not 1",
        ),
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
        ("preference_a,a\n", "it has no rows"),
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

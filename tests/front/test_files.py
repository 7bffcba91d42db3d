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
    assert text.splitlines() == [
        ",".join([*headers, "points_in_file"]),
        "1.0,0.0,0.1,2.0,10,0.5,2",
        "0.0,1.0,3.0,1e-300,20,,2",
    ]
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
    del content["convention"], content["sha256"]
    path.write_text(json.dumps(content | {"version": 1}))


def test_a_file_of_version_1_says_that_it_does_not_record_the_convention(tmp_path):
    path = tmp_path / "front.json"
    small().save(path)
    assert json.loads(path.read_text())["version"] == 3
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
        ("names", ("a", 1), r"names\[1\] is of type int"),
        ("names", ("a",), "names are"),
        ("preferences", np.full((4, 2), 0.7), "sums to 1.4, not 1"),
        ("values", np.full((3, 2), 0.5), "preferences have shape"),
        ("values", np.full((4, 2), np.nan), "values has nan"),
        ("maximize", (True,), "maximize"),
        ("extra", {"x": [1.0, 2.0]}, "extra column 'x'"),
        ("extra", {"preference_x": [1.0, 2.0, 3.0, 4.0]}, "rename"),
        ("metadata", {"x": object()}, "cannot be written as JSON"),
        ("metadata", 3, "metadata is 3"),
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
    """Changes what a file of version 2 holds, which has no sum."""

    def apply(text):
        content = json.loads(text) | {"version": 2}
        del content["sha256"]
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
        (damaged(lambda c: c.update(version=99)), "version is 99, and this mopref reads 1 to 3"),
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


def refused_or(load):
    """The front, or nothing where it is refused in our own words."""
    try:
        return load()
    except ValueError as error:
        if "is not a front that Front.save wrote" not in str(error):
            raise
        return None


def whole(tmp_path, ending):
    """A front's file, and how it is loaded."""
    path = tmp_path / f"front.{ending}"
    front = small(extra={"length": [10, 20, 30, 44], "note": ["", "a,b", "c\nd", 'e"']}, metadata={"seed": 3})
    front.save(path)
    told = {"maximize": False, "convention": "importance"} if ending == "csv" else {}
    return path, lambda: Front.load(path, **told)


@pytest.mark.parametrize("ending", ["json", "csv"])
def test_no_cut_of_a_file_loads_as_another_front(tmp_path, ending):
    path, load = whole(tmp_path, ending)
    content, front = path.read_bytes(), load()
    for length in range(len(content) - 1):  # the last byte is a line feed
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=f"front.{ending} is not a front"):
            load()
    path.write_bytes(content[:-1])
    assert_same(load(), front)


def test_a_changed_json_file_is_refused_or_is_the_same_front(tmp_path):
    path, load = whole(tmp_path, "json")
    content, front, refused = path.read_bytes(), load(), 0
    for place in range(len(content)):
        for bit in range(8):
            changed = bytearray(content)
            changed[place] ^= 1 << bit
            path.write_bytes(changed)
            loaded = refused_or(load)
            refused += loaded is None
            if loaded is not None:  # blanks between two values
                assert_same(loaded, front)
    assert refused > 6 * len(content)


def test_digits_that_changed_are_told_as_such(tmp_path):
    path, load = whole(tmp_path, "json")
    text = path.read_text()
    for old, new in (("44", "45"), ('"seed": 3', '"seed": 4'), ('"helpful"', '"helpfum"'), ("a,b", "a,c")):
        path.write_text(text.replace(old, new, 1))
        with pytest.raises(
            ValueError, match="its content is not what was written, by the sha256 in it: copy it once more"
        ):
            load()
    content = json.loads(text)
    del content["sha256"]
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="by the sha256 in it"):
        load()


def test_how_a_json_file_is_laid_out_does_not_matter(tmp_path):
    path, load = whole(tmp_path, "json")
    front, content = load(), json.loads(path.read_text())
    path.write_text(json.dumps(dict(reversed(content.items())), ensure_ascii=True))
    assert_same(load(), front)


@pytest.mark.parametrize("version", [4, 99, "3", 3.0, True, None, [], {}])
def test_another_version_is_refused_by_name(tmp_path, version):
    path, load = whole(tmp_path, "json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": version}))
    with pytest.raises(
        ValueError, match=r"its format version is .*, and this mopref reads 1 to 3: read it with the newer"
    ):
        load()


def test_older_files_load_without_a_sum(tmp_path):
    path, load = whole(tmp_path, "json")
    front = load()
    path.write_text(damaged(lambda content: None)(path.read_text()))
    assert_same(load(), front)
    path, load = whole(tmp_path, "csv")
    front, lines = load(), path.read_text()
    path.write_text(lines.replace(",points_in_file", "").replace(",4\n", "\n"))
    assert_same(load(), front)


def test_a_table_whose_rows_were_changed_says_how_to_load_it(tmp_path):
    path, load = whole(tmp_path, "csv")
    path.write_text(path.read_text().replace(",4\n", ",5\n", 1))
    with pytest.raises(ValueError, match=r"says that there are '5' points in it.*Remove the column points_in_file"):
        load()
    with pytest.raises(ValueError, match=r"'points_in_file' is a column of \.csv files"):
        small(extra={"points_in_file": [1, 2, 3, 4]})


NESTED = "[" * 100_000 + "]" * 100_000


@pytest.mark.parametrize(
    "text",
    [
        NESTED,
        '{"format": "mopref front", "version": 2, "metadata": ' + NESTED + "}",
        '{"format": "mopref front", "version": ' + "9" * 5_000 + "}",
        '{"format": "mopref front", "version": 2, "version": 1}',
        "\0",
        "\ufeff{}",
        "null",
    ],
)
def test_what_no_front_is_like_is_refused(tmp_path, text):
    (tmp_path / "front.json").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"front.json is not a front"):
        Front.load(tmp_path / "front.json")


@pytest.mark.parametrize("field", ["preferences", "values", "names", "maximize", "extra", "metadata", "convention"])
@pytest.mark.parametrize(
    "junk", [10**400, -1, 1e308, "x", [], [[]], {}, {"a": [10**400] * 4}, None, True, "\0", [[{}]]]
)
def test_junk_in_a_field_is_refused_or_taken_without_a_fault(tmp_path, field, junk):
    path = tmp_path / "front.json"
    small().save(path)
    path.write_text(damaged(lambda content: content.update({field: junk}))(path.read_text()))
    front = refused_or(lambda: Front.load(path))
    if front is not None:
        front.save(path)
        assert_same(Front.load(path), front)


@pytest.mark.parametrize(
    "text", ["\0", "preference_a,a\n1.0,\0\n", "preference_a,a\n1.0,1" + "0" * 400, 'preference_a,a\n1.0,"1']
)
def test_a_table_of_nonsense_is_refused(tmp_path, text):
    (tmp_path / "front.csv").write_text(text)
    with pytest.raises(ValueError, match=r"front\.csv is not a front"):
        Front.load(tmp_path / "front.csv", maximize=False)


def test_long_cells_come_back(tmp_path):
    path = tmp_path / "front.csv"
    extra = {"answer": ["x" * 200_000, "", "y", "z\r\n"]}
    small(extra=extra).save(path)
    assert Front.load(path, maximize=False).extra["answer"].tolist() == extra["answer"]


@pytest.mark.parametrize("ending", ["json", "csv"])
def test_what_could_not_be_loaded_again_is_not_saved(tmp_path, ending, monkeypatch):
    path, load = whole(tmp_path, ending)
    before = path.read_bytes()
    monkeypatch.setattr("mopref.front.files._MOST_BYTES", len(before))
    with pytest.raises(ValueError, match="MiB as a file, which could not be loaded: leave out"):
        small(extra={"note": ["ä" * 300] * 4}).save(path)
    assert path.read_bytes() == before
    load()
    monkeypatch.setattr("mopref.front.files._MOST_BYTES", len(before) - 1)
    with pytest.raises(ValueError, match=f"front.{ending} is not a front.*the most that a front may have"):
        load()


def test_a_folder_or_a_pipe_is_no_front(tmp_path):
    (tmp_path / "front.json").mkdir()
    with pytest.raises(ValueError, match="is a folder, and no file that could hold a front"):
        Front.load(tmp_path / "front.json")

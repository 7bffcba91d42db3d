"""BeaverTails: pairs of a safe and an unsafe answer, and of answers that differ in a kind of harm."""

import pyarrow
import pytest
from pyarrow import parquet

from mopref.llm.data import LoadReport, validate_records
from mopref.llm.data.loaders import LOADERS, load_beavertails

KINDS = ("animal_abuse", "privacy_violation", "violence,aiding_and_abetting,incitement")


def row(response, *harms, prompt="Why?"):
    """A row with the data set's columns, and some of its 14 categories."""
    return {
        "prompt": prompt,
        "response": response,
        "category": {kind: kind in harms for kind in KINDS},
        "is_safe": not harms,
    }


ROWS = [
    row("good"),
    row("spy", KINDS[1]),
    row("hit", KINDS[2]),
    row("both", KINDS[1], KINDS[2]),
    row("x", prompt="How?"),
]


def preferences(records, objective):
    return {
        (record[f"response_{record[objective]}"], record[f"response_{1 - record[objective]}"])
        for record in records
        if record[objective] >= 0
    }


def test_safe_against_unsafe(tmp_path):
    parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    report = LoadReport()
    with pytest.warns(UserWarning, match="5 rows made 3 records"):
        records = load_beavertails(tmp_path / "a.parquet", report=report)
    validate_records(records, ("harmless",))
    assert preferences(records, "harmless") == {("good", "spy"), ("good", "hit"), ("good", "both")}
    assert report.left_out == {"pairs: no label on any objective": 3, "prompts: fewer than two answers": 1}


def test_an_objective_for_each_category():
    categories = {"private": "privacy_violation", "any": ["privacy_violation", KINDS[2]]}
    with pytest.warns(UserWarning, match="left out"):
        records = load_beavertails(ROWS, None, categories)
    private = {("good", "spy"), ("good", "both"), ("hit", "spy"), ("hit", "both")}
    assert preferences(records, "private") == private
    assert preferences(records, "any") == {("good", "spy"), ("good", "hit"), ("good", "both")}
    assert all("harmless" not in record for record in records)
    with pytest.warns(UserWarning, match="left out"):
        records = load_beavertails(ROWS, "safe", {"private": "privacy_violation"})
    assert preferences(records, "safe") == {("good", "spy"), ("good", "hit"), ("good", "both")}
    assert preferences(records, "private") == private


def test_answers_that_several_people_judged():
    """Two of three find "b" safe: compared with "a", which all find safe, only by a smaller margin."""
    rows = [row("a"), row("a"), row("b"), row("b"), row("b", KINDS[0]), row("c", KINDS[0])]
    with pytest.warns(UserWarning, match="tie"):
        assert preferences(load_beavertails(rows), "harmless") == {("a", "c")}
    with pytest.warns(UserWarning, match="tie"):
        records = load_beavertails(rows, margin=0.5)
    assert preferences(records, "harmless") == {("a", "c"), ("b", "c")}


def test_wrong_rows():
    with pytest.raises(ValueError, match="row 0: column 'category' has no 'privacy': choose of animal_abuse, priv"):
        load_beavertails(ROWS, None, {"private": "privacy"})
    with pytest.raises(ValueError, match="row 1: 'is_safe' is a str that is no flag"):
        load_beavertails([ROWS[0], ROWS[1] | {"is_safe": "maybe"}])
    with pytest.raises(ValueError, match="row 0: column 'category' is a str"):
        load_beavertails([ROWS[0] | {"category": "none"}], None, {"private": "privacy_violation"})
    with pytest.raises(ValueError, match=r"row 0: column 'is_safe' is missing .* read by load_preference_pairs"):
        load_beavertails([{"prompt": "a", "response": "b", "chosen": "c", "rejected": "d"}])
    with pytest.raises(ValueError, match="objectives is"):
        load_beavertails(ROWS, None)


def test_flags_in_csv_files_are_texts():
    rows = [ROWS[0] | {"is_safe": "True"}, ROWS[1] | {"is_safe": "false"}]
    assert preferences(load_beavertails(rows), "harmless") == {("good", "spy")}


def test_it_is_known_by_its_name():
    assert len(LOADERS.make("beavertails", source=ROWS[:2])) == 1


@pytest.mark.parametrize(
    ("categories", "message"),
    [
        (7, "categories is 7, of type int: give a dict"),
        ({"private": 7}, "categories of 'private' are of type int: give a list of texts"),
        ({"private": [7]}, r"categories of 'private'\[0\] is of type int: give a text"),
    ],
)
def test_categories_of_another_kind_are_refused_by_name(categories, message):
    with pytest.raises(TypeError, match=message):
        load_beavertails([], categories=categories)

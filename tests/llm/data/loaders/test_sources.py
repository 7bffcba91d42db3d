"""Where rows come from, and what their columns are called."""

import pytest

from mopref.llm.data.loaders.sources import DataSource, check_columns_map, renamed_rows, source_of_each

ROWS = [{"question": "Why?", "prompt": "old", "id": n} for n in range(3)]


def test_rows_in_memory_and_in_files_are_the_same(tmp_path, write_lines):
    path = write_lines(tmp_path / "a.jsonl", ROWS)
    for source in (ROWS, path, str(path), tmp_path):
        assert list(DataSource(source, split="train", limit=2).rows()) == ROWS[:2]
    assert list(DataSource(ROWS).rows()) == ROWS


def test_rows_of_datasets():
    from datasets import Dataset

    data_set = Dataset.from_list(ROWS)
    for source in (data_set, data_set.to_iterable_dataset()):
        assert list(DataSource(source, limit=2).rows()) == ROWS[:2]


def test_columns_are_renamed_and_others_stay():
    rows = list(DataSource(ROWS, columns={"prompt": "question", "system": None}).rows())
    assert rows == [{"prompt": "Why?", "id": n} for n in range(3)], "the old prompt makes room"
    assert list(renamed_rows(iter([{"system": "S", "a": 1}]), {"system": None})) == [{"a": 1}]
    assert list(renamed_rows(iter(ROWS), {})) == ROWS


def test_a_column_that_is_in_later_rows_only():
    rows = [{"a": 1}, {"a": 2, "note": "x"}]
    assert list(DataSource(rows, columns={"system": "note"}).rows()) == [{"a": 1}, {"a": 2, "system": "x"}]
    with pytest.raises(ValueError, match="columns names 'nota', which none of the first 2 rows has; there are 'a'"):
        list(DataSource(rows, columns={"system": "nota"}).rows())


@pytest.mark.parametrize("option", ["folder", "subset", "revision"])
def test_rows_in_memory_have_no_options_of_the_hub(option):
    with pytest.raises(ValueError, match=f"{option} is 'x': rows in memory have none"):
        list(DataSource(ROWS, **{option: "x"}).rows())


def test_what_is_no_row_is_refused():
    with pytest.raises(ValueError, match="limit is 0"):
        list(DataSource(ROWS, limit=0).rows())
    with pytest.raises(ValueError, match="records is a dict: it must be a list of dicts"):
        list(DataSource({"question": ["Why?"]}).rows())
    for source in (None, 3):
        with pytest.raises(
            TypeError, match=rf"source is {source}, of type {type(source).__name__}: give a path or a list"
        ):
            DataSource(source)
    with pytest.raises(ValueError, match="row 1 is a str: a row must be a dict"):
        list(DataSource([{}, "Why?"]).rows())


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ("prompt", "columns is a str: it maps names to columns"),
        ({"promt": "question"}, "columns maps 'promt', which is not read here: its names may be prompt, chosen"),
        ({"prompt": 3}, "columns maps 'prompt' to a int"),
        ({"prompt": "a", "chosen": "a"}, "columns maps two names to 'a'"),
    ],
)
def test_column_maps_that_cannot_be_meant(columns, message):
    check_columns_map({"prompt": "question", "chosen": None}, ("prompt", "chosen"))
    with pytest.raises(ValueError, match=message):
        check_columns_map(columns, ("prompt", "chosen"))


def test_the_source_of_each_objective():
    own = DataSource("", limit=3)
    special = DataSource("b", split="test")
    assert source_of_each({"x": "a", "y": special}, own, "load") == {"x": DataSource("a", limit=3), "y": special}
    assert source_of_each({"y": special}, DataSource(""), "load") == {"y": special}
    with pytest.raises(ValueError, match="every source is a DataSource, which has its own options"):
        source_of_each({"y": special}, own, "load")
    for sources, kind in (("a.jsonl", "a str"), ([ROWS], "a list"), ({}, "empty")):
        with pytest.raises(ValueError, match=rf"sources is {kind}: it maps each objective .*, as load\(\{{'helpful'"):
            source_of_each(sources, own, "load")

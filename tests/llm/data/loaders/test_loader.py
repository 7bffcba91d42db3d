"""The registry of loaders, a loader from outside the library, and what all loaders share."""

import importlib

import pytest

from mopref.llm.data.loaders import LOADERS, load_records
from mopref.llm.data.loaders.loader import read_rows, require_columns, usable_records

RECORD = {"prompt": "Why?", "response_0": "a", "response_1": "b", "clear": 0}

LOADER_FROM_OUTSIDE = '''
from mopref.llm.data.loaders import LOADERS


@LOADERS.register("longer-is-kinder")
def load_longer_is_kinder(prompts, seed=0):
    """Made-up pairs."""
    responses = {"response_0": "No.", "response_1": "No, I am sorry."}
    return [{"prompt": prompt, **responses, "kind": 1, "brief": seed % 2} for prompt in prompts]
'''


def test_names():
    assert {"hh-rlhf", "harm-pairs", "pku-saferlhf", "records"} <= set(LOADERS)
    with pytest.raises(ValueError, match=r"unknown loader 'nope': choose one of .*pku-saferlhf"):
        LOADERS.make("nope")


def test_a_loader_is_called_by_its_name(tmp_path, write_lines):
    path = write_lines(tmp_path / "a.jsonl", [RECORD])
    assert LOADERS.make("records", path=path, objectives=("clear",)) == load_records(path, ("clear",)) == [RECORD]


def test_a_loader_from_outside(tmp_path, monkeypatch):
    monkeypatch.setattr(LOADERS, "_parts", {name: LOADERS[name] for name in LOADERS})
    (tmp_path / "loader_from_outside.py").write_text(LOADER_FROM_OUTSIDE, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("loader_from_outside")
    records = LOADERS.make("longer-is-kinder", prompts=["May I?", "Can I?"], seed=3)
    assert records == module.load_longer_is_kinder(["May I?", "Can I?"], seed=3)
    assert usable_records(records, ("kind", "brief")) == records, "they are records like any others"
    with pytest.raises(ValueError, match="the loader name 'records' stands for load_records already"):
        LOADERS.register("records")(module.load_longer_is_kinder)


def test_unreadable_file_kind_and_limit(tmp_path):
    path = tmp_path / "a.xlsx"
    path.write_text("x", encoding="utf-8")
    with pytest.raises(ValueError, match=r"a\.xlsx is none of the files"):
        load_records(path, ("clear",))
    with pytest.raises(ValueError, match="limit is 0"):
        load_records(path, ("clear",), limit=0)


def test_a_file_holds_no_folder(tmp_path, write_lines):
    path = write_lines(tmp_path / "a.jsonl", [RECORD])
    with pytest.raises(ValueError, match=r"a\.jsonl is a file: give the folder that holds the folder 'base'"):
        read_rows(path, "train", None, "base")


def test_rows_are_the_first_ones(tmp_path, write_lines):
    path = write_lines(tmp_path / "a.jsonl", [{"number": n} for n in range(5)])
    assert [row["number"] for row in read_rows(path, "train", 2)] == [0, 1]
    assert len(list(read_rows(path, "train", 50))) == 5


def test_missing_columns_are_named():
    require_columns({"a": 0, "b": ""}, 3, ("a", "b"))
    with pytest.raises(ValueError, match=r"^row 3: column 'c' is missing or blank; there are 'a', 'b'"):
        require_columns({"a": 0, "b": 1}, 3, ("a", "c"))
    with pytest.raises(ValueError, match=r"^base, row 3: column 'b' is missing or blank"):
        require_columns({"a": 0, "b": None}, 3, ("a", "b"), "base")


def test_records_that_cannot_be_used_are_counted():
    with pytest.warns(UserWarning, match=r"left out 2 of 3 rows: .* before the last turn\.$"):
        assert usable_records([RECORD, {**RECORD, "prompt": []}, {**RECORD, "response_1": " "}], ("clear",)) == [RECORD]
    with pytest.raises(ValueError, match="row 0, column 'clear'"):
        usable_records([{**RECORD, "clear": 2}], ("clear",))

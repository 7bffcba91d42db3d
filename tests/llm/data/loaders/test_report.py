"""Rows that are left out: counted by reason, with the first of each, and told in one warning."""

import warnings

import pytest

from mopref.llm.data.loaders import load_preference_pairs
from mopref.llm.data.loaders.report import LoadReport, MalformedRow, UnfitRow, check_on_malformed, converted_rows, tell


def convert(row):
    if row == "empty":
        raise UnfitRow("empty text")
    if row == "tools":
        raise MalformedRow("tools", "column 'tools' holds something.")
    return row


def test_unfit_rows_are_counted_with_the_first_place():
    report = LoadReport()
    assert list(converted_rows(["a", "empty", "b", "empty"], convert, report, "error", "helpful")) == ["a", "b"]
    assert report.rows == 4
    assert report.left_out == {"empty text": 2}
    assert report.first_rows == {"empty text": "helpful, row 1"}


def test_malformed_rows_are_errors_or_counted():
    report = LoadReport()
    with pytest.raises(ValueError, match=r"^row 1: column 'tools' holds something\.$"):
        list(converted_rows(["a", "tools"], convert, report, "error"))
    report = LoadReport()
    assert list(converted_rows(["tools", "a", "tools"], convert, report, "drop")) == ["a"]
    assert report.left_out == {"tools": 2}
    assert report.first_rows == {"tools": "row 0"}
    with pytest.raises(ValueError, match="on_malformed is 'skip': it must be 'error', or 'drop'"):
        check_on_malformed("skip")
    check_on_malformed("drop")


def test_what_is_told():
    report = LoadReport(rows=5)
    report.leave_out("empty text", "row 3")
    report.leave_out("empty text", "row 4")
    report.unlabelled["brief: tie"] += 2
    with pytest.warns(UserWarning, match="rows made|no record is labelled") as caught:
        tell(report, [{"brief": 1, "kind": -1}], ("brief", "kind"))
    assert [str(warning.message) for warning in caught] == [
        "5 rows made 1 records; left out: 2 empty text (first: row 3); not labelled: 2 brief: tie.",
        "no record is labelled on 'kind', so that nothing can be learnt of it: see that its data set and columns are "
        "the right ones, or leave the objective out.",
    ]
    assert report.records == 1


def test_nothing_is_told_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tell(LoadReport(rows=1), [{"brief": 0}], ("brief",))
    report = LoadReport(rows=2)
    report.left_out["tie"] = 2
    with pytest.raises(ValueError, match=r"^no record is left: 2 rows made 0 records; left out: 2 tie\.$"):
        tell(report, [], ("brief",))


def test_the_warning_names_the_line_that_called_the_loader():
    rows = [{"prompt": "Why?", "chosen": "So.", "rejected": rejected} for rejected in ("No.", "So.")]
    with pytest.warns(UserWarning, match="2 rows made 1 records") as warned:
        load_preference_pairs({"helpful": rows})
    assert [warning.filename for warning in warned] == [__file__]

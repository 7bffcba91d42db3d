"""Parquet files of strangers: what unpacks to very much is refused before it is, what is damaged with its row."""

import resource
from decimal import Decimal

import pyarrow as pa
import pytest
from pyarrow import parquet

from mopref.llm.data.loaders.parquet_file import parquet_columns, parquet_rows

MANY = 3000
SAME = pa.DictionaryArray.from_arrays(pa.array([0] * MANY, pa.int32()), pa.array(["y" * 3_000_000]))
IN_ONE_ROW = pa.array([0, MANY], pa.int32())
TURNS = pa.StructArray.from_arrays([SAME, SAME], ["role", "content"])
# Nine gigabytes of text in a few kilobytes, and two of numbers.
BOMBS = {
    "a text that is the same in all rows": SAME,
    "a list of one text": pa.ListArray.from_arrays(IN_ONE_ROW, SAME),
    "turns of one text": pa.ListArray.from_arrays(IN_ONE_ROW, TURNS),
    "a mapping to one text": pa.MapArray.from_arrays(IN_ONE_ROW, pa.array(map(str, range(MANY))), SAME),
    "texts in full": pa.array(["z" * 2_000_000 + str(row) for row in range(200)]),
    "rows of nothing": pa.nulls(5_000_000),
    "a list of nothing": pa.ListArray.from_arrays(pa.array([0, 5_000_000], pa.int32()), pa.nulls(5_000_000, pa.int8())),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_what_unpacks_to_very_much_is_refused_before_it_is(kind, tmp_path):
    path = tmp_path / "a.parquet"
    parquet.write_table(pa.table({"prompt": BOMBS[kind]}), path, compression="zstd")
    assert path.stat().st_size < 200_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    message = r"^a\.parquet unpacks to more than 100 times its size, which no text does: write it as JSON lines"
    with pytest.raises(ValueError, match=message):
        # Not kept, so that only what is unpacked at once counts.
        for _ in parquet_rows(path, "a.parquet"):
            pass
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 600_000


def test_values_of_all_kinds_are_read_as_they_are(tmp_path):
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": None}]
    rows = [
        {"text": "x" * row, "turns": turns[:row], "number": row, "none": None, "pair": ["a", "b"], "bytes": b"\xff"}
        for row in range(3)
    ] * 700
    table = pa.Table.from_pylist(rows).append_column(
        "map", pa.array([[("k", 1)]] * 2100, pa.map_(pa.string(), pa.int8()))
    )
    table = table.append_column("fixed", pa.array([["a", "b"]] * 2100, pa.list_(pa.string(), 2)))
    table = table.append_column("decimal", pa.array([1] * 2100, pa.decimal128(38, 0)))
    table = table.append_column("dictionary", pa.array([7] * 2100).dictionary_encode())
    parquet.write_table(table, tmp_path / "a.parquet", row_group_size=900)
    assert parquet_columns(tmp_path / "a.parquet", "a") == table.column_names
    others = {"map": [("k", 1)], "fixed": ["a", "b"], "decimal": Decimal(1), "dictionary": 7}
    assert list(parquet_rows(tmp_path / "a.parquet", "a")) == [{**row, **others} for row in rows]


def test_an_empty_table_has_no_rows(tmp_path):
    parquet.write_table(pa.table({"prompt": pa.array([], pa.string())}), tmp_path / "a.parquet")
    assert list(parquet_rows(tmp_path / "a.parquet", "a")) == []


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (pa.array([b"\xff\xfe"], pa.binary()).view(pa.string()), "can't decode byte 0xff"),
        (pa.array([2**62], pa.timestamp("us")), "out of range"),
        (pa.array([2**30], pa.date32()), "magnitude"),
    ],
    ids=["no text", "no time", "no day"],
)
def test_a_value_that_cannot_be_read_is_told(values, reason, tmp_path):
    parquet.write_table(pa.table({"prompt": values}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=rf"^a\.parquet is damaged after row 0, or holds a value .*{reason}.*: write"):
        list(parquet_rows(tmp_path / "a.parquet", "a.parquet"))


def test_a_damaged_page_is_told_with_the_row_before_it(tmp_path):
    path = tmp_path / "a.parquet"
    options = {"row_group_size": 1000, "compression": "none", "use_dictionary": False}
    parquet.write_table(pa.table({"x": [f"text {row}" for row in range(5000)]}), path, **options)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 200] = bytes(byte ^ 255 for byte in content[middle : middle + 200])
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"^a\.parquet is damaged after row (1000|2000|2024), or holds"):
        list(parquet_rows(path, "a.parquet"))

"""Tables in the cache: found under their key, whole or not at all, and made anew where they are damaged."""

import errno
import os

import numpy as np
import pytest
from datasets import Dataset, List, Value
from datasets.arrow_writer import ArrowWriter

from mopref.llm.data.kept_tables import (
    found_table,
    joined,
    keep_table,
    kept_place,
    lists_digest,
    table_digest,
    table_notes,
    versions_key,
)

KEY = {"a": 1}
FEATURES = {"ids": List(Value("int32"))}


def batches():
    yield {"ids": [[1, 2], [3]]}
    yield {"ids": [[4]]}


@pytest.fixture
def place(tmp_path):
    return kept_place("rows", KEY, tmp_path / "cache")


def test_a_table_is_found_under_its_key_only(place, tmp_path):
    assert found_table(place, KEY) is None
    kept = keep_table(place, KEY, FEATURES, batches, lambda: {"cut": 2})
    assert kept["ids"][:] == [[1, 2], [3], [4]]
    assert kept.cache_files, "in memory, not on the disk"
    assert found_table(place, KEY)["ids"][:] == [[1, 2], [3], [4]]
    assert table_notes(place) == {"cut": 2}
    assert found_table(kept_place("rows", {"a": 2}, tmp_path / "cache"), {"a": 2}) is None
    assert kept_place("other", KEY, tmp_path / "cache") != place


@pytest.mark.parametrize("harm", ["cut", "bit", "gone", "notes"])
def test_a_damaged_table_is_told_and_made_anew(place, harm):
    keep_table(place, KEY, FEATURES, batches)
    file = place / ("notes.json" if harm == "notes" else "rows.arrow")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    if harm == "gone":
        file.unlink()
    else:
        file.write_bytes(content[:-1] if harm == "cut" else bytes(content))
    with pytest.warns(UserWarning, match="is damaged"):
        assert found_table(place, KEY) is None
    assert keep_table(place, KEY, FEATURES, batches)["ids"][:] == [[1, 2], [3], [4]]
    assert found_table(place, KEY) is not None


@pytest.mark.parametrize("when", ["first batch", "last", "notes", "rename", "kill"])
def test_a_full_disk_or_a_kill_leaves_nothing_that_is_taken_for_whole(place, when, monkeypatch):
    full = OSError(errno.ENOSPC, "No space left on device")

    def fail(*arguments, **options):
        raise KeyboardInterrupt if when == "kill" else full

    def breaking():
        if when == "first batch":
            fail()
        yield {"ids": [[1]]}
        if when in ("last", "kill"):
            fail()

    if when == "rename":
        monkeypatch.setattr("mopref._cache.os.replace", fail)
    with pytest.raises(KeyboardInterrupt if when == "kill" else OSError) as caught:
        keep_table(place, KEY, FEATURES, breaking, fail if when == "notes" else dict)
    if when != "kill":
        assert "nothing of it is there" in str(caught.value)
        assert caught.value.errno == errno.ENOSPC
    monkeypatch.undo()
    assert not place.exists()
    assert os.listdir(place.parent) == []
    assert found_table(place, KEY) is None


def test_a_disk_that_fills_up_while_arrow_writes_is_told(place, monkeypatch):
    def fail(*arguments, **options):
        raise OSError(errno.ENOSPC, "Error writing bytes to file")

    monkeypatch.setattr(ArrowWriter, "finalize", fail)
    with pytest.raises(OSError, match=r"nothing of it is there\. Free some space"):
        keep_table(place, KEY, FEATURES, batches)
    assert found_table(place, KEY) is None


@pytest.mark.skipif(os.name == "nt", reason="no such limit")
def test_a_real_limit_on_files_leaves_nothing_and_room_helps(place):
    """As a full disk does, it cuts what Arrow writes in the middle."""
    resource = pytest.importorskip("resource")

    def many():
        for _ in range(100):
            yield {"ids": [list(range(50))] * 100}

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, before[1]))
    try:
        with pytest.raises(OSError, match="nothing of it is there"):
            keep_table(place, KEY, FEATURES, many)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert os.listdir(place.parent) == []
    assert found_table(place, KEY) is None
    assert len(keep_table(place, KEY, FEATURES, many)) == 10_000


def test_a_folder_that_others_can_write_into_is_refused(place):
    place.parent.mkdir(parents=True)
    place.parent.chmod(0o777)
    with pytest.raises(ValueError, match="MOPREF_CACHE"):
        keep_table(place, KEY, FEATURES, batches)


def test_the_key_tells_the_versions():
    assert {"mopref", "torch", "transformers"} <= versions_key().keys()


@pytest.mark.parametrize("kind", [None, "numpy"])
def test_columns_are_joined_and_replaced_and_the_format_stays(kind):
    table = Dataset.from_list([{"x": [1], "y": 1}, {"x": [2], "y": 2}]).with_format(kind)
    other = Dataset.from_list([{"y": 7, "z": 8}, {"y": 9, "z": 10}])
    both = joined(table, other)
    assert both.format["type"] == kind
    assert list(both.with_format(None)) == [{"x": [1], "y": 7, "z": 8}, {"x": [2], "y": 9, "z": 10}]
    turned = joined(table.select([1, 0]), other).with_format(None)
    assert list(turned) == [{"x": [2], "y": 7, "z": 8}, {"x": [1], "y": 9, "z": 10}]


RECORDS = [{"prompt": "How?", "a": 1}, {"prompt": "Why?", "a": -1}] * 600


def test_a_digest_is_of_content_whatever_files_and_formats_it_comes_from(tmp_path):
    table = Dataset.from_list(RECORDS)
    digest = table_digest(table)
    table.save_to_disk(tmp_path / "saved", num_shards=3)
    assert table_digest(Dataset.load_from_disk(tmp_path / "saved")) == digest
    assert table_digest(table.with_format("numpy")) == digest
    turned = table.select(range(len(table) - 1, -1, -1))
    assert table_digest(turned) != digest
    assert table_digest(turned.select(range(len(table) - 1, -1, -1))) == digest


@pytest.mark.parametrize("row", [0, 599, 1199])
def test_every_row_counts(row):
    changed = [dict(record) for record in RECORDS]
    changed[row]["prompt"] += " "
    assert table_digest(Dataset.from_list(changed)) != table_digest(Dataset.from_list(RECORDS))


IDS = [{"p": [row, row + 1], "r": list(range(row % 5 + 1))} for row in range(1200)]


def test_lists_of_ids_have_one_digest_in_a_list_and_in_a_table():
    digest = lists_digest(IDS, ["p", "r"])
    for data in (
        Dataset.from_list(IDS),
        Dataset.from_list(IDS).cast_column("p", List(Value("int32"))),
        Dataset.from_list(IDS).with_format("torch"),
        [{name: np.array(ids, dtype=np.uint16) for name, ids in row.items()} for row in IDS],
    ):
        assert lists_digest(data, ["p", "r"]) == digest
    assert lists_digest(IDS, ["r", "p"]) != digest
    assert lists_digest(IDS[::-1], ["p", "r"]) != digest
    assert lists_digest(IDS[:-1], ["p", "r"]) != digest


def test_where_a_list_ends_counts():
    assert lists_digest([{"p": [1, 2]}, {"p": [3]}], ["p"]) != lists_digest([{"p": [1]}, {"p": [2, 3]}], ["p"])
    changed = [dict(row) for row in IDS]
    changed[700] = {**changed[700], "r": [9]}
    assert lists_digest(changed, ["p", "r"]) != lists_digest(IDS, ["p", "r"])

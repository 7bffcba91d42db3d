"""The registry of loaders, a loader from outside the library, and what all loaders share."""

import datetime
import importlib
import inspect
import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from mopref.llm.data.loaders import LOADERS, load_records, load_unpaired_preferences, load_unpaired_records
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
    importlib.import_module("mopref.llm.demo.harm_pairs")
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


@pytest.mark.parametrize("value", [3, None, datetime.date(1969, 7, 20), "\ud83d", [{"role": "user", "content": "a"}]])
def test_what_is_no_text_is_refused_not_left_out(value):
    """The row is that of the data, empty ones before it counted."""
    with pytest.raises(ValueError, match="row 1, column 'response_0'"):
        usable_records([{**RECORD, "prompt": " "}, {**RECORD, "response_0": value}], ("clear",))


def test_nothing_left():
    with (
        pytest.warns(UserWarning, match="left out 1 of 1 rows"),
        pytest.raises(ValueError, match="there are no records"),
    ):
        usable_records([{**RECORD, "prompt": ""}], ("clear",))


@pytest.mark.parametrize(
    "source",
    [
        "recrods.jsonl",
        "data/recrods.csv",
        "recrods.json.gz",
        "recrods.parquet",
        "./recrods",
        "../recrods",
        "~/recrods",
        "/recrods",
        "a/b/recrods",
        "",
        " ",
    ],
)
def test_a_file_that_is_not_there_is_named(tmp_path, monkeypatch, source):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("datasets.load_dataset_builder", lambda *_, **__: pytest.fail("nobody is sent to the hub"))
    for given in (source, Path(source)) if source.strip() and not source.startswith("./") else (source,):
        with pytest.raises(FileNotFoundError, match=f"there is no file or folder {str(given)!r} "):
            read_rows(given, "train", None)


@pytest.mark.parametrize("source", ["recrods", "data/recrods", "my recrods"])
def test_what_may_be_a_data_set_is_asked_for_and_named(source):
    with pytest.raises(FileNotFoundError, match=f"{source!r} is no file or folder here, and the hub gave no data set"):
        read_rows(source, "train", None)


def test_folders_without_data_files(tmp_path):
    for name, content in (("empty", None), ("other", b"x"), ("folder.jsonl", None)):
        folder = tmp_path / name
        folder.mkdir()
        if content is not None:
            (folder / "a.bin").write_bytes(content)
        with pytest.raises(FileNotFoundError, match=f"{name} holds no data files: put files in it whose names end in"):
            read_rows(folder, "train", None)
    with pytest.raises(ValueError, match=r"empty holds no folder 'base'; it has nothing"):
        read_rows(tmp_path / "empty", "train", None, "base")


@pytest.mark.parametrize("name", ["empty.jsonl", "empty.json", "empty.csv"])
def test_files_without_rows(tmp_path, name):
    (tmp_path / name).write_text("", encoding="utf-8")
    for source in (tmp_path / name, tmp_path):
        with pytest.raises(ValueError, match="there are no records in"):
            list(read_rows(source, "train", None))


def test_parquet_without_rows(tmp_path):
    datasets = pytest.importorskip("datasets")
    table = datasets.Dataset.from_dict({"prompt": []}, features=datasets.Features(prompt=datasets.Value("string")))
    table.to_parquet(str(tmp_path / "empty.parquet"))
    with pytest.raises(ValueError, match=r"there are no records in .*empty\.parquet"):
        load_records(tmp_path / "empty.parquet", ("clear",))


def test_splits_of_a_folder(tmp_path, write_lines):
    for split, numbers in (("train", range(4)), ("test", range(10, 12))):
        write_lines(tmp_path / f"{split}.jsonl", [{"number": number} for number in numbers])

    def numbers(split):
        return [row["number"] for row in read_rows(tmp_path, split, None)]

    assert numbers("train") == [0, 1, 2, 3]
    assert numbers("test") == [10, 11]
    assert numbers("train[:50%]+test") == [0, 1, 10, 11]
    for split in ("validation", "train["):
        with pytest.raises(ValueError, match=rf"split is '{re.escape(split)}', and there are train, test"):
            numbers(split)


@pytest.mark.parametrize(
    ("here", "source"),
    [("data", "."), ("data", "./"), ("data", "../data"), ("data/part", ".."), ("data/part", "../"), (".", "data/.")],
)
def test_a_folder_by_a_relative_path(tmp_path, monkeypatch, write_lines, here, source):
    (tmp_path / "data" / "part").mkdir(parents=True)
    write_lines(tmp_path / "data" / "train.jsonl", [{"text": "red"}])
    monkeypatch.chdir(tmp_path / here)
    assert [dict(row) for row in read_rows(source, "train", None)] == [{"text": "red"}]


@pytest.mark.parametrize("source", ["/", "//", "/tmp/.."])
def test_the_root_of_the_file_system_is_no_data_set(source):
    with pytest.raises(ValueError, match="is the root of the file system: give the folder"):
        read_rows(source, "train", None)


def test_a_folder_that_datasets_reads_in_its_own_way(tmp_path):
    """Files of other kinds, here plain text, come as the columns that datasets makes of them."""
    (tmp_path / "train.txt").write_text("one\ntwo\n", encoding="utf-8")
    assert [row["text"] for row in read_rows(tmp_path, "train", 1)] == ["one"]


def test_a_folder_that_says_how_it_is_read(tmp_path):
    (tmp_path / "train.csv").write_text("prompt;clear\nWhy, then?;1\n", encoding="utf-8")
    settings = "configs:\n- config_name: default\n  data_files: train.csv\n  sep: ';'\n"
    (tmp_path / "README.md").write_text(f"---\n{settings}---\n", encoding="utf-8")
    assert list(read_rows(tmp_path, "train", None)) == [{"prompt": "Why, then?", "clear": 1}]


def test_no_more_rows_are_read_than_asked_for(tmp_path):
    (tmp_path / "train.jsonl").write_text('{"number": 0}\n{"number": \n', encoding="utf-8")
    for source in (tmp_path / "train.jsonl", tmp_path):
        assert list(read_rows(source, "train", 1)) == [{"number": 0}]
        with pytest.raises(ValueError, match=r"train\.jsonl, row 1 \(line 2\) is no JSON"):
            list(read_rows(source, "train", None))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"limit": "2"}, "limit is '2', of type str: give a whole number"),
        ({"limit": 2.5}, r"limit is 2\.5"),
        ({"split": None}, "split is None"),
        ({"path": None}, "the path or source is a NoneType: give a text, a path or a hub id"),
        ({"path": ["a.json"]}, "the path or source is a list"),
    ],
)
def test_arguments_of_another_type_are_named(options, message):
    with pytest.raises(TypeError, match=message):
        load_records(**({"path": "a.json", "objectives": ("clear",)} | options))


class _Hub:
    """What ``datasets`` says of a hub data set, whose files lie in a folder here, and what was fetched of them."""

    def __init__(self, monkeypatch, folder, names):
        import datasets

        self.fetched, self.options = [], []
        paths = {f"hf://datasets/org/set/{name}": str(folder / name) for name in names}

        class Manager:
            def download(_, file):
                self.fetched.append(Path(file).name)
                return paths[file]

        def load_dataset_builder(source, **options):
            self.options.append((source, options))
            return SimpleNamespace(config=SimpleNamespace(data_files={"train": list(paths)}))

        monkeypatch.setattr(datasets, "DownloadManager", Manager)
        monkeypatch.setattr(datasets, "load_dataset_builder", load_dataset_builder)


@pytest.fixture
def hub(tmp_path, monkeypatch, write_lines):
    for shard in range(3):
        write_lines(tmp_path / "hub" / f"{shard}.jsonl", [{"number": 10 * shard + row} for row in range(2)])
    return _Hub(monkeypatch, tmp_path / "hub", ["0.jsonl", "1.jsonl", "2.jsonl"])


def test_files_of_the_hub_are_fetched_as_far_as_they_are_read(hub):
    assert [row["number"] for row in read_rows("org/set", "train", 3)] == [0, 1, 10]
    assert hub.fetched == ["0.jsonl", "1.jsonl"]
    assert len(list(read_rows("org/set", "train", None))) == 6


def test_revision_and_subset_reach_the_hub(hub):
    list(read_rows("org/set", "train", 1, "folder", subset="prefs", revision="v1.2"))
    assert hub.options == [("org/set", {"name": "prefs", "data_dir": "folder", "revision": "v1.2"})]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("records", {"path": "org/set", "objectives": ("clear",)}),
        ("pku-saferlhf", {"source": "org/set"}),
        ("hh-rlhf", {"source": "org/set"}),
        ("beavertails", {"source": "org/set", "split": "train"}),
        ("preference-pairs", {"sources": {"clear": "org/set"}}),
        ("rated-answers", {"source": "org/set", "attributes": ("clear",)}),
        ("graded-pairs", {"source": "org/set", "grades": ("clear",)}),
    ],
)
def test_every_loader_hands_the_revision_on(hub, name, options):
    with pytest.raises(ValueError, match=r"column '.*' is missing or blank"):
        LOADERS.make(name, revision="v1.2", **options)
    assert hub.options[0][1]["revision"] == "v1.2"


def test_unpaired_records_hand_the_revision_on(hub):
    with pytest.raises(ValueError, match="column 'prompt' is missing or blank"):
        load_unpaired_records("org/set", ("clear",), revision="v1.2")
    with pytest.raises(ValueError, match="column 'label' is missing or blank"):
        load_unpaired_preferences({"clear": "org/set"}, revision="v1.3")
    assert [options["revision"] for _, options in hub.options] == ["v1.2", "v1.3"]


def test_what_is_here_has_no_revision_and_a_file_no_subset(tmp_path, write_lines):
    path = write_lines(tmp_path / "a.jsonl", [RECORD])
    for source in (path, tmp_path):
        with pytest.raises(ValueError, match=r"revision is 'v1', but .* is here, and not on the hub: leave it out"):
            read_rows(source, "train", None, revision="v1")
    with pytest.raises(ValueError, match=r"subset is 'x', but .*a\.jsonl is a single file, which has none"):
        read_rows(path, "train", None, subset="x")


def test_data_sets_that_only_datasets_reads_are_streamed_where_few_rows_are_asked_for(hub, monkeypatch):
    calls = []

    def load_dataset(source, subset, **options):
        calls.append((source, subset, options))
        return iter([{"number": 1}, {"number": 2}])

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    monkeypatch.setattr("mopref.llm.data.loaders.loader.file_kind", lambda name: None)
    assert list(read_rows("org/set", "train", 1, revision="v1")) == [{"number": 1}]
    assert len(list(read_rows("org/set", "train", None, subset="prefs"))) == 2
    options = {"data_dir": None, "split": "train"}
    assert calls == [
        ("org/set", None, options | {"revision": "v1", "streaming": True}),
        ("org/set", "prefs", options | {"revision": None, "streaming": False}),
    ]


def test_subsets_of_a_folder(tmp_path, write_lines):
    """A folder whose README declares configurations, as data sets of the hub do."""
    for name in ("prefs", "edits"):
        write_lines(tmp_path / name / "train.jsonl", [{"name": name}])
    configs = "".join(f"- config_name: {name}\n  data_files: {name}/train.jsonl\n" for name in ("prefs", "edits"))
    (tmp_path / "README.md").write_text(f"---\nconfigs:\n{configs}---\n", encoding="utf-8")
    assert list(read_rows(tmp_path, "train", None, subset="edits")) == [{"name": "edits"}]
    for subset in (None, "nope"):
        with pytest.raises(ValueError, match=rf"^subset is {subset!r}, and .* has 'prefs', 'edits': name one of them"):
            read_rows(tmp_path, "train", None, subset=subset)


def test_the_shape_of_rows_without_a_column_is_told():
    with pytest.raises(ValueError, match=r"^row 0: column 'a' .* These are BeaverTails, read by load_beavertails\(sou"):
        require_columns({"prompt": 0, "response": 0, "category": 0, "is_safe": 0}, 0, ("a",))
    with pytest.raises(ValueError, match=r"so rename or fill it\.$"):
        require_columns({"id": 3}, 0, ("a",))
    with pytest.raises(ValueError, match=r"so rename or fill it\.$"):
        require_columns({"prompt": 3, "chosen": None, "rejected": "a"}, 0, ("chosen",))


def test_no_copy_of_local_data_is_kept(tmp_path, monkeypatch):
    """The datasets library keeps a copy of every file that it reads; of files here it reads none."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    row = json.dumps({"prompt": "p", "response_0": "a" * 1_000, "response_1": "b", "helpful": 0})
    for name in ("one.jsonl", "folder/train.jsonl", "folder/test.jsonl"):
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{row}\n" * 100)
    for source, split in (("one.jsonl", "train"), ("folder", "train"), ("folder", "test"), ("folder", "train[:10]")):
        assert list(read_rows(tmp_path / "data" / source, split, None, label_columns=("helpful",)))
    kept = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in kept) < 1_000, kept


def test_a_text_too_long_for_a_name_is_no_file():
    with pytest.raises(ValueError, match="a name in it has more than 255 bytes"):
        load_records("x" * 300, ["helpful"])
    with pytest.raises(FileNotFoundError, match="there is no file or folder 'xxx"):
        load_records("x" * 200, ["helpful"])


_ROWS = [{"prompt": "Why?", "response_1": "So.", "response_2": "No.", "grade": 1, "response": "So.", "label": True}]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("beavertails", {"source": _ROWS}),
        ("graded-pairs", {"source": _ROWS, "grades": {"helpful": "grade"}}),
        ("rated-answers", {"source": _ROWS, "attributes": ["grade"]}),
        ("preference-pairs", {"sources": {"helpful": _ROWS}}),
        ("unpaired-preferences", {"sources": {"helpful": _ROWS}}),
        ("hh-rlhf", {"source": "."}),
        ("pku-saferlhf", {"source": "."}),
        ("records", {"path": ".", "objectives": ["helpful"]}),
        ("unpaired-records", {"path": ".", "objectives": ["helpful"]}),
    ],
)
def test_every_loader_refuses_options_of_another_kind_by_name(name, arguments):
    loader = LOADERS.find(name)
    wrong = {
        "limit": ["0", 1.5, {}],
        "report": [0, ()],
        "on_malformed": [[], None],
        "columns": ["a,b", 3],
        "seed": ["0"],
    }
    for option, values in wrong.items():
        if option not in inspect.signature(loader).parameters:
            continue
        for value in values:
            with pytest.raises(TypeError, match=rf"{option} is .*, of type {type(value).__name__}: give "):
                loader(**arguments, **{option: value})


def test_more_rows_than_can_be_counted_are_all_rows():
    rows = {"helpful": [{"prompt": "Why?", "chosen": "So.", "rejected": "No."}]}
    assert len(LOADERS.make("preference-pairs", sources=rows, limit=10**30)) == 1

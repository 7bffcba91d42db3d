import csv
import gzip
import json

import pytest

from mopref.llm.data.loaders import LOADERS, load_hh_rlhf, load_pku_saferlhf, load_records


@pytest.fixture(autouse=True)
def _own_datasets_cache(tmp_path_factory, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))


def pku_row(number, **changes):
    row = {
        "prompt": f"prompt {number}",
        "response_0": f"first {number}",
        "response_1": f"second {number}",
        "better_response_id": number % 2,
        "safer_response_id": 0,
        "is_response_0_safe": True,
        "is_response_1_safe": False,
    }
    return {**row, **changes}


def write_lines(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    return path


@pytest.mark.parametrize("name", ["train.jsonl", "train.jsonl.gz"])
def test_pku_columns_become_objectives(tmp_path, name):
    path = write_lines(tmp_path / name, [pku_row(0), pku_row(1)])
    assert load_pku_saferlhf(path) == [
        {"prompt": "prompt 0", "response_0": "first 0", "response_1": "second 0", "helpful": 0, "harmless": 0},
        {"prompt": "prompt 1", "response_0": "first 1", "response_1": "second 1", "helpful": 1, "harmless": 0},
    ]


def test_pku_folder_with_splits_and_limit(tmp_path):
    write_lines(tmp_path / "train.jsonl", [pku_row(n) for n in range(5)])
    write_lines(tmp_path / "test.jsonl", [pku_row(9)])
    assert [row["prompt"] for row in load_pku_saferlhf(tmp_path, limit=2)] == ["prompt 0", "prompt 1"]
    assert [row["prompt"] for row in load_pku_saferlhf(str(tmp_path), split="test")] == ["prompt 9"]


def test_pku_missing_column(tmp_path):
    row = pku_row(0)
    del row["safer_response_id"]
    with pytest.raises(ValueError, match="row 0: column 'safer_response_id' is missing"):
        load_pku_saferlhf(write_lines(tmp_path / "a.jsonl", [row]))


@pytest.mark.parametrize("label", [2, -1])
def test_pku_unknown_label(tmp_path, label):
    with pytest.raises(ValueError, match="row 1, column 'better_response_id'"):
        load_pku_saferlhf(write_lines(tmp_path / "a.jsonl", [pku_row(0), pku_row(1, better_response_id=label)]))


def test_pku_empty_responses_are_left_out_with_a_warning(tmp_path):
    path = write_lines(tmp_path / "a.jsonl", [pku_row(0), pku_row(1, response_1=" ")])
    with pytest.warns(UserWarning, match="left out 1 of 2 rows"):
        assert len(load_pku_saferlhf(path)) == 1


def hh_row(answer, other, start="\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: How are you?"):
    return {"chosen": f"{start}\n\nAssistant: {answer}", "rejected": f"{start}\n\nAssistant: {other}"}


@pytest.fixture
def hh(tmp_path):
    write_lines(tmp_path / "helpful-base" / "train.jsonl.gz", [hh_row(f"Good {n}", f"Go away {n}") for n in range(30)])
    write_lines(tmp_path / "harmless-base" / "train.jsonl.gz", [hh_row("I won't", "I will", "\n\nHuman: Help")])
    return tmp_path


def test_hh_folder_is_the_objective(hh):
    rows = load_hh_rlhf(hh)
    helpful, harmless = rows[:30], rows[30:]
    assert len(harmless) == 1
    assert all(row["harmless"] == -1 and row["helpful"] in (0, 1) for row in helpful)
    for number, row in enumerate(helpful):
        assert row["prompt"] == [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Hello"},
            {"role": "user", "content": "How are you?"},
        ]
        assert row[f"response_{row['helpful']}"] == f"Good {number}"
        assert row[f"response_{1 - row['helpful']}"] == f"Go away {number}"
    assert harmless[0]["helpful"] == -1
    assert harmless[0][f"response_{harmless[0]['harmless']}"] == "I won't"


def test_hh_position_says_nothing_and_is_seeded(hh):
    labels = [row["helpful"] for row in load_hh_rlhf(hh)[:30]]
    assert 5 < sum(labels) < 25
    assert labels == [row["helpful"] for row in load_hh_rlhf(hh)[:30]]
    assert labels != [row["helpful"] for row in load_hh_rlhf(hh, seed=1)[:30]]


def test_hh_folders_can_be_chosen(hh):
    rows = load_hh_rlhf(hh, folders={"safe": ["harmless-base"]}, limit=5)
    assert [set(row) for row in rows] == [{"prompt", "response_0", "response_1", "safe"}]
    with pytest.raises(ValueError, match="holds no folder 'helpful-online'; it has harmless-base, helpful-base"):
        load_hh_rlhf(hh, folders={"helpful": ["helpful-online"]})


def test_hh_shared_beginnings_of_responses_stay_in_the_response(tmp_path):
    write_lines(tmp_path / "helpful-base" / "train.jsonl", [hh_row("I think yes", "I think no")])
    (row,) = load_hh_rlhf(tmp_path, folders={"helpful": ["helpful-base"]})
    assert {row["response_0"], row["response_1"]} == {"I think yes", "I think no"}


def test_hh_dialogues_that_part_early_are_left_out(tmp_path):
    early = {
        "chosen": "\n\nHuman: Hi\n\nAssistant: Yes\n\nHuman: So?\n\nAssistant: Fine",
        "rejected": "\n\nHuman: Hi\n\nAssistant: No\n\nHuman: Oh\n\nAssistant: Well",
    }
    write_lines(tmp_path / "helpful-base" / "train.jsonl", [early, hh_row("Good", "Bad"), hh_row("", "Bad")])
    with pytest.warns(UserWarning, match="left out 2 of 3 rows"):
        assert len(load_hh_rlhf(tmp_path, folders={"helpful": ["helpful-base"]})) == 1


@pytest.mark.parametrize("text", ["no dialogue", "\n\nHuman: Hi"])
def test_hh_other_texts_are_refused(tmp_path, text):
    row = {**hh_row("Good", "Bad"), "rejected": text}
    write_lines(tmp_path / "helpful-base" / "train.jsonl", [hh_row("Good", "Bad"), row])
    with pytest.raises(ValueError, match="helpful-base, row 1, column 'rejected'"):
        load_hh_rlhf(tmp_path, folders={"helpful": ["helpful-base"]})


def test_hh_missing_column(tmp_path):
    write_lines(tmp_path / "helpful-base" / "train.jsonl", [{"chosen": "\n\nHuman: a\n\nAssistant: b"}])
    with pytest.raises(ValueError, match="row 0: column 'rejected' is missing"):
        load_hh_rlhf(tmp_path, folders={"helpful": ["helpful-base"]})


RECORDS = [
    {"prompt": f"p{n}", "response_0": "a", "response_1": "b", "clear": n % 2, "kind": -1, "note": "x"} for n in range(3)
]


@pytest.mark.parametrize("name", ["own.jsonl", "own.json", "own.csv", "own.parquet"])
def test_own_records_in_every_format(tmp_path, name):
    path = tmp_path / name
    if name.endswith("jsonl"):
        write_lines(path, RECORDS)
    elif name.endswith("json"):
        path.write_text(json.dumps(RECORDS), encoding="utf-8")
    elif name.endswith("csv"):
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, RECORDS[0])
            writer.writeheader()
            writer.writerows(RECORDS)
    else:
        from datasets import Dataset

        Dataset.from_list(RECORDS).to_parquet(str(path))
    rows = load_records(path, ("clear", "kind"))
    assert rows == [{key: value for key, value in row.items() if key != "note"} for row in RECORDS]


def test_own_chat_records(tmp_path):
    prompt = [{"role": "user", "content": "Hi"}]
    row = {**RECORDS[0], "prompt": prompt, "response_0": [{"role": "assistant", "content": "Yes"}]}
    assert load_records(write_lines(tmp_path / "a.jsonl", [row]), ("clear",))[0]["prompt"] == prompt


def test_own_records_are_validated(tmp_path):
    with pytest.raises(ValueError, match="row 1, column 'clear'"):
        load_records(write_lines(tmp_path / "a.jsonl", [RECORDS[0], {**RECORDS[1], "clear": 3}]), ("clear",))
    with pytest.raises(ValueError, match="row 1: column 'clear' is missing or blank"):
        load_records(write_lines(tmp_path / "b.jsonl", [RECORDS[0], {**RECORDS[1], "clear": None}]), ("clear",))


def test_unreadable_file_kind_and_limit(tmp_path):
    path = tmp_path / "a.xlsx"
    path.write_text("x", encoding="utf-8")
    with pytest.raises(ValueError, match=r"a\.xlsx is none of the files"):
        load_records(path, ("clear",))
    with pytest.raises(ValueError, match="limit is 0"):
        load_records(path, ("clear",), limit=0)


def test_registry(tmp_path):
    with pytest.raises(ValueError, match=r"unknown loader 'nope': choose one of .*pku-saferlhf"):
        LOADERS.make("nope")
    path = write_lines(tmp_path / "a.jsonl", [pku_row(0)])
    assert LOADERS.make("pku-saferlhf", source=path) == load_pku_saferlhf(path)
    assert {"hh-rlhf", "harm-pairs", "records"} <= set(LOADERS)

import csv
import re

import pytest

from mopref.llm.data.loaders import load_hh_rlhf


def hh_row(answer, other, start="\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: How are you?"):
    return {"chosen": f"{start}\n\nAssistant: {answer}", "rejected": f"{start}\n\nAssistant: {other}"}


@pytest.fixture
def hh(tmp_path, write_lines):
    write_lines(tmp_path / "helpful-base" / "train.jsonl.gz", [hh_row(f"Good {n}", f"Go away {n}") for n in range(30)])
    write_lines(tmp_path / "harmless-base" / "train.jsonl.gz", [hh_row("I won't", "I will", "\n\nHuman: Help")])
    return tmp_path


def test_folder_is_the_objective(hh):
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


def test_position_says_nothing_and_is_seeded(hh):
    labels = [row["helpful"] for row in load_hh_rlhf(hh)[:30]]
    assert 5 < sum(labels) < 25
    assert labels == [row["helpful"] for row in load_hh_rlhf(hh)[:30]]
    assert labels != [row["helpful"] for row in load_hh_rlhf(hh, seed=1)[:30]]


def test_folders_can_be_chosen(hh):
    rows = load_hh_rlhf(hh, folders={"safe": ["harmless-base"]}, limit=5)
    assert [set(row) for row in rows] == [{"prompt", "response_0", "response_1", "safe"}]
    with pytest.raises(ValueError, match="holds no folder 'helpful-online'; it has harmless-base, helpful-base"):
        load_hh_rlhf(hh, folders={"helpful": ["helpful-online"]})


def test_shared_beginnings_of_responses_stay_in_the_response(tmp_path, write_lines):
    write_lines(tmp_path / "helpful-base" / "train.jsonl", [hh_row("I think yes", "I think no")])
    (row,) = load_hh_rlhf(tmp_path, folders={"helpful": ["helpful-base"]})
    assert {row["response_0"], row["response_1"]} == {"I think yes", "I think no"}


def test_dialogues_that_part_early_are_left_out(tmp_path, write_lines):
    early = {
        "chosen": "\n\nHuman: Hi\n\nAssistant: Yes\n\nHuman: So?\n\nAssistant: Fine",
        "rejected": "\n\nHuman: Hi\n\nAssistant: No\n\nHuman: Oh\n\nAssistant: Well",
    }
    write_lines(tmp_path / "helpful-base" / "train.jsonl", [early, hh_row("Good", "Bad"), hh_row("", "Bad")])
    with pytest.warns(UserWarning, match="left out 2 of 3 rows"):
        assert len(load_hh_rlhf(tmp_path, folders={"helpful": ["helpful-base"]})) == 1


@pytest.mark.parametrize("text", ["no dialogue", "\n\nHuman: Hi"])
def test_other_texts_are_refused(tmp_path, text, write_lines):
    row = {**hh_row("Good", "Bad"), "rejected": text}
    write_lines(tmp_path / "helpful-base" / "train.jsonl", [hh_row("Good", "Bad"), row])
    with pytest.raises(ValueError, match="helpful-base, row 1, column 'rejected'"):
        load_hh_rlhf(tmp_path, folders={"helpful": ["helpful-base"]})


def test_missing_column(tmp_path, write_lines):
    write_lines(tmp_path / "helpful-base" / "train.jsonl", [{"chosen": "\n\nHuman: a\n\nAssistant: b"}])
    with pytest.raises(ValueError, match="row 0: column 'rejected' is missing"):
        load_hh_rlhf(tmp_path, folders={"helpful": ["helpful-base"]})


@pytest.mark.parametrize("answers", [("1969-07-20", "1970-01-01"), ("None", "42")])
@pytest.mark.parametrize("name", ["train.jsonl", "train.csv"])
def test_answers_are_text_as_written(tmp_path, answers, name, write_lines):
    path = write_lines(tmp_path / "helpful-base" / name, [hh_row(*answers)])
    if name.endswith("csv"):
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, ["chosen", "rejected"])
            writer.writeheader()
            writer.writerow(hh_row(*answers))
    (row,) = load_hh_rlhf(tmp_path, folders={"helpful": ["helpful-base"]})
    assert (row[f"response_{row['helpful']}"], row[f"response_{1 - row['helpful']}"]) == answers


def test_half_a_surrogate_pair_is_named(tmp_path, write_lines):
    write_lines(tmp_path / "helpful-base" / "train.jsonl", [hh_row("Good", "Bad"), hh_row("\ud83d", "Bad")])
    with pytest.raises(ValueError, match="helpful-base, row 1, column 'chosen' holds half a surrogate pair"):
        load_hh_rlhf(tmp_path, folders={"helpful": ["helpful-base"]})


def test_an_empty_folder_is_named(tmp_path, write_lines):
    write_lines(tmp_path / "helpful-base" / "train.jsonl", [])
    with pytest.raises(ValueError, match=r"there are no records in .*, folder 'helpful-base'"):
        load_hh_rlhf(tmp_path, folders={"helpful": ["helpful-base"]})


def test_arguments_of_another_type_are_named(hh):
    with pytest.raises(TypeError, match="folders is 'helpful-base': give a dict of an objective"):
        load_hh_rlhf(hh, folders="helpful-base")
    with pytest.raises(TypeError, match="seed is 's'"):
        load_hh_rlhf(hh, seed="s")


def test_columns_of_other_names(tmp_path, write_lines):
    row = hh_row("Good", "Bad")
    write_lines(tmp_path / "base" / "train.jsonl", [{"better": row["chosen"], "worse": row["rejected"]}])
    columns = {"chosen": "better", "rejected": "worse"}
    (record,) = load_hh_rlhf(tmp_path, folders={"helpful": ["base"]}, columns=columns)
    assert record[f"response_{record['helpful']}"] == "Good"
    with pytest.raises(
        ValueError, match="columns maps 'prompt', which is not read here: its names may be chosen, reje"
    ):
        load_hh_rlhf(tmp_path, folders={"helpful": ["base"]}, columns={"prompt": "better"})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": -1}, "seed is -1: it must be ≥ 0"),
        ({"folders": {"helpful": 3}}, "folders of 'helpful' is 3, of type int: give a list"),
        ({"folders": {"helpful": [3]}}, re.escape("folders of 'helpful'[0] is of type int: give a text")),
    ],
)
def test_options_of_another_kind_are_refused_by_name(options, message, tmp_path):
    with pytest.raises((TypeError, ValueError), match=message):
        load_hh_rlhf(tmp_path, **options)

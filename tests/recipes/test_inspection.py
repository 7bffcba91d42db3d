from _tiny_runs import pair_records, write_lines

from mopref.recipes.inspection import inspect_data


def test_labels_conflicts_lengths_and_leaks_are_counted(load, tmp_path):
    records = [
        {"prompt": "red", "response_0": "cat", "response_1": "dog here", "helpful": 0, "harmless": 0},
        {"prompt": "blue", "response_0": "cat", "response_1": "dog", "helpful": 1, "harmless": 0},
        {"prompt": "green red", "response_0": "cat", "response_1": "dog", "helpful": 1, "harmless": -1},
        {"prompt": "here", "response_0": "cat", "response_1": "dog", "helpful": 1, "harmless": 1},
    ]
    train = write_lines(records, tmp_path / "train.jsonl")
    test = write_lines([records[0], {**records[1], "prompt": "then"}], tmp_path / "test.jsonl")
    data = {"source": str(train), "test_source": str(test), "test_fraction": None, "max_response_length": 2}
    lines = inspect_data(load(data=data)).lines
    assert lines[:6] == [
        "train: 4 pairs on 4 prompts; labelled on all objectives 3, with opposite labels 1",
        "train: helpful: 4 labelled (1 prefer response_0, 3 response_1), 0 tied or not labelled",
        "train: harmless: 3 labelled (2 prefer response_0, 1 response_1), 1 tied or not labelled",
        "train: helpful and harmless: 3 labelled on both, 2 agree, 1 conflict",
        # A prompt is laid out with the turn's begin and end, and the beginning of the answer.
        "train: prompt tokens: median 4, most 5; 0 of 4 beyond the limit of 512",
        "train: response tokens: median 2, most 3; 1 of 8 beyond the limit of 2",
    ]
    assert lines[-1] == "leaks: 1 of 2 held-out records have a prompt of the training data"


def test_rows_are_shown_as_the_model_sees_them(load):
    report = inspect_data(load(), count=2)
    assert len(report.rows) == 2
    row = report.rows[0]
    assert row.prompt.startswith("<turn>")
    assert row.prompt.rstrip().endswith("<turn>")
    assert {row.responses[0].split()[0], row.responses[1].split()[0]} == {"cat", "dog"}
    assert all(response.endswith("</s>") for response in row.responses)
    assert row.labels.startswith("helpful ")


def test_no_model_is_loaded(load, monkeypatch):
    monkeypatch.setattr("mopref.recipes.training.adapted_model", None)
    assert inspect_data(load(), count=0).rows == []


def test_styles_and_prompts_are_counted_too(load, tmp_path):
    rows = [{"prompt": f"red {i}", "response": "cat", "dimension": ["helpful"]} for i in range(6)]
    source = write_lines([*rows, {"prompt": "now", "response": "dog", "dimension": "harmless"}], tmp_path / "s.jsonl")
    data = {"source": str(source), "loader": "responses", "test_source": str(source), "test_fraction": None}
    lines = inspect_data(load(data=data, objective="sft")).lines
    assert "train: responses of helpful 6, harmless 1" in lines
    source = write_lines([{"prompt": record["prompt"]} for record in pair_records(10)], tmp_path / "p.jsonl")
    concise = {"name": "conciseness", "options": {"target_length": 5}}
    report = inspect_data(
        load(
            data={"source": str(source), "loader": "prompts"},
            objective="rlhf",
            rewards={"helpful": concise, "harmless": concise},
        )
    )
    assert any("prompt tokens" in line for line in report.lines)
    assert not any("response tokens" in line for line in report.lines)
    assert report.rows[0].responses == []

"""The styles example from end to end, on a tiny random model and a file of answers: nothing is downloaded."""

import json

import pytest
import torch

from mopref import Front, PreferenceModel
from mopref.llm.policy import Policy

WORDS = ["red", "green", "blue", "cat", "dog", "runs", "sleeps", "eats", "here", "there", "now", "then"]


@pytest.fixture(scope="module")
def example(load_example):
    return load_example("llm_sft_styles")


@pytest.fixture(scope="module")
def model_folder(make_model_folder):
    return make_model_folder([*WORDS, *(word.upper() for word in WORDS), "-", ".", "!"])


@pytest.fixture
def answers_file(tmp_path):
    lines = [
        {
            "question": f"{WORDS[index % 3]} {WORDS[index // 3 + 3]}",
            "brief": "now.",
            "sentences": [f"{WORDS[index % 3]} cat.", "runs here."],
        }
        for index in range(18)
    ]
    path = tmp_path / "answers.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in lines), encoding="utf-8")
    return path


def arguments(model_folder, answers_file, output, *more):
    return [
        *("--model", str(model_folder), "--data", str(answers_file), "--output", str(output), "--device", "cpu"),
        *("--layers", "2", "--steps", "60", "--learning-rate", "2e-2", *more),
    ]


def test_writes_a_front_that_lambda_moves(example, model_folder, answers_file, tmp_path, capsys):
    output = tmp_path / "out"
    front = example.main(arguments(model_folder, answers_file, output, "--steps", "100"))
    for name in ("adapter/adapter_config.json", "adapter/adapter_model.safetensors", "front.csv", "front.png"):
        assert (output / name).stat().st_size > 0
    saved = Front.load(output / "front.json")
    assert saved.values.tolist() == front.values.tolist()
    assert saved.preferences[:3].tolist() == torch.eye(3).tolist()
    assert saved.metadata["seed"] == 0
    # On held-out questions a style is better at its corner than wherever its weight is 0, and than the base is.
    for style in range(3):
        losses, without = saved.values[:, style], saved.preferences[:, style] == 0
        assert losses[style] < losses[without].min()
        assert losses[style] < 0.5 * saved.metadata["base_losses"][style]
        shares = saved.extra[f"share_{example.STYLES[style]}"]
        assert shares[style] > shares[without].mean()
    printed = capsys.readouterr().out
    assert "λ: brief 0.50, list 0.00, loud 0.50" in printed
    assert "Base model: brief" in printed
    assert "14 questions to train on and 4 held out" in printed


def test_adapter_reloads_with_its_base(example, model_folder, answers_file, tmp_path):
    example.main(arguments(model_folder, answers_file, tmp_path / "out", "--steps", "20", "--samples", "1"))
    model = PreferenceModel.from_pretrained(tmp_path / "out" / "adapter").eval()
    ids = torch.tensor([[3, 6, 8, 2, 3]])
    with torch.no_grad():
        ends = [model(ids, preferences=corner).logits for corner in torch.eye(3)]
    assert min((ends[a] - ends[b]).abs().max() for a, b in ((0, 1), (0, 2), (1, 2))) > 0.1


def test_kept_activations_change_nothing(example, model_folder, answers_file, tmp_path, monkeypatch):
    short = ("--steps", "10", "--samples", "1", "--per-token")
    kept = example.main(arguments(model_folder, answers_file, tmp_path / "kept", *short))
    monkeypatch.setattr(Policy, "keeps_lower_layers", lambda policy, tokens: False)
    run_again = example.main(arguments(model_folder, answers_file, tmp_path / "again", *short))
    assert torch.allclose(torch.tensor(kept.values), torch.tensor(run_again.values), atol=1e-3)
    assert kept.metadata["per_token"] is True


def test_every_style_is_recognised(example):
    for entry in map(json.loads, example.DEMO_DATA.read_text(encoding="utf-8").splitlines()):
        for style in example.STYLES:
            answer = example.in_style(style, entry["brief"], entry["sentences"])
            assert example.style_of(answer, is_whole=True) == style, answer
    assert example.style_of("Plants drink through their roots, which are", is_whole=False) is None
    assert example.style_of("12!", is_whole=True) is None


def test_demo_data_are_fifty_questions_or_so(example):
    records = example.load_data("demo")
    assert len(records) == 3 * len({record["prompt"] for record in records}) == 168
    assert {record["dimension"] for record in records} == set(example.STYLES)


def test_incomplete_line_is_named_before_anything_is_written(example, model_folder, answers_file, tmp_path):
    lines = answers_file.read_text(encoding="utf-8").splitlines()
    lines[4] = json.dumps({"question": "red cat", "brief": ""})
    answers_file.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(SystemExit, match="line 5: brief, sentences"):
        example.main(arguments(model_folder, answers_file, tmp_path / "out"))
    assert not (tmp_path / "out").exists()

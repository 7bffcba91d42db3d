"""The RLHF example from end to end, on a tiny random model and a file of prompts: nothing is downloaded."""

import pandas as pd
import pytest
import torch

from mopref import Front, PreferenceModel

pytest.importorskip("vaderSentiment", reason="the example's rewards need mopref[rewards]")

WORDS = ["good", "great", "happy", "bad", "awful", "sad", "cat", "dog", "here", "there", "now", "then"]


@pytest.fixture(scope="module")
def example(load_example):
    return load_example("llm_rlhf")


@pytest.fixture(scope="module")
def model_folder(make_model_folder):
    return make_model_folder(WORDS)


@pytest.fixture
def prompts_file(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_text("\n\n".join(f"{WORDS[i % 12]} {WORDS[i // 3]}" for i in range(20)), encoding="utf-8")
    return path


def arguments(model_folder, prompts_file, output, *more):
    return [
        *("--model", str(model_folder), "--prompts", str(prompts_file), "--output", str(output), "--device", "cpu"),
        *("--rewards", "positive", "concise", "--target-length", "2", "--max-new-tokens", "6", "--test-prompts", "6"),
        *("--layers", "2", "--steps", "40", "--learning-rate", "2e-2", "--points", "3", "--test-samples", "4", *more),
    ]


def test_each_reward_is_higher_at_its_vertex_than_at_the_base(example, model_folder, prompts_file, tmp_path, capsys):
    output = tmp_path / "out"
    front = example.main(arguments(model_folder, prompts_file, output))
    names = ("adapter/adapter_config.json", "adapter/adapter_model.safetensors", "front.csv", "front.png")
    for name in names:
        assert (output / name).stat().st_size > 0
    saved = Front.load(output / "front.json")
    assert saved.values.tolist() == front.values.tolist()
    assert saved.maximize
    base = saved.metadata["base_rewards"]
    for index in range(2):
        vertex = saved.preferences[:, index].argmax()
        assert saved.values[vertex, index] > base[index] + 0.05
    rollouts = pd.read_csv(output / "rollouts.csv")
    assert len(rollouts) == 40 * 6
    assert {"preference/positive", "reward/concise", "kl", "response_length", "truncated"} <= set(rollouts.columns)
    printed = capsys.readouterr().out
    assert "14 prompts to train on, 6 held out" in printed
    assert "concise: higher is shorter" in printed
    assert "Base model: positive" in printed


def test_adapter_reloads_with_its_base(example, model_folder, prompts_file, tmp_path):
    example.main(arguments(model_folder, prompts_file, tmp_path / "out", "--steps", "8", "--algorithm", "ppo"))
    model = PreferenceModel.from_pretrained(tmp_path / "out" / "adapter").eval()
    ids = torch.tensor([[3, 6, 8, 2, 3]])
    with torch.no_grad():
        ends = [model(ids, preferences=corner).logits for corner in torch.eye(2)]
    assert (ends[0] - ends[1]).abs().max() > 1e-3


def test_demo_prompts_are_split_by_seed(example):
    train, test = example.load_prompts(None, 16, seed=0)
    questions = {prompt[-1]["content"] for prompt in train} | {prompt[-1]["content"] for prompt in test}
    assert (len(train), len(test), len(questions)) == (40, 16, 56)
    assert example.load_prompts(None, 16, seed=0)[1] == test
    assert example.load_prompts(None, 16, seed=1)[1] != test


def test_too_few_prompts_are_refused_before_anything_is_written(example, model_folder, prompts_file, tmp_path):
    prompts_file.write_text("good\nbad\n", encoding="utf-8")
    with pytest.raises(SystemExit, match="2 prompts"):
        example.main(arguments(model_folder, prompts_file, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_unknown_reward_is_refused_with_the_known_ones(example, capsys):
    with pytest.raises(SystemExit):
        example.main(["--rewards", "kindness"])
    assert "relevant" in capsys.readouterr().err

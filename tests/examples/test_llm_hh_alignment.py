"""The main job from end to end, on a tiny random model and a file of records: nothing is downloaded."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mopref import Front, PreferenceModel
from mopref.llm.policy import Policy
from mopref.recipes import load_recipe

WORDS = ["red", "green", "blue", "cat", "dog", "runs", "sleeps", "eats", "here", "there", "now", "then"]


@pytest.fixture(scope="module")
def example(load_example):
    return load_example("llm_hh_alignment")


@pytest.fixture(scope="module")
def model_folder(make_model_folder):
    return make_model_folder(WORDS)


@pytest.fixture
def records_file(tmp_path):
    """Pairs with opposite labels: "helpful" likes cats, "harmless" likes dogs."""
    generator = torch.Generator().manual_seed(0)
    lines = []
    for index in range(40):
        noise = [WORDS[i] for i in torch.randint(5, len(WORDS), (3,), generator=generator)]
        swap = int(torch.randint(2, (1,), generator=generator))
        answers = [f"cat {noise[0]} cat", f"dog {noise[1]} dog"]
        lines.append(
            {
                "prompt": f"{WORDS[index % 3]} {noise[2]} {WORDS[index % 5]}",
                "response_0": answers[swap],
                "response_1": answers[1 - swap],
                "helpful": swap,
                "harmless": 1 - swap if index % 4 else -1,
            }
        )
    path = tmp_path / "records.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in lines), encoding="utf-8")
    return path


def arguments(model_folder, records_file, output, *more):
    return [
        *("--model", str(model_folder), "--data", str(records_file), "--output", str(output)),
        *("--device", "cpu", "--layers", "2", "--steps", "30", "--learning-rate", "1e-2", *more),
    ]


def test_writes_a_front_that_lambda_moves(example, model_folder, records_file, tmp_path, capsys):
    output = tmp_path / "out"
    front = example.main(arguments(model_folder, records_file, output))
    for name in ("adapter/adapter_config.json", "adapter/adapter_model.safetensors", "front.csv", "front.png"):
        assert (output / name).stat().st_size > 0
    saved = Front.load(output / "front.json")
    assert saved.values.tolist() == front.values.tolist()
    assert saved.metadata["seed"] == 0
    assert saved.metadata["reference_point"] == [1.0, 1.0]
    assert saved.extra["mean_response_length"].shape == (5,)
    # λ_helpful rises along the front: its loss falls and the other's rises, strictly, on held-out prompts.
    assert (front.values[1:, 0] < front.values[:-1, 0]).all()
    assert (front.values[1:, 1] > front.values[:-1, 1]).all()
    assert front.extra["accuracy_helpful"][-1] > front.extra["accuracy_helpful"][0]
    printed = capsys.readouterr().out
    assert "Hypervolume" in printed
    assert "helpful 1.00, harmless 0.00" in printed


def test_adapter_reloads_with_its_base(example, model_folder, records_file, tmp_path):
    example.main(arguments(model_folder, records_file, tmp_path / "out", "--points", "2"))
    model = PreferenceModel.from_pretrained(tmp_path / "out" / "adapter").eval()
    ids = torch.tensor([[3, 6, 8, 10]])
    with torch.no_grad():
        ends = [model(ids, preferences=corner).logits for corner in ([1.0, 0.0], [0.0, 1.0])]
    assert (ends[0] - ends[1]).abs().max() > 1e-2


def test_kept_activations_change_nothing(example, model_folder, records_file, tmp_path, monkeypatch):
    kept = example.main(arguments(model_folder, records_file, tmp_path / "kept"))
    monkeypatch.setattr(Policy, "keeps_lower_layers", lambda policy, tokens: False)
    run_again = example.main(arguments(model_folder, records_file, tmp_path / "again"))
    assert torch.allclose(torch.tensor(kept.values), torch.tensor(run_again.values), atol=1e-3)


def test_unknown_scalarizer_lists_the_known_ones(example, model_folder, records_file, tmp_path, capsys):
    with pytest.raises(SystemExit):
        example.main(arguments(model_folder, records_file, tmp_path / "out", "--scalarizer", "chebishev"))
    assert "smooth-tchebycheff" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_bad_record_is_named_before_anything_is_written(example, model_folder, records_file, tmp_path):
    lines = records_file.read_text(encoding="utf-8").splitlines()
    bad = json.loads(lines[7])
    bad["harmless"] = 3
    lines[7] = json.dumps(bad)
    records_file.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(SystemExit, match=r"(?s)row 7.*harmless.*3"):
        example.main(arguments(model_folder, records_file, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_every_scalarizer_it_offers_can_be_made(example):
    losses, preferences = torch.tensor([[0.7, 0.6]]), torch.tensor([[0.3, 0.7]])
    assert set(example.SCALARIZER_NAMES) == set(example.SCALARIZERS) - {"normalized"}
    for name in example.SCALARIZER_NAMES:
        made = example.SCALARIZERS[name].between(ideal=[0.0, 0.0], nadir=example.REFERENCE_POINT)
        assert made(losses, preferences).isfinite().all(), name


def test_without_flags_it_is_the_demos_recipe(example, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = Path(__file__).parents[2] / "examples" / "recipes" / "demo.yaml"
    recipe, settings = load_recipe(file), example.Settings()
    by_flags = example.recipe_of(settings).completed()
    # The script writes out the scalarizer's defaults.
    own = by_flags.scalarizer.options
    assert {name: own[name] for name in recipe.scalarizer.options} == recipe.scalarizer.options
    assert replace(by_flags, scalarizer=recipe.scalarizer) == recipe


def test_no_run_is_written_over(example, tmp_path):
    assert example.free_folder(tmp_path / "run") == tmp_path / "run"
    for name in ("run", "run-2"):
        (tmp_path / name).mkdir()
    assert example.free_folder(tmp_path / "run") == tmp_path / "run"
    (tmp_path / "run" / "front.json").write_text("")
    assert example.free_folder(tmp_path / "run") == tmp_path / "run-2"
    (tmp_path / "run-2" / "front.json").write_text("")
    assert example.free_folder(tmp_path / "run") == tmp_path / "run-3"


def test_what_cannot_be_ends_in_a_sentence(example, records_file, tmp_path):
    with pytest.raises(SystemExit, match=r"model\.name is .+: nothing could be loaded from there"):
        example.main(
            ["--model", str(tmp_path / "none"), "--data", str(records_file), "--output", str(tmp_path / "out")]
        )


def test_data_sets_have_their_loaders(example):
    options = {"prefer_labelled_on_both": True, "max_characters": 1200, "everyday": True}
    assert example.data_of("demo") == ("harm-pairs", None, options)
    assert example.data_of("PKU-Alignment/PKU-SafeRLHF")[:2] == ("pku-saferlhf", "PKU-Alignment/PKU-SafeRLHF")
    assert example.data_of("Anthropic/hh-rlhf")[:2] == ("hh-rlhf", "Anthropic/hh-rlhf")
    assert example.data_of("mine.jsonl")[:2] == ("records", "mine.jsonl")

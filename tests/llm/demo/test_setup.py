"""What every example begins with: settings from flags, a device, a model."""

from dataclasses import dataclass, field

import pytest
import torch

from mopref import SVDLoRAConfig
from mopref.llm.demo import setup
from mopref.llm.demo.setup import load_model, model_name, parse_settings, pick_device, upper_blocks


@dataclass
class Settings:
    """Three flags."""

    steps: int = field(default=3, metadata={"help": "optimiser steps"})
    batch_size: int = 4
    names: list[str] = field(default_factory=lambda: ["a", "b"])


def test_flags_become_settings():
    settings = parse_settings(Settings, ["--batch-size", "8", "--names", "x", "y", "z"], None)
    assert settings == Settings(steps=3, batch_size=8, names=["x", "y", "z"])
    assert parse_settings(Settings, ["--batch_size", "2"], None).batch_size == 2
    assert parse_settings(Settings, [], None) == Settings()


def test_help_shows_defaults_and_the_first_paragraph(capsys):
    with pytest.raises(SystemExit):
        parse_settings(Settings, ["--help"], "What it does.\n\nMore of it.")
    printed = capsys.readouterr().out
    assert "What it does." in printed
    assert "More of it." not in printed
    assert "optimiser steps (default: 3)" in printed


@pytest.mark.parametrize("flags", [["--stepz", "4"], ["--step", "4"], ["--steps", "many"]])
def test_unknown_shortened_and_ill_typed_flags_are_refused(flags, capsys):
    with pytest.raises((SystemExit, ValueError)) as caught:
        parse_settings(Settings, flags, None)
    assert flags[0] in str(caught.value) + capsys.readouterr().err


def test_command_line_is_the_default(monkeypatch):
    monkeypatch.setattr("sys.argv", ["script.py", "--steps", "7"])
    assert parse_settings(Settings, None, None).steps == 7


def test_devices(monkeypatch):
    assert pick_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto") == torch.device("cpu")
    with pytest.raises(SystemExit, match="--device cuda:1: PyTorch sees no CUDA device"):
        pick_device("cuda:1")


def test_upper_blocks():
    assert upper_blocks(3) == (-3, -2, -1)
    assert upper_blocks(0) is None


def test_a_folder_or_the_demo(make_llama, tmp_path, monkeypatch):
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    make_llama().save_pretrained(tmp_path)
    core = Tokenizer(models.WordLevel({"<unk>": 0, "one": 1}, unk_token="<unk>"))
    PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>").save_pretrained(tmp_path)
    config = SVDLoRAConfig(objectives=("a", "b"), layers=upper_blocks(1))
    model, tokenizer = load_model(str(tmp_path), config, "cpu")
    assert {name.split(".")[2] for name in model.adapters} == {"1"}
    assert next(model.parameters()).dtype == torch.float32
    assert len(tokenizer) == 2
    monkeypatch.setattr(setup, "smollm2", lambda: tmp_path)
    assert load_model("demo", config, "cpu")[0].adapter_config == config
    assert (model_name("demo"), model_name("org/model")) == (setup.DEMO_MODEL, "org/model")

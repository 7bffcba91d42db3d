"""Folders of LoRAs for engines: what is put there is what PEFT's form says, and nothing is left."""

import json
import os

import pytest
import torch
from safetensors.torch import load_file

from mopref.llm.engines.lora_shelf import checked_shelf, lora_shelf, put_lora

_YEAR = 365 * 86_400


def test_a_lora_is_the_export_of_the_model_at_that_preference(model, tmp_path):
    put_lora(tmp_path / "own", model, (0.25, 0.75))
    model.export_lora(tmp_path / "exported", [0.25, 0.75])
    own, exported = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("own", "exported"))
    assert own.keys() == exported.keys()
    assert all(torch.equal(own[name], exported[name]) for name in own)
    settings = [json.loads((tmp_path / name / "adapter_config.json").read_text()) for name in ("own", "exported")]
    assert settings[0] == settings[1]


def test_the_folder_is_gone_after_the_block_also_after_an_error(model, tmp_path):
    def broken() -> None:
        with lora_shelf(tmp_path / "made") as folder:
            put_lora(folder / "0", model, (0.5, 0.5))
            assert folder.is_absolute()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        broken()
    assert list((tmp_path / "made").iterdir()) == []


def test_only_what_killed_runs_left_long_ago_is_removed(tmp_path):
    with lora_shelf(tmp_path) as first:
        left, young = tmp_path / f"{first.name[:-16]}{'a' * 16}", tmp_path / f"{first.name[:-16]}{'b' * 16}"
        users = tmp_path / "mopref-rollout-mine"
        for folder in (left, young, users):
            folder.mkdir()
        for folder in (left, users):
            os.utime(folder, (folder.stat().st_mtime - _YEAR,) * 2)
        with lora_shelf(tmp_path) as second:
            assert {path.name for path in tmp_path.iterdir()} == {first.name, second.name, young.name, users.name}


def test_values_that_are_not_finite_are_refused(model, tmp_path):
    next(iter(model.adapters.values())).U.data[0, 0] = torch.nan
    with pytest.raises(ValueError, match="cannot be exported"):
        put_lora(tmp_path / "0", model, (0.5, 0.5))
    assert list(tmp_path.iterdir()) == []


def test_no_folder_is_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("MOPREF_CACHE", str(tmp_path))
    assert checked_shelf(None) is None
    with lora_shelf(None) as folder:
        assert folder.parent == tmp_path / "rollouts"

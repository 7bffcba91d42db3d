"""Whatever saves into a folder is killed before each of its file operations: one save, older or newer, is whole."""

import copy
import os
import shutil

import pytest
import torch
from _killed_saves import killed_saves
from _sealed_adapters import SETTINGS, WEIGHTS
from conditioned_networks import conditioned
from safetensors.torch import load_file
from saved_conditionings import CASES, moved, output
from torch import nn

from mopref import PreferenceModel
from mopref._write_ahead import current_file

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs fork")


def base() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 2))


@pytest.fixture
def models():
    """One after more training than the other."""
    older = conditioned(base())
    newer = copy.deepcopy(older)
    with torch.no_grad():
        for layer in newer.adapters.values():
            layer.U.mul_(2)
            layer.sigma.add_(1)
    return older, newer


def state(model: PreferenceModel) -> list:
    return [value.tolist() for value in model.state_dict().values()]


def test_an_adapter(models, tmp_path):
    older, newer = models
    older.save_pretrained(tmp_path / "older")
    shutil.copytree(tmp_path / "older", tmp_path / "adapter")
    found = []
    for at in killed_saves(lambda: newer.save_pretrained(tmp_path / "adapter")):
        found.append(state(PreferenceModel.load(base(), tmp_path / "adapter")))
        assert found[-1] in (state(older), state(newer)), at
        assert len(found) < 3 or found[-2] != state(newer) or found[-1] == state(newer), "what counts goes on counting"
        # What a copy of the folder has is the same, and a further save leaves no trace of the killed one.
        shutil.copytree(tmp_path / "adapter", tmp_path / "copy")
        assert state(PreferenceModel.load(base(), tmp_path / "copy")) == found[-1]
        shutil.rmtree(tmp_path / "copy")
        shutil.rmtree(tmp_path / "adapter")
        shutil.copytree(tmp_path / "older", tmp_path / "adapter")
    assert len(found) > 15
    assert state(older) in found
    assert state(newer) in found
    assert state(PreferenceModel.load(base(), tmp_path / "adapter")) == state(newer)


def test_an_adapter_of_a_killed_save_is_saved_again(models, tmp_path):
    older, newer = models
    older.save_pretrained(tmp_path)
    for at in killed_saves(lambda: newer.save_pretrained(tmp_path)):
        older.check_folder(tmp_path)
        older.save_pretrained(tmp_path)
        assert sorted(path.name for path in tmp_path.iterdir()) == [SETTINGS, WEIGHTS], at
        assert state(PreferenceModel.load(base(), tmp_path)) == state(older)


@pytest.mark.parametrize("kind", ["export_lora", "export_lora_set"])
def test_plain_loras(kind, models, tmp_path):
    """Tools that know nothing of this library read them: their description stays where it is."""

    def export(model, folder):
        if kind == "export_lora":
            model.export_lora(folder, [0.3, 0.7])
        else:
            model.export_lora_set(folder)

    def content(folder, read=current_file):
        return {
            str(path.relative_to(folder)): {
                name: read(path, name).read_bytes() for name in (SETTINGS, WEIGHTS) if read(path, name).exists()
            }
            for path in (folder, *sorted(folder.iterdir()))
            if (path / SETTINGS).exists() and not path.name.startswith(".")
        }

    older, newer = models
    for model, name in ((older, "older"), (newer, "newer")):
        export(model, tmp_path / name)
    before, after = content(tmp_path / "older"), content(tmp_path / "newer")
    assert before != after
    shutil.copytree(tmp_path / "older", tmp_path / "lora")
    kills = 0
    for at in killed_saves(lambda: export(newer, tmp_path / "lora")):
        kills = at
        for found in (content(tmp_path / "lora"), content(tmp_path / "lora", lambda path, name: path / name)):
            assert found.keys() == before.keys()
            assert all(files in (before[name], after[name]) for name, files in found.items()), at
        if current_file(tmp_path / "lora", "scales.json").exists():
            assert content(tmp_path / "lora") in (before, after), "scales stand beside the LoRAs that they are of"
        export(older, tmp_path / "lora")
        assert content(tmp_path / "lora") == before
    assert kills > 15
    assert content(tmp_path / "lora") == after


@pytest.mark.parametrize("name", ["pareto set", "film", "decision, adapters"])
def test_another_conditioning(name, tmp_path):
    case = CASES[name]
    model = case.new().eval()
    model.save_pretrained(tmp_path / "older")
    before = output(model)
    moved(model)
    shutil.copytree(tmp_path / "older", tmp_path / "folder")
    found = []
    for at in killed_saves(lambda: model.save_pretrained(tmp_path / "folder")):
        loaded = output(case.load(tmp_path / "folder").eval())
        found.append(next(index for index, value in enumerate((before, output(model))) if torch.equal(value, loaded)))
        shutil.rmtree(tmp_path / "folder")
        shutil.copytree(tmp_path / "older", tmp_path / "folder")
        assert at == len(found)
    assert found == sorted(found)
    assert set(found) == {0, 1}


def test_the_tensors_of_a_killed_save_can_be_read_by_others(models, tmp_path):
    """At no moment is there a torn file of tensors."""
    older, newer = models
    older.save_pretrained(tmp_path)
    for _ in killed_saves(lambda: newer.save_pretrained(tmp_path)):
        assert load_file(tmp_path / WEIGHTS).keys() == load_file(current_file(tmp_path, WEIGHTS)).keys()


@pytest.mark.parametrize(("mask", "mode"), [(0o077, 0o600), (0o022, 0o644)])
def test_files_are_as_private_as_the_umask_says(mask, mode, models, tmp_path):
    before = os.umask(mask)
    try:
        models[0].save_pretrained(tmp_path / "adapter")
        models[0].export_lora_set(tmp_path / "loras")
        CASES["pareto set"].new().save_pretrained(tmp_path / "conditioning")
    finally:
        os.umask(before)
    modes = {path.stat().st_mode & 0o777 for path in tmp_path.rglob("*") if path.is_file()}
    assert modes == {mode}
    assert {path.stat().st_mode & 0o777 for path in tmp_path.rglob("*") if path.is_dir()} == {0o777 & ~mask}

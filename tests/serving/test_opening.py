"""A run's folder or an adapter's: the same model, and no other folder."""

import shutil

import pytest
import torch

from mopref.recipes import RunFolderError
from mopref.serving.opening import open_model, recorded_objectives


def test_a_run_and_its_adapter_are_the_same_model(trained):
    ids = torch.tensor([[5, 6, 7]])
    from_run, from_adapter = open_model(trained.folder), open_model(str(trained.folder / "adapter"))
    expected = trained.model(ids, preferences=[0.3, 0.7]).logits
    for opened in (from_run, from_adapter):
        assert torch.equal(opened.model(ids, preferences=[0.3, 0.7]).logits, expected)
        assert opened.tokenizer.get_vocab() == trained.tokenizer.get_vocab()


def test_objectives_are_known_before_anything_is_loaded(trained, monkeypatch):
    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", None)
    for folder in (trained.folder, trained.folder / "adapter"):
        assert recorded_objectives(folder) == ("helpful", "harmless")


def test_another_folder_is_refused(tmp_path, trained):
    for call in (open_model, recorded_objectives):
        with pytest.raises(RunFolderError, match="holds neither a run nor an adapter: give"):
            call(tmp_path)
    shutil.copytree(trained.folder, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "adapter")
    for call in (open_model, recorded_objectives):
        with pytest.raises(RunFolderError, match="no finished run: there is no adapter in it; go on with it"):
            call(tmp_path / "run")

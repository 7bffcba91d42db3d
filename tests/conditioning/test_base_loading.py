"""A base model is loaded without code of its own and without pickles, and all of it of one commit."""

import json
import shutil
import socket
import sys

import pytest
import torch

from mopref import PreferenceModel, SVDLoRAConfig
from mopref.conditioning.base_loading import load_base
from mopref.conditioning.base_origin import base_origin

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CONFIG = SVDLoRAConfig(("a", "b"), rank=2)


@pytest.fixture
def folder(make_llama, tmp_path):
    make_llama().save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def pickled(folder):
    """The same folder with its weights in a pickle."""
    from safetensors.torch import load_file

    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    return folder


def test_safetensors_are_loaded(folder):
    assert type(load_base(str(folder), {})).__name__ == "LlamaForCausalLM"
    assert load_base(str(folder), {"dtype": torch.bfloat16}).dtype == torch.bfloat16


def test_pickles_are_not_read_unasked(folder, monkeypatch):
    pickled(folder)
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("a pickle was read"))
    with pytest.raises(
        ValueError, match=r"base has no weights in safetensors \(.*\)\. Pickled ones .* convert them once, by AutoModel"
    ):
        PreferenceModel.from_pretrained(folder, CONFIG)


def test_pickles_that_are_asked_for_are_read_without_code(folder, monkeypatch):
    pickled(folder)
    load, seen = torch.load, []
    monkeypatch.setattr(torch, "load", lambda *a, **o: seen.append(o.get("weights_only")) or load(*a, **o))
    assert load_base(str(folder), {"use_safetensors": False})
    assert set(seen) == {True}
    for value in (False, None, 0):
        with pytest.raises(ValueError, match=rf"weights_only is {value}: a pickle that may run code is not read"):
            load_base(str(folder), {"use_safetensors": False, "weights_only": value})


@pytest.mark.parametrize("kind", ["unknown", "known"])
def test_code_that_comes_with_a_model_is_not_run_nor_asked_about(kind, folder, tmp_path, monkeypatch):
    """On a terminal transformers would ask, and wait."""
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"}
    if kind == "unknown":
        config["model_type"] = "strange"
    (folder / "config.json").write_text(json.dumps(config))
    mark = tmp_path / "ran"
    (folder / "own.py").write_text(f"open({str(mark)!r}, 'w').close()\nclass OwnConfig: ...\nclass OwnModel: ...\n")
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("a question was asked"))
    if kind == "known":
        assert type(load_base(str(folder), {})).__name__ == "LlamaForCausalLM"
    else:
        with pytest.raises(
            ValueError, match="needs code that comes with it, which mopref does not run: read that code"
        ):
            load_base(str(folder), {})
    with pytest.raises(ValueError, match="trust_remote_code is set: mopref runs no code that comes with a model"):
        PreferenceModel.from_pretrained(folder, CONFIG, trust_remote_code=True)
    assert not mark.exists()
    assert "own" not in sys.modules


def test_a_model_that_is_not_there_is_transformers_error(tmp_path):
    with pytest.raises(OSError, match="none"):
        load_base(str(tmp_path / "none"), {})


@pytest.fixture
def cache(folder, tmp_path, monkeypatch):
    """A cache of the hub with two commits of one model, of which "main" is the second."""
    other = COMMIT[::-1]
    repository = tmp_path / "hub" / "models--OWNER--model"
    for commit in (COMMIT, other):
        shutil.copytree(folder, repository / "snapshots" / commit)
    config = json.loads((folder / "config.json").read_text()) | {"bos_token_id": 7}
    (repository / "snapshots" / other / "config.json").write_text(json.dumps(config))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(other)
    (repository / "refs" / "v1").write_text(COMMIT)
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("the network was asked"))
    return {"cache_dir": str(tmp_path / "hub"), "local_files_only": True}


@pytest.mark.parametrize(
    ("revision", "expected"), [(None, COMMIT[::-1]), ("main", COMMIT[::-1]), ("v1", COMMIT), (COMMIT, COMMIT)]
)
def test_the_commit_of_the_hub_is_noted(revision, expected, cache):
    options = cache if revision is None else cache | {"revision": revision}
    model = load_base("OWNER/model", options)
    assert base_origin(model) == ("OWNER/model", expected, False)
    assert "_commit_hash" not in model.config.to_dict()
    assert (model.config.bos_token_id == 7) == (expected != COMMIT)


def test_an_adapter_comes_back_on_the_commit_it_was_trained_on(cache, tmp_path):
    """Also after the branch went on."""
    model = PreferenceModel.from_pretrained("OWNER/model", CONFIG, revision="v1", **cache)
    model.save_pretrained(tmp_path / "adapter")
    loaded = PreferenceModel.from_pretrained(tmp_path / "adapter", **cache)
    assert base_origin(loaded.base_model) == ("OWNER/model", COMMIT, False)
    assert loaded.config.bos_token_id != 7
    model.export_lora(tmp_path / "lora", [0.5, 0.5])
    assert json.loads((tmp_path / "lora" / "adapter_config.json").read_text())["revision"] == COMMIT


def test_weights_come_from_the_commit_of_the_configuration(cache, monkeypatch):
    transformers = pytest.importorskip("transformers")
    seen, load = [], transformers.AutoModelForCausalLM.from_pretrained
    monkeypatch.setattr(
        transformers.AutoModelForCausalLM,
        "from_pretrained",
        lambda name, **options: seen.append(options) or load(name, **options),
    )
    load_base("OWNER/model", cache)
    assert [(o["revision"], o["trust_remote_code"], o["use_safetensors"]) for o in seen] == [
        (COMMIT[::-1], False, True)
    ]

"""An adapter records where its base comes from; a folder of another machine is not asked of the hub."""

import pytest
import torch
from _sealed_adapters import SETTINGS, change_settings, settings_of
from conditioned_networks import small_config
from torch import nn

from mopref import PreferenceModel
from mopref.conditioning.base_origin import BaseOrigin, base_name, base_origin, checked_origin, note_commit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Config:
    pass


def named(name, commit=None):
    base = nn.Linear(2, 2)
    base.name_or_path, base.config = name, Config()
    if commit is not None:
        base.config._commit_hash = commit
    return base


def test_a_model_of_the_hub_has_its_commit(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert base_origin(named("OWNER/model", COMMIT)) == BaseOrigin("OWNER/model", COMMIT, False)
    assert base_origin(named("gpt2", COMMIT)) == BaseOrigin("gpt2", COMMIT, False)
    assert base_origin(named("OWNER/model")) == BaseOrigin("OWNER/model", None, False)
    for commit in ("main", COMMIT[:-1], COMMIT + "\n", 3):
        assert base_origin(named("OWNER/model", commit)).revision is None
    base = named("OWNER/model")
    note_commit(base, "main")
    assert base_origin(base).revision is None
    note_commit(base, COMMIT)
    assert base_origin(base).revision == COMMIT


def test_a_folder_is_local(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "outputs" / "model").mkdir(parents=True)
    for name in ("outputs/model", str(tmp_path / "outputs"), "/not/here", "./model", "~/model", "a/b/c", "a\\b"):
        assert base_origin(named(name, COMMIT)) == BaseOrigin(name, None, True)


def test_a_model_without_a_name_has_no_origin():
    assert base_origin(nn.Linear(2, 2)) == BaseOrigin("", None, False)
    assert base_name(named("a\x1b[2Jb")) == ""
    assert base_name(named(None)) == ""


@pytest.mark.parametrize(
    ("description", "origin"),
    [
        ({"base_model": "OWNER/model"}, BaseOrigin("OWNER/model", None, None)),
        (
            {"base_model": "OWNER/model", "base_revision": COMMIT, "base_is_local": False},
            BaseOrigin("OWNER/model", COMMIT, False),
        ),
        ({"base_model": "gpt2", "base_revision": None, "base_is_local": False}, BaseOrigin("gpt2", None, False)),
    ],
)
def test_what_was_recorded_is_read(description, origin, tmp_path):
    assert checked_origin(description, tmp_path) == origin


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"base_model": "outputs/model", "base_is_local": True}, "in the folder 'outputs/model', which is not here"),
        ({"base_model": "model", "base_is_local": True}, "in the folder 'model', which is not here, and is not looked"),
        # Of before format version 3, whose paths tell themselves.
        ({"base_model": "/home/someone/model"}, "in the folder '/home/someone/model', which is not here"),
        (
            {"base_model": "../model"},
            "which is not here, and is not looked for on the hub: put it there again, or load",
        ),
        ({"base_model": "a/b/c"}, "not looked for on the hub: put it there again, or load the base"),
        ({"base_model": ""}, "does not name its base model: load the base and call"),
        ({"base_model": None}, "does not name its base model"),
        ({"base_model": 3}, "base_model is 3, not a text"),
        ({"base_model": "OWNER/model", "base_revision": "main"}, "base_revision is 'main', not a commit"),
        ({"base_model": "OWNER/model", "base_revision": 3}, "base_revision is 3, not a commit"),
        ({"base_model": "OWNER/model", "base_revision": "../" * 14}, "base_revision is .*, not a commit"),
    ],
)
def test_what_cannot_be_loaded_is_refused_in_words(changes, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        checked_origin(changes, tmp_path)


def test_a_base_in_a_folder_that_went_is_not_asked_of_the_hub(make_llama, tmp_path, monkeypatch):
    transformers = pytest.importorskip("transformers")
    monkeypatch.chdir(tmp_path)
    make_llama().save_pretrained("outputs/model")
    PreferenceModel.from_pretrained("outputs/model", small_config()).save_pretrained("adapter")
    found = settings_of(tmp_path / "adapter")
    assert (found["base_model"], found["base_revision"], found["base_is_local"]) == ("outputs/model", None, True)
    assert PreferenceModel.from_pretrained("adapter").adapters
    (tmp_path / "outputs").rename(tmp_path / "elsewhere")
    asked = []
    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", lambda name, **options: asked.append(name))
    with pytest.raises(
        ValueError, match=r"adapter was trained on a base model in the folder 'outputs/model', which is"
    ):
        PreferenceModel.from_pretrained("adapter")
    assert asked == []
    assert PreferenceModel.load(make_llama(), "adapter").adapters


@pytest.mark.parametrize(("options", "expected"), [({}, COMMIT), ({"revision": "v2"}, "v2")])
def test_the_recorded_commit_is_loaded_unless_another_is_asked_for(
    options, expected, make_llama, tmp_path, monkeypatch
):
    base = make_llama()
    base.config._name_or_path = base.name_or_path = "OWNER/model"
    base.config._commit_hash = COMMIT
    PreferenceModel(base, small_config()).save_pretrained(tmp_path)
    found = settings_of(tmp_path)
    assert (found["base_model"], found["base_revision"], found["base_is_local"]) == ("OWNER/model", COMMIT, False)
    asked = []

    def load(name, options):
        asked.append((name, options))
        return make_llama()

    monkeypatch.setattr("mopref.conditioning.preference_model.load_base", load)
    PreferenceModel.from_pretrained(tmp_path, dtype=torch.float32, **options)
    assert asked == [("OWNER/model", {"dtype": torch.float32, "revision": expected})]
    change_settings(tmp_path, base_revision=None)
    PreferenceModel.from_pretrained(tmp_path)
    assert asked[1] == ("OWNER/model", {})
    assert (tmp_path / SETTINGS).is_file()

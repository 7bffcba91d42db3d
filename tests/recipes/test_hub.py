"""What goes to the hub is the adapter with its card; nothing is asked of it before all is checked."""

from types import SimpleNamespace

import huggingface_hub
import pytest
from _run_folders import write_run

from mopref.recipes import ModelSettings, RunFolderError, push_to_hub
from mopref.recipes.hub import upload


class FakeHub:
    """Stands for HfApi, and records what it is asked for."""

    calls: list

    def __init__(self, token=None):
        self.calls.append(("token", token))

    def create_repo(self, repo_id, *, private, exist_ok):
        self.calls.append(("create_repo", repo_id, private, exist_ok))
        return SimpleNamespace(repo_id=repo_id if "/" in repo_id else f"me/{repo_id}")

    def create_branch(self, repo_id, *, branch, exist_ok):
        self.calls.append(("create_branch", repo_id, branch, exist_ok))

    def upload_folder(self, *, repo_id, folder_path, allow_patterns, commit_message, revision):
        card = (folder_path / "README.md").read_text(encoding="utf-8")
        self.calls.append(("upload_folder", repo_id, folder_path, allow_patterns, revision, card))
        return SimpleNamespace(commit_url=f"hub/{repo_id}")


@pytest.fixture
def calls(monkeypatch):
    """What the hub is asked for."""
    hub = type("Hub", (FakeHub,), {"calls": []})
    monkeypatch.setattr(huggingface_hub, "HfApi", hub)
    return hub.calls


def test_the_adapter_goes_up_with_its_card_and_nothing_else(tmp_path, calls):
    folder = write_run(tmp_path / "run")
    (folder / "adapter" / "notes.txt").write_text("mine")
    (folder / "adapter" / "critic").mkdir()
    upload = push_to_hub(folder, "OWNER/name", token="secret")
    names = ["adapter_config.json", "adapter_model.safetensors", "README.md", "front.png"]
    assert upload == ("hub/OWNER/name", names)
    token, create, (what, repo_id, sent, patterns, revision, card) = calls
    assert token == ("token", "secret")
    assert create == ("create_repo", "OWNER/name", True, True)
    assert (what, repo_id, sent, patterns, revision) == (
        "upload_folder",
        "OWNER/name",
        folder / "adapter",
        names,
        None,
    )
    assert 'snapshot_download("OWNER/name")' in card


def test_the_patterns_take_those_files_alone(tmp_path):
    from huggingface_hub.utils import filter_repo_objects

    names = ["adapter_config.json", "adapter_model.safetensors", "README.md", "front.png"]
    others = ["critic/README.md", "notes.txt", "adapter_config.json.bak", ".writing-x/adapter_config.json"]
    assert list(filter_repo_objects([*names, *others], allow_patterns=names)) == names


def test_files_of_any_name_go_up_and_no_other_that_is_like_it(tmp_path, calls):
    from huggingface_hub.utils import filter_repo_objects

    (tmp_path / "README.md").write_text("")
    names = ["a[bc].gguf", "x=0.50,y=0.50/adapter_config.json", "w*.gguf"]
    sent = upload(tmp_path, names, "OWNER/name", "a message")
    assert sent == ("hub/OWNER/name", names)
    patterns = calls[-1][3]
    others = ["ab.gguf", "what.gguf", "adapter_config.json"]
    assert list(filter_repo_objects([*names, *others], allow_patterns=patterns)) == names
    assert calls[1] == ("create_repo", "OWNER/name", True, True)


def test_a_branch_is_made_and_a_repository_may_be_public(tmp_path, calls):
    push_to_hub(write_run(tmp_path / "run"), "name", private=False, revision="v2")
    assert calls[1] == ("create_repo", "name", False, True)
    assert calls[2] == ("create_branch", "me/name", "v2", True)
    assert (calls[3][1], calls[3][4]) == ("me/name", "v2")


def test_a_card_that_was_edited_goes_up_as_it_is(tmp_path, calls):
    folder = write_run(tmp_path / "run")
    (folder / "adapter" / "README.md").write_text("mine")
    with pytest.warns(UserWarning, match="was edited"):
        push_to_hub(folder, "OWNER/name")
    assert calls[-1][-1] == "mine"


def test_what_cannot_be_is_refused_before_anything_is_asked_or_written(tmp_path, calls):
    folder = write_run(tmp_path / "run")
    for name in ("a b/c", "a/b/c", "", "a--b/c", "-a/b"):
        with pytest.raises(ValueError, match=r"^repo_id is '.*', which no repository of the hub is called .*OWNER"):
            push_to_hub(folder, name)
    with pytest.raises(RunFolderError, match="holds no run"):
        push_to_hub(tmp_path, "OWNER/name")
    tensors = folder / "adapter" / "adapter_model.safetensors"
    whole = tensors.read_bytes()
    tensors.write_bytes(whole[:-1])
    with pytest.raises(RunFolderError, match=r"adapter_model.safetensors cannot be read"):
        push_to_hub(folder, "OWNER/name")
    tensors.unlink()
    with pytest.raises(RunFolderError, match="is not finished: it has no adapter to upload"):
        push_to_hub(folder, "OWNER/name")
    assert calls == []
    assert [path.name for path in (folder / "adapter").iterdir()] == ["adapter_config.json"]


def test_a_base_of_this_machine_is_told_before_it_goes_up(tmp_path, calls):
    folder = write_run(tmp_path / "run", model=ModelSettings(name="/home/me/model"))
    path = folder / "adapter" / "adapter_config.json"
    path.write_text(path.read_text().replace("OWNER/model", "/home/me/model"))
    with pytest.warns(UserWarning, match=r"the base model is the folder /home/me/model, whose path goes up"):
        push_to_hub(folder, "OWNER/name")


def test_what_the_hub_refuses_is_told_in_a_sentence(tmp_path, calls, monkeypatch):
    from huggingface_hub.errors import LocalTokenNotFoundError

    def refuse(*arguments, **options):
        raise LocalTokenNotFoundError("Token is required.\nMore.")

    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", refuse)
    with pytest.raises(ValueError, match=r"^the hub does not take OWNER/name \(Token is required\): log in with `hf"):
        push_to_hub(write_run(tmp_path / "run"), "OWNER/name")


def sealed_run(tmp_path):
    """A run with an adapter that a model saved."""
    import torch
    from torch import nn

    from mopref import PreferenceModel, SVDLoRAConfig

    folder = write_run(tmp_path / "run")
    for path in (folder / "adapter").iterdir():
        path.unlink()
    torch.manual_seed(0)
    base = nn.Sequential(nn.Linear(3, 2))
    base.name_or_path = "OWNER/model"
    model = PreferenceModel(base, SVDLoRAConfig(("helpful", "harmless"), rank=2))
    model.save_pretrained(folder / "adapter")
    return folder, model


def test_tensors_that_are_not_those_that_were_written_do_not_go_up(tmp_path, calls):
    folder, _ = sealed_run(tmp_path)
    path = folder / "adapter" / "adapter_model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(RunFolderError, match=r"is not as it was written \(SHA-256\): the run's folder is damaged"):
        push_to_hub(folder, "OWNER/name")
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(RunFolderError, match=r"is a link to /dev/zero, which is not in that folder"):
        push_to_hub(folder, "OWNER/name")
    assert calls == []


def test_what_a_killed_save_left_aside_goes_up(tmp_path, calls):
    import shutil

    folder, model = sealed_run(tmp_path)
    model.adapters["0"].U.data.add_(1)
    model.save_pretrained(tmp_path / "newer")
    shutil.copytree(tmp_path / "newer", folder / "adapter" / ".pending")
    push_to_hub(folder, "OWNER/name")
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        assert (folder / "adapter" / name).read_bytes() == (tmp_path / "newer" / name).read_bytes()
    assert not (folder / "adapter" / ".pending").exists()


@pytest.mark.parametrize("name", ["README.md", "front.png", "adapter_config.json"])
def test_a_file_from_elsewhere_does_not_go_up(name, tmp_path, calls):
    folder, secret = write_run(tmp_path / "run"), tmp_path / "secret"
    path = folder / "adapter" / name
    secret.write_bytes(path.read_bytes() if path.exists() else b"secret")
    path.unlink(missing_ok=True)
    path.symlink_to(secret)
    with pytest.raises(RunFolderError, match=rf"{name} is a link to .*secret, which is not in that folder"):
        push_to_hub(folder, "OWNER/name")
    assert calls == []

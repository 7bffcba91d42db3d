"""A model card says what its run tells, its code runs, and one that was edited is not lost."""

import json
import os
import re
import shutil

import pytest
import torch
from _run_folders import HOSTILE, NAMES, write_run
from huggingface_hub import ModelCard

from mopref import Front, PreferenceModel
from mopref.recipes import (
    DataSettings,
    EvaluationSettings,
    ModelSettings,
    MonitoringSettings,
    PartSettings,
    RunFolderError,
    model_card,
    write_model_card,
)
from mopref.recipes.model_card import is_own_card


def code_of(card):
    return re.search(r"```python\n(.*?)```", card, re.DOTALL)[1]


def test_the_front_matter_says_what_is_known(tmp_path):
    data = ModelCard(model_card(write_run(tmp_path / "run"))).data.to_dict()
    assert data == {
        "base_model": "OWNER/model",
        "base_model_relation": "adapter",
        "datasets": ["OWNER/pairs"],
        "library_name": "mopref",
        "tags": ["mopref", "multi-objective", "pareto-front", "preference-conditioned", "dpo"],
    }


def test_what_is_no_hubs_is_not_in_the_front_matter(tmp_path):
    sections = {"model": ModelSettings(name="/home/me/model"), "data": DataSettings(source="/home/me/pairs.jsonl")}
    card = model_card(write_run(tmp_path / "run", **sections))
    assert set(ModelCard(card).data.to_dict()) == {"library_name", "tags"}
    assert "/home" not in card
    assert str(tmp_path) not in card
    assert "license" not in card


@pytest.mark.parametrize("count", [2, 3, 5])
def test_the_table_holds_the_front_with_intervals(count, tmp_path):
    card = model_card(write_run(tmp_path / "run", count))
    front = Front.load(tmp_path / "run" / "front.json")
    rows = [line for line in card.splitlines() if line.startswith("|")]
    assert len(rows) == 2 + len(front) + 1
    low, high = front.extra["helpful_low"][0], front.extra["helpful_high"][0]
    assert f"{front.values[0, 0]:.4f} [{low:.4f}, {high:.4f}]" in rows[2]
    assert "![What the model reaches at each λ, on held-out data](front.png)" in card
    assert all(name in card for name in NAMES[:count])
    assert "90 % interval" in card
    assert "on 12 held-out rows on 13 prompts" in card
    assert "2402.02030" in card


def test_answers_prompts_and_machine_stay_out(tmp_path):
    card = model_card(write_run(tmp_path / "run"))
    assert not any(text in card for text in HOSTILE)
    assert "a machine" not in card
    # A reason of the loader's holds markup, which is escaped.
    assert "<i>" not in card
    assert r"\<i\>empty" in card


def test_hostile_names_stay_text(tmp_path):
    folder = write_run(tmp_path / "run", front=False)
    name = "<b>`x`|``` {{ y }}"
    text = (folder / "recipe.yaml").read_text().replace("- helpful", f"- {json.dumps(name)}")
    (folder / "recipe.yaml").write_text(text)
    card = model_card(folder)
    assert "{{ y }}" in card
    assert card.count("```") == 6
    assert "<b>" not in re.sub(r"(?s)```.*?```", "", card)


def test_the_code_of_a_local_base_runs(trained, tmp_path, capsys, monkeypatch):
    card = model_card(trained.folder)
    monkeypatch.chdir(trained.folder)
    code = code_of(card).replace('base = "…"', f"base = {trained.recipe.model.name!r}")
    code = code.replace("How do I sleep better?", "red cat")
    exec(compile(code, "card", "exec"), {})
    from mopref.llm.policy import answer_prompts

    preference = torch.tensor([0.7, 0.3])
    (answer,) = answer_prompts(trained.model, trained.tokenizer, ["red cat"], preference, max_new_tokens=64)
    assert capsys.readouterr().out.splitlines()[-1] == answer.text.splitlines()[-1]


def test_the_code_of_a_hubs_base_runs(trained, tmp_path, capsys, monkeypatch):
    """With a folder in place of the hub: what the card calls is what the libraries take."""
    import huggingface_hub
    import transformers

    model = trained.recipe.model.name
    folder = tmp_path / "run"
    shutil.copytree(trained.folder, folder)
    recipe = (folder / "recipe.yaml").read_text().replace(model, "OWNER/model")
    (folder / "recipe.yaml").write_text(recipe.replace("revision: null", "revision: v2"))
    card = model_card(folder, repo_id="OWNER/adapter")
    asked = []

    def on_hub(load):
        def from_pretrained(name, **options):
            asked.append((name, options.pop("revision", None)))
            return load(model, **options)

        return from_pretrained

    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name: asked.append(name) or folder / "adapter")
    for kind in ("AutoTokenizer", "AutoModelForCausalLM"):
        loader = getattr(transformers, kind)
        monkeypatch.setattr(loader, "from_pretrained", on_hub(loader.from_pretrained))
    monkeypatch.setattr("mopref.conditioning.base_loading.auto_class", lambda *_: transformers.AutoModelForCausalLM)
    exec(compile(code_of(card).replace("How do I sleep better?", "red cat"), "card", "exec"), {})
    assert asked[0] == "OWNER/adapter"
    assert [revision for _, revision in asked[1:]] == ["v2", "v2"]
    assert asked[2][0] == "OWNER/model"
    assert capsys.readouterr().out


def test_an_adapter_folder_with_a_card_is_loaded_and_saved(trained, tmp_path):
    from transformers import AutoModelForCausalLM

    folder = tmp_path / "run"
    shutil.copytree(trained.folder, folder)
    path = write_model_card(folder)
    assert path == folder / "adapter" / "README.md"
    assert (path.parent / "front.png").read_bytes() == (folder / "front.png").read_bytes()
    before = path.read_bytes()
    base = AutoModelForCausalLM.from_pretrained(trained.recipe.model.name)
    model = PreferenceModel.load(base, path.parent)
    model.save_pretrained(path.parent)
    assert path.read_bytes() == before
    assert {entry.name for entry in path.parent.iterdir()} == {
        "README.md",
        "front.png",
        "adapter_config.json",
        "adapter_model.safetensors",
    }


def test_a_card_is_written_anew_unless_it_was_edited(tmp_path):
    folder = write_run(tmp_path / "run")
    path = write_model_card(folder)
    assert is_own_card(path.read_text(encoding="utf-8"))
    assert path.read_text(encoding="utf-8") == model_card(folder)
    write_model_card(folder, repo_id="OWNER/adapter")
    assert 'snapshot_download("OWNER/adapter")' in path.read_text(encoding="utf-8")
    for edited in (path.read_text(encoding="utf-8").replace("# Data", "# My data"), "mine", ""):
        path.write_text(edited, encoding="utf-8")
        with pytest.warns(UserWarning, match=r"README\.md was edited, or is not of mopref, and stays as it is"):
            write_model_card(folder)
        assert path.read_text(encoding="utf-8") == edited


def test_a_run_without_a_front_says_so(tmp_path):
    card = model_card(write_run(tmp_path / "run", front=False))
    assert "No front was measured when this card was written." in card
    assert "Nothing was measured of this model yet." in card
    assert "front.png" not in card
    write_model_card(tmp_path / "run")
    assert not (tmp_path / "run" / "adapter" / "front.png").exists()


def test_an_unfinished_run_has_no_card(tmp_path):
    folder = write_run(tmp_path / "run")
    (folder / "adapter" / "adapter_config.json").unlink()
    for write in (model_card, write_model_card):
        with pytest.raises(RunFolderError, match="is not finished: it has no adapter to describe"):
            write(folder)
    assert not (folder / "adapter" / "README.md").exists()


def test_what_lambda_means_follows_the_convention(tmp_path):
    folder = write_run(tmp_path / "run", front=False, scalarizer=PartSettings("pbi", {"convention": "ray"}))
    description = json.loads((folder / "adapter" / "adapter_config.json").read_text())
    (folder / "adapter" / "adapter_config.json").write_text(json.dumps({**description, "preference_convention": "ray"}))
    assert "LARGER loss of objective i" in model_card(folder)


def test_a_card_says_what_columns_mean_and_that_its_adapter_was_chosen(tmp_path):
    plain = model_card(write_run(tmp_path / "plain"))
    assert "The front was measured once, on 12 held-out rows" in plain
    assert "was chosen" not in plain
    assert "* **kl**: KL divergence from the base model, in nats" in plain
    folder = write_run(tmp_path / "run", monitoring=MonitoringSettings(evaluation_every=2, keep_best=True))
    (folder / "versions.json").write_text(json.dumps({"python": "3.11", "steps": 4, "adapter_step": 2}))
    card = model_card(folder)
    assert "* **Adapter**: of step 2 of the 4 that were trained, at which the held-out hypervolume was largest" in card
    assert "measured once" not in card
    assert "The adapter was chosen among those of several steps (monitoring.keep" in card
    assert card.count("was chosen") == 1


def test_a_judges_folder_stays_out_of_a_card(tmp_path):
    judges = {"helpful": PartSettings("classifier", {"model": "/home/me/judge"})}
    folder = write_run(tmp_path / "run", evaluation=EvaluationSettings(judges=judges))
    front = Front.load(folder / "front.json")
    front.extra["win_rate_helpful"] = front.values[:, 0]
    front.save(folder / "front.json")
    card = model_card(folder)
    assert "the judge classifier (model = judge)" in card
    assert "/home" not in card


def test_an_outdated_front_is_told(tmp_path):
    folder = write_run(tmp_path / "run")
    front = Front.load(folder / "front.json")
    front.metadata["step"] = 2
    front.save(folder / "front.json")
    assert "is outdated" not in model_card(folder)
    (folder / "versions.json").write_text(json.dumps({"steps": 4, "adapter_step": 4}))
    assert "The front was measured at step 2, and the adapter is of step 4: it is outdated." in model_card(folder)


def test_the_tokenizer_is_of_the_commit_that_the_adapter_records(tmp_path):
    commit = "0123456789abcdef0123456789abcdef01234567"
    folder = write_run(tmp_path / "run")
    path = folder / "adapter" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"base_revision": commit}))
    code = code_of(model_card(folder))
    assert f'tokenizer = AutoTokenizer.from_pretrained(base, revision="{commit}")' in code
    assert "model = PreferenceModel.from_pretrained(folder)" in code


@pytest.mark.parametrize("kind", ["a link", "a pipe"])
def test_a_picture_from_elsewhere_is_not_taken_for_the_runs(kind, tmp_path):
    """It would go up to the hub with the card."""
    folder, secret = write_run(tmp_path / "run"), tmp_path / "secret"
    secret.write_text("a key")
    (folder / "front.png").unlink()
    if kind == "a link":
        (folder / "front.png").symlink_to(secret)
    else:
        os.mkfifo(folder / "front.png")
    with pytest.raises(RunFolderError, match=r"front\.png is (a link to .*secret|no plain file).*folder is damaged"):
        write_model_card(folder)
    assert not (folder / "adapter" / "front.png").exists()

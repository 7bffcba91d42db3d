"""Exports: in stock PEFT and transformers each is the model at λ, cards' code runs, and what fails leaves nothing."""

import copy
import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
import torch
from _run_folders import write_run
from huggingface_hub import ModelCard

from mopref import PreferenceModel, SVDLoRAConfig
from mopref.recipes import RecipeError, RunFolderError
from mopref.serving import Export, export, objectives_of, request_scales
from mopref.serving.exporting import _grid

TOKENS = torch.tensor([[3, 6, 8, 10], [5, 5, 7, 4]])
FORMS = ("lora", "lora-grid", "lora-set", "gguf", "merged")
WHICH = {"lora": {"preferences": [0.7, 0.3]}, "lora-grid": {"points": 3}, "merged": {"preferences": [0.7, 0.3]}}


def names_in(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@torch.no_grad()
def logits(model, **options):
    return model.eval()(input_ids=TOKENS, **options).logits


@pytest.fixture(scope="module")
def run(trained, tmp_path_factory):
    """The trained run, with adapters that change a lot."""
    folder = tmp_path_factory.mktemp("export") / "run"
    shutil.copytree(trained.folder, folder)
    model = copy.deepcopy(trained.model)
    with torch.no_grad():
        generator = torch.Generator().manual_seed(0)
        for layer in model.adapters.values():
            layer.U.copy_(0.3 * torch.randn(layer.U.shape, generator=generator))
    model.save_pretrained(folder / "adapter")
    return SimpleNamespace(folder=folder, model=model.eval(), base=trained.recipe.model.name)


def executed(card, base):
    """The names that the code of a card makes, with the base in the place that the card leaves open."""
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    names = {}
    exec(compile(code.replace('base = "…"', f"base = {base!r}"), "card", "exec"), names)
    return names


@pytest.mark.parametrize("source", ["run", "adapter"])
@pytest.mark.parametrize("form", ["lora", "lora-grid", "lora-set", "merged"])
def test_the_cards_code_gives_the_model_at_its_preference(form, source, run, tmp_path, monkeypatch):
    """The code that a reader copies, in stock PEFT and transformers."""
    which = {**WHICH, "lora-grid": {"preferences": [[0.25, 0.75], [1, 0]]}}.get(form, {})
    folder = run.folder if source == "run" else run.folder / "adapter"
    exported = export(folder, tmp_path / "out", form, **which)
    assert exported == Export(tmp_path / "out", names_in(tmp_path / "out"), None)
    monkeypatch.chdir(exported.folder)
    model = executed((exported.folder / "README.md").read_text(encoding="utf-8"), run.base)["model"]
    preference = [0.25, 0.75] if form == "lora-grid" else [0.7, 0.3]
    expected = logits(run.model, preferences=preference)
    assert (expected - logits(run.model, preferences=[1, 0])).abs().max() > 0.1
    torch.testing.assert_close(logits(model), expected, atol=1e-5, rtol=1e-5)


@pytest.fixture
def curved(run, randomise, tmp_path):
    """A model with a gate of all layers, and the folder of its adapter, on the run's base."""
    from transformers import AutoModelForCausalLM

    config = SVDLoRAConfig(("helpful", "harmless"), rank=2, preference_rank=2, gate="shared-mlp")
    model = randomise(PreferenceModel(AutoModelForCausalLM.from_pretrained(run.base), config)).eval()
    model.save_pretrained(tmp_path / "adapter")
    return model


def test_the_cards_code_gives_the_model_of_a_gate_of_all_layers(curved, run, tmp_path, monkeypatch):
    exported = export(tmp_path / "adapter", tmp_path / "out", "lora-set")
    directions = [f"direction-{number}" for number in range(1, 7)]
    assert {name.partition("/")[0] for name in exported.files} == {
        *("README.md", "scales.json", "shared", "helpful", "harmless"),
        *directions,
    }
    monkeypatch.chdir(exported.folder)
    model = executed((exported.folder / "README.md").read_text(encoding="utf-8"), run.base)["model"]
    expected = logits(curved, preferences=[0.7, 0.3])
    torch.testing.assert_close(logits(model), expected, atol=1e-4, rtol=1e-4)
    straight = ["lora_shared", "lora_helpful", "lora_harmless"]
    model.add_weighted_adapter(straight, [1.0, 0.7, 0.3], "straight", combination_type="cat")
    model.set_adapter("straight")
    assert (logits(model) - expected).abs().max() > 0.1, "the directions matter"


def test_the_body_of_a_card_is_the_request_of_a_gate_of_all_layers(curved, tmp_path):
    exported = export(tmp_path / "adapter", tmp_path / "out", "gguf")
    card = (exported.folder / "README.md").read_text(encoding="utf-8")
    (body,) = re.findall(r"-d '(\{.*\})'", card)
    expected = request_scales([0.7, 0.3], scales=exported.folder)
    assert json.loads(body)["lora"] == [
        entry | {"scale": pytest.approx(entry["scale"], rel=1e-6)} for entry in expected
    ]
    (files,) = re.findall(r"--lora (\S+) --lora-init-without-apply", card)
    assert set(files.split(",")) == {name for name in exported.files if name.endswith(".gguf")}
    assert len(expected) == len(files.split(",")) == 9


@pytest.mark.parametrize("form", ["lora-set", "gguf"])
def test_a_gate_of_each_layer_is_refused_before_a_file_is_written(form, make_llama, tmp_path):
    folder = saved_adapter(tmp_path, make_llama(), gate="layer-mlp")
    with pytest.raises(ValueError, match="gate is 'layer-mlp', so that each layer follows λ by a network of its own"):
        export(folder, tmp_path / "out", form)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter", "base"]


def test_every_point_of_a_grid_is_the_model_there_in_a_folder_of_its_name(run, tmp_path):
    peft = pytest.importorskip("peft")
    from transformers import AutoModelForCausalLM

    export(run.folder, tmp_path / "out", "lora-grid", points=4)
    folders = sorted(path.name for path in (tmp_path / "out").iterdir() if path.is_dir())
    assert folders == [
        f"helpful={a},harmless={b}" for a, b in (("0.00", "1.00"), ("0.33", "0.67"), ("0.67", "0.33"), ("1.00", "0.00"))
    ]
    for place, folder in enumerate(folders):
        served = peft.PeftModel.from_pretrained(
            AutoModelForCausalLM.from_pretrained(run.base), tmp_path / "out" / folder
        )
        expected = logits(run.model, preferences=[place / 3, 1 - place / 3])
        torch.testing.assert_close(logits(served), expected, atol=1e-5, rtol=1e-5)


def test_names_of_a_grid_have_digits_enough_to_differ(run, tmp_path):
    close = [[0.501, 0.499], [0.5, 0.5]]
    exported = export(run.folder, tmp_path / "out", "lora-grid", close)
    assert {name.partition("/")[0] for name in exported.files if "/" in name} == {
        "helpful=0.501,harmless=0.499",
        "helpful=0.500,harmless=0.500",
    }
    with pytest.raises(ValueError, match="hold the same one twice"):
        export(run.folder, tmp_path / "twice", "lora-grid", [[0.5, 0.5], [0.5, 0.5]])


def test_a_gguf_set_has_its_files_and_a_card_with_the_servers_line(run, tmp_path):
    exported = export(run.folder, tmp_path / "out", "gguf")
    assert exported.files == ["README.md", "front.png", "harmless.gguf", "helpful.gguf", "scales.json", "shared.gguf"]
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "--lora shared.gguf,helpful.gguf,harmless.gguf --lora-init-without-apply" in card
    (body,) = re.findall(r"-d '(\{.*\})'", card)
    scales = [{"id": 0, "scale": 1.0}, {"id": 1, "scale": 0.7}, {"id": 2, "scale": 0.3}]
    assert json.loads(body)["lora"] == scales
    assert "gguf" in ModelCard(card).data.tags


def test_an_adapter_alone_is_exported_with_what_its_description_says(run, tmp_path):
    assert objectives_of(run.folder) == objectives_of(run.folder / "adapter") == ("helpful", "harmless")
    exported = export(run.folder / "adapter", tmp_path / "out", preferences={"harmless": 0.3, "helpful": 0.7})
    assert exported.files == ["README.md", "adapter_config.json", "adapter_model.safetensors"]
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "exported without its run" in card
    assert str(run.base) not in card


@pytest.mark.parametrize("form", FORMS)
def test_what_fails_half_way_leaves_nothing(form, run, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    # The card comes last: all else has been written.
    monkeypatch.setattr("mopref.serving.exporting.write_atomically", full)
    with pytest.raises(
        OSError, match=r"out could not be written \(No space left on device\), and nothing is left"
    ) as told:
        export(run.folder, tmp_path / "out", form, **WHICH.get(form, {}))
    assert told.value.errno == 28
    assert not list(tmp_path.iterdir())


def test_a_grid_whose_folders_no_disk_has_is_refused_before_it_is_written(tmp_path):
    names = tuple(letter * 60 for letter in "abcde")
    with pytest.raises(ValueError, match=r"has more than 255 bytes: export each λ by itself as a lora"):
        _grid("lora-grid", names, torch.eye(5))
    assert len(_grid("lora-grid", names[:3], torch.eye(3))) == 3


def test_a_disk_that_is_full_of_weights_is_told_too(run, tmp_path, monkeypatch):
    from safetensors import SafetensorError
    from transformers import PreTrainedModel

    def full(*_, **__):
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(PreTrainedModel, "save_pretrained", full)
    with pytest.raises(
        OSError, match=r"out could not be written \(I/O error: No space left.*, and nothing is left there"
    ):
        export(run.folder, tmp_path / "out", "merged", [0.5, 0.5])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"form": "onnx"}, "form is 'onnx'; there are lora, lora-grid"),
        ({"form": "lora-sets"}, "did you mean lora-set"),
        ({}, "preferences are missing: a lora is fixed at what they say, so give one, or export a lora-set"),
        ({"form": "lora-grid"}, "preferences are missing.*or points"),
        ({"preferences": [[1, 0], [0, 1]]}, "2 preferences are given, and a lora is fixed at one: export a lora-grid"),
        (
            {"form": "gguf", "dequantize": True},
            "dequantize is True: a gguf holds no weights of the base, so leave it out",
        ),
        ({"form": "gguf", "preferences": [1, 0]}, "a gguf holds all of them: leave them out"),
        ({"points": 3}, "points is 3: they are for a lora-grid"),
        ({"form": "lora-grid", "points": 3, "preferences": [1, 0]}, "in place of preferences"),
        ({"form": "lora-grid", "points": 1}, "1"),
        ({"preferences": [0.7, 0.7]}, "sum"),
        ({"preferences": [1.5, -0.5]}, "negative"),
        ({"preferences": {"helpful": 0.5, "brief": 0.5}}, "brief"),
        ({"preferences": [1, 0], "licence": "MIT\nmine"}, "licence is .*: give the hub's name of one"),
        ({"preferences": [1, 0], "push_to": "a b"}, "no repository of the hub"),
        ({"preferences": [1, 0], "revision": "v2"}, "revision is 'v2', and nothing is uploaded: give push_to"),
        ({"preferences": [1, 0], "private": False}, "private is False, and nothing is uploaded"),
    ],
)
def test_what_cannot_be_is_refused_before_a_model_is_loaded(options, message, run, tmp_path, monkeypatch):
    monkeypatch.setattr("mopref.serving.exporting._opened", None)
    with pytest.raises(ValueError, match=message):
        export(run.folder, tmp_path / "out", **options)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_taken_or_no_run_is_refused(run, tmp_path, monkeypatch):
    monkeypatch.setattr("mopref.serving.exporting._opened", None)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("")
    with pytest.raises(RecipeError, match="holds files already: choose another folder"):
        export(run.folder, tmp_path / "out", preferences=[1, 0])
    with pytest.raises(RunFolderError, match="holds neither a run nor an adapter"):
        export(tmp_path / "out", tmp_path / "new", preferences=[1, 0])
    unfinished = write_run(tmp_path / "unfinished")
    (unfinished / "adapter" / "adapter_config.json").unlink()
    with pytest.raises(RunFolderError, match="is not finished"):
        export(unfinished, tmp_path / "new", preferences=[1, 0])
    assert not (tmp_path / "new").exists()


def saved_adapter(folder, base, **options):
    """An adapter folder whose base is a folder beside it."""
    base.save_pretrained(folder / "base")
    from transformers import AutoModelForCausalLM

    loaded = AutoModelForCausalLM.from_pretrained(folder / "base")
    PreferenceModel(loaded, SVDLoRAConfig(("helpful", "harmless"), rank=2, **options)).save_pretrained(
        folder / "adapter"
    )
    return folder / "adapter"


@pytest.mark.parametrize("form", ["lora", "lora-grid", "lora-set"])
@pytest.mark.filterwarnings("ignore:.*experts of a mixture:UserWarning", "ignore:.*without an adapter")
def test_loras_that_stock_peft_would_misread_are_refused_before_a_file_is_written(form, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "families"))
    from tiny_models import tiny_model

    folder = saved_adapter(tmp_path, tiny_model("glm4_moe"))
    monkeypatch.setattr("mopref.serving.exporting._whole", None)
    with pytest.raises(ValueError, match=r"a LoRA of .*gate_proj .*would be lost: .* by target_modules"):
        export(folder, tmp_path / "out", form, **WHICH.get(form, {}))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter", "base"]


def test_a_family_that_llama_cpp_has_otherwise_is_refused_before_a_file_is_written(make_gpt2, tmp_path):
    folder = saved_adapter(tmp_path, make_gpt2())
    with pytest.raises(ValueError, match="the base is a gpt2"):
        export(folder, tmp_path / "out", "gguf")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter", "base"]


def test_a_base_that_is_gone_is_told(make_llama, tmp_path):
    folder = saved_adapter(tmp_path, make_llama())
    (tmp_path / "base" / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="base"):
        export(folder, tmp_path / "out", preferences=[1, 0])
    assert not (tmp_path / "out").exists()


# The hub.


class FakeHub:
    """Stands for HfApi, and records what it is asked for."""

    def __init__(self, calls):
        self.calls = calls

    def __call__(self, token=None):
        return self

    def create_repo(self, repo_id, *, private, exist_ok):
        self.calls.append(("create_repo", repo_id, private))
        return SimpleNamespace(repo_id=repo_id)

    def create_branch(self, repo_id, *, branch, exist_ok):
        self.calls.append(("create_branch", branch))

    def upload_folder(self, *, repo_id, folder_path, allow_patterns, commit_message, revision):
        from huggingface_hub.utils import filter_repo_objects

        taken = sorted(filter_repo_objects(names_in(folder_path), allow_patterns=allow_patterns))
        self.calls.append(("upload_folder", repo_id, taken, revision))
        return SimpleNamespace(commit_url=f"hub/{repo_id}")


@pytest.fixture
def calls(monkeypatch):
    calls = []
    monkeypatch.setattr(huggingface_hub, "HfApi", FakeHub(calls))
    return calls


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.filterwarnings("ignore:the base model is the folder")
def test_a_push_is_private_and_holds_what_was_written(form, run, tmp_path, calls):
    exported = export(run.folder, tmp_path / "out", form, **WHICH.get(form, {}), push_to="ME/model", licence="mit")
    assert exported.url == "hub/ME/model"
    assert calls == [("create_repo", "ME/model", True), ("upload_folder", "ME/model", exported.files, None)]
    assert exported.files == names_in(tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert ModelCard(card).data.license == "mit"
    assert form == "gguf" or 'folder = snapshot_download("ME/model")' in card


def test_a_push_may_be_public_and_on_a_branch_and_tells_a_local_base(run, tmp_path, calls):
    with pytest.warns(UserWarning, match="whose path goes up"):
        export(run.folder, tmp_path / "out", preferences=[1, 0], push_to="ME/model", private=False, revision="v2")
    assert calls[0] == ("create_repo", "ME/model", False)
    assert calls[1] == ("create_branch", "v2")
    assert calls[2][3] == "v2"


def test_nothing_is_pushed_unasked(run, tmp_path, calls):
    assert export(run.folder, tmp_path / "out", preferences=[1, 0]).url is None
    assert calls == []


def test_a_merged_model_and_gguf_files_hold_no_path_of_this_machine(run, tmp_path):
    for form in ("merged", "gguf"):
        exported = export(run.folder, tmp_path / form, form, **WHICH.get(form, {}))
        for name in exported.files:
            assert str(run.base).encode() not in (tmp_path / form / name).read_bytes(), name

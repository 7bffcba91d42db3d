"""What is not an older save of the same adapter is never replaced, and nothing is written before that is known."""

import copy
import json
import os
from pathlib import Path

import pytest
import torch
from _sealed_adapters import SETTINGS, WEIGHTS, change_settings
from conditioned_networks import conditioned, small_config
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from mopref import PreferenceModel, SVDLoRAConfig
from mopref.conditioning.adapter_description import FORMAT_VERSION
from mopref.conditioning.adapter_folder import checked_folder, model_weights

PREFERENCE = [0.3, 0.7]

SAVES = {
    "save_pretrained": lambda model, folder: model.save_pretrained(folder),
    "export_lora": lambda model, folder: model.export_lora(folder, PREFERENCE),
    "export_lora_set": lambda model, folder: model.export_lora_set(folder.parent),
}


def a_base() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 2))


@pytest.fixture
def model():
    return conditioned(a_base())


# As an objective is called, so that a set writes into it, last.
@pytest.fixture
def folder(tmp_path):
    return tmp_path / "b"


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_kept(model: PreferenceModel, folder: Path, message: str, saves=tuple(SAVES)) -> None:
    before = content(folder.parent)
    for name in saves:
        with pytest.raises(FileExistsError, match=message) as error:
            SAVES[name](model, folder)
        assert str(folder.parent) in str(error.value)
        assert "choose another" in str(error.value)
        assert content(folder.parent) == before, name
    if "save_pretrained" in saves:
        with pytest.raises(FileExistsError, match=message):
            model.check_folder(folder)


@pytest.mark.parametrize(
    "file",
    [
        "model.safetensors",
        "model-00001-of-00002.safetensors",
        "model.safetensors.index.json",
        "model.fp16.safetensors",
        "pytorch_model.bin",
        "pytorch_model.bin.index.json",
        "diffusion_pytorch_model.safetensors",
        "consolidated.00.pth",
    ],
)
def test_the_folder_of_a_base_model(file, model, folder):
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / file).write_bytes(b"weights")
    assert model_weights(folder) == file
    assert_kept(model, folder, rf"b holds the weights of a model \({file}\), in whose place")


def test_a_base_that_was_saved_is_loaded_as_before(make_llama, tmp_path):
    transformers = pytest.importorskip("transformers")
    make_llama().save_pretrained(tmp_path)
    model = PreferenceModel.from_pretrained(tmp_path, small_config())
    assert_kept(model, tmp_path, "holds the weights of a model", ("save_pretrained", "export_lora"))
    assert type(transformers.AutoModelForCausalLM.from_pretrained(tmp_path)).__name__ == "LlamaForCausalLM"


def test_an_adapter_beside_weights_is_not_replaced_either(model, folder):
    model.save_pretrained(folder)
    (folder / "model.safetensors").write_bytes(b"weights")
    assert_kept(model, folder, "holds the weights of a model")


def test_a_stock_lora(make_llama, folder):
    peft = pytest.importorskip("peft")
    stock = peft.get_peft_model(make_llama(), peft.LoraConfig(target_modules=["q_proj"]))
    stock.save_pretrained(folder)
    assert_kept(conditioned(make_llama()), folder, "holds an adapter that mopref did not write, which would be lost")


def test_an_export_that_was_trained_further_by_stock_peft(make_llama, folder):
    peft = pytest.importorskip("peft")
    model = conditioned(make_llama())
    model.export_lora(folder, PREFERENCE)
    peft.PeftModel.from_pretrained(make_llama(), folder, is_trainable=True).save_pretrained(folder)
    assert_kept(model, folder, "holds an adapter that mopref did not write")


@pytest.mark.parametrize("files", [(WEIGHTS,), ("adapter_model.bin",), (SETTINGS,), (SETTINGS, "adapter_model.bin")])
def test_parts_of_an_adapter_of_unknown_origin(files, model, folder):
    folder.mkdir()
    for name in files:
        (folder / name).write_text('{"peft_type": "LORA"}')
    assert_kept(model, folder, "holds an adapter that mopref did not write")


def test_an_adapter_of_another_method_beside_marked_tensors(model, folder):
    model.export_lora(folder, PREFERENCE)
    (folder / SETTINGS).write_text('{"peft_type": "VERA"}')
    assert_kept(model, folder, "holds an adapter that mopref did not write")


@pytest.mark.parametrize("damaged", ["{", "[" * 100_000, '{"peft_type": "MOPREF_SVD_LORA", "format_version": 6}'])
def test_an_adapter_that_cannot_be_read(damaged, model, folder):
    model.save_pretrained(folder)
    (folder / SETTINGS).write_text(damaged)
    assert_kept(model, folder, r"holds an adapter that cannot be read \(.*(is not valid JSON|format version 6)")


@pytest.mark.parametrize("field", ["objectives", "adapted_modules", "base_check"])
@pytest.mark.parametrize("value", [None, 3, [1]])
def test_an_adapter_whose_kind_cannot_be_read(field, value, model, folder):
    model.save_pretrained(folder)
    change_settings(folder, **{field: value})
    assert_kept(model, folder, rf"another training, .*\(it cannot be read: {field} is ", ("save_pretrained",))


@pytest.mark.parametrize("version", [None, FORMAT_VERSION + 1, "2"])
def test_loras_of_another_version_of_the_format(version, model, folder):
    model.export_lora(folder, PREFERENCE)
    with safe_open(folder / WEIGHTS, "pt") as file:
        mark = json.loads(file.metadata()["mopref"]) | {"format_version": version}
    save_file(load_file(folder / WEIGHTS), folder / WEIGHTS, metadata={"mopref": json.dumps(mark)})
    assert_kept(model, folder, rf"another training, .*it is of format version {version!r}", ("export_lora",))


def test_a_checkpoint(model, folder):
    folder.mkdir()
    for name in ("state.json", "state.safetensors"):
        (folder / name).write_bytes(b"{}")
    assert_kept(model, folder, "holds a checkpoint of a training")
    (folder / "state.safetensors").unlink()
    model.save_pretrained(folder)


def test_what_is_no_folder(model, folder):
    folder.write_text("notes")
    assert_kept(model, folder, r"b is no folder: choose another path, or delete it first\.")
    with pytest.raises(FileExistsError, match="b is no folder: choose another path"):
        model.save_pretrained(folder / "inside")
    assert folder.read_text() == "notes"
    link = folder.with_name("link")
    link.symlink_to("nowhere")
    with pytest.raises(FileExistsError, match="link is no folder"):
        model.save_pretrained(link)


def test_a_link_to_a_folder_is_that_folder(model, folder):
    folder.mkdir()
    link = folder.with_name("link")
    link.symlink_to(folder, target_is_directory=True)
    model.save_pretrained(f"{link}{os.sep}")
    assert content(folder).keys() == {SETTINGS, WEIGHTS}
    (folder / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(FileExistsError, match=r"link holds the weights of a model \(pytorch_model\.bin\)"):
        model.save_pretrained(link)


@pytest.mark.parametrize("folder", [None, 3, b"a", ["a"]])
def test_a_folder_is_a_path(folder, model):
    calls = (
        model.save_pretrained,
        model.check_folder,
        lambda path: model.export_lora(path, PREFERENCE),
        model.export_lora_set,
        lambda path: PreferenceModel.load(a_base(), path),
    )
    for call in calls:
        with pytest.raises(TypeError, match=r"^folder is .*: give the path of a folder"):
            call(folder)
    with pytest.raises(TypeError, match=r"^name_or_folder is .*: give the path of a folder"):
        PreferenceModel.from_pretrained(folder)


def test_an_empty_path_is_not_the_current_folder(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for call in (model.save_pretrained, lambda path: PreferenceModel.load(a_base(), path)):
        with pytest.raises(
            ValueError, match=r"folder is '', which names no folder: give its path, '\.' for the current"
        ):
            call("")
    with pytest.raises(ValueError, match="name_or_folder is ''"):
        PreferenceModel.from_pretrained("")
    assert not list(tmp_path.iterdir())
    model.save_pretrained(".")
    assert content(tmp_path).keys() == {SETTINGS, WEIGHTS}
    assert checked_folder(Path("a")) == checked_folder("a/") == Path("a")


# Adapters of ours.


def other_objectives():
    return PreferenceModel(a_base(), SVDLoRAConfig(("b", "a"), rank=2, preference_rank=2))


def other_layers():
    return conditioned(a_base(), target_modules=("1",))


def other_sizes():
    torch.manual_seed(0)
    return conditioned(nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 2)))


def other_base():
    base = a_base()
    with torch.no_grad():
        base[0].weight.mul_(2)
    return conditioned(base)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (other_objectives, "its objectives are b, a"),
        (other_layers, "it adapts other layers"),
        (other_sizes, "layers of other sizes"),
        (other_base, r"the weights of 0\.weight differ"),
    ],
)
def test_the_adapter_or_the_loras_of_another_training(make, message, model, tmp_path):
    for name in SAVES:
        folder = tmp_path / name / "b"
        SAVES[name](make(), folder)
        assert_kept(model, folder, rf"holds the (adapter|LoRAs) of another training, .*{message}", (name,))


def test_the_loras_of_one_adapter_do_not_replace_each_other_or_the_adapter(model, tmp_path):
    model.save_pretrained(tmp_path / "adapter" / "b")
    model.export_lora(tmp_path / "export" / "b", PREFERENCE)
    model.export_lora_set(tmp_path / "set")
    adapter = "b holds a mopref adapter, which the export would replace"
    assert_kept(model, tmp_path / "adapter" / "b", adapter, ("export_lora", "export_lora_set"))
    export = r"b holds a LoRA that mopref exported \(at one preference\), which would be lost"
    assert_kept(model, tmp_path / "export" / "b", export, ("save_pretrained", "export_lora_set"))
    of_set = r"b holds a LoRA that mopref exported \(of a set, b\), which would be lost"
    assert_kept(model, tmp_path / "set" / "b", of_set, ("save_pretrained", "export_lora"))


def test_more_training_and_another_preference_are_saved_into_the_same_folder(model, tmp_path):
    def save_all(preference):
        model.check_folder(tmp_path / "adapter")
        model.save_pretrained(tmp_path / "adapter")
        model.export_lora(tmp_path / "export", preference)
        model.export_lora_set(tmp_path / "set")
        return content(tmp_path)

    first = save_all([1, 0])
    with torch.no_grad():
        for layer in model.adapters.values():
            layer.U.mul_(2)
            layer.V.mul_(3)
            layer.sigma.mul_(2)
    second = save_all([0, 1])
    assert first.keys() == second.keys()
    changed = {name for name in first if first[name] != second[name]}
    # The description of an adapter has the checksum of its tensors.
    assert changed == {name for name in first if name.endswith(WEIGHTS)} | {f"adapter/{SETTINGS}"}
    loaded = PreferenceModel.load(a_base(), tmp_path / "adapter")
    loaded.save_pretrained(tmp_path / "adapter")
    assert content(tmp_path) == second


def test_the_same_base_in_half_precision_or_with_more_tokens_is_the_same(make_llama, tmp_path):
    model = conditioned(make_llama())
    model.save_pretrained(tmp_path / "adapter")
    model.export_lora(tmp_path / "lora", PREFERENCE)
    longer = make_llama()
    longer.resize_token_embeddings(128, mean_resizing=False)
    for base in (make_llama().bfloat16(), longer):
        other = PreferenceModel.load(base, tmp_path / "adapter")
        other.save_pretrained(tmp_path / "adapter")
        other.export_lora(tmp_path / "lora", PREFERENCE)


@pytest.mark.parametrize(
    "file", ["README.md", "config.json", "tokenizer.json", "events.log", "critic.safetensors", "adapter-f16.gguf"]
)
def test_other_files_stay(file, model, folder):
    folder.mkdir()
    (folder / file).write_text("{}")
    for save in (model.save_pretrained, model.save_pretrained):
        save(folder)
        assert (folder / file).read_text() == "{}"


def test_another_run_with_the_same_settings_replaces_the_adapter_of_the_first(model, folder):
    model.save_pretrained(folder)
    PreferenceModel(a_base(), small_config(seed=1)).save_pretrained(folder)
    assert PreferenceModel.load(a_base(), folder).adapter_config.seed == 1


# The mark of an export.


def test_the_mark_changes_nothing_for_readers_and_is_the_same_each_time(model, tmp_path):
    files = []
    for index in range(8):
        model.export_lora(tmp_path / str(index), PREFERENCE)
        files.append((tmp_path / str(index) / WEIGHTS).read_bytes())
    assert len(set(files)) == 1
    path = tmp_path / "0" / WEIGHTS
    assert int.from_bytes(files[0][:8], "little") % 8 == 0
    with safe_open(path, "pt") as file:
        assert file.metadata().keys() == {"format", "mopref"}
        assert file.metadata()["format"] == "pt"
    layer = model.adapters["0"]
    torch.testing.assert_close(load_file(path)["base_model.model.0.lora_A.weight"], layer.V.T.detach())


@pytest.mark.parametrize("mark", ["[]", "{", "{}", '{"exported": "at one preference"}', '{"exported": 3}'])
def test_a_mark_that_says_something_else_is_no_mark(mark, model, folder):
    model.export_lora(folder, PREFERENCE)
    save_file(load_file(folder / WEIGHTS), folder / WEIGHTS, metadata={"mopref": mark})
    assert_kept(model, folder, r"b holds (an|the|a LoRA)", ("save_pretrained", "export_lora"))


def test_a_set_is_written_whole_or_not_at_all(model, tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "model.safetensors").write_bytes(b"")
    with pytest.raises(FileExistsError, match="b holds the weights of a model"):
        model.export_lora_set(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"b"}
    other = copy.deepcopy(model)
    with torch.no_grad():
        for layer in other.adapters.values():
            layer.U[:, -1] = float("nan")
    with pytest.raises(ValueError, match="cannot be exported"):
        other.export_lora_set(tmp_path / "set")
    assert not (tmp_path / "set").exists()


def test_a_folder_that_cannot_be_shown_is_refused_as_any_other():
    deep: list = []
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(TypeError, match=r"folder is .*, a list: give the path of a folder"):
        checked_folder(deep)

"""Saving, loading, merging and exporting: one set of weights, whatever serves it; bad folders are refused untouched."""

import copy
import json
import shutil
import warnings
from pathlib import Path

import pytest
import torch
from _sealed_adapters import SETTINGS, WEIGHTS, change_tensors, settings_of, write_settings
from torch import nn

from mopref import PreferenceModel, SVDLoRAConfig

CONFIG = SVDLoRAConfig(objectives=("helpful", "harmless"), rank=4, preference_rank=2, scaling=0.7)


@pytest.fixture
def base(make_lm):
    return make_lm()


@pytest.fixture
def model(base, randomise):
    return randomise(PreferenceModel(copy.deepcopy(base), CONFIG)).eval()


@torch.no_grad()
def logits(model: nn.Module, tokens: torch.Tensor, preference: torch.Tensor | None = None) -> torch.Tensor:
    return (model(tokens) if preference is None else model(tokens, preferences=preference)).logits


def assert_unchanged(module: nn.Module, before: dict[str, torch.Tensor]) -> None:
    after = module.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)


def snapshot(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def test_merged_exported_and_conditioned_agree(base, model, five_preferences, token_batch, tmp_path):
    """One λ, three ways: adapters, merged weights, a plain LoRA in stock PEFT; corners included."""
    peft = pytest.importorskip("peft")
    plain = logits(base, token_batch)
    for index, preference in enumerate(five_preferences):
        conditioned = logits(model, token_batch, preference)
        assert (conditioned - plain).abs().max() > 0.5
        torch.testing.assert_close(
            logits(model.merge(preference), token_batch), conditioned, atol=1e-4, rtol=1e-4, msg=f"merged, λ {index}"
        )
        folder = tmp_path / f"lora-{index}"
        model.export_lora(folder, preference=preference)
        stock = peft.PeftModel.from_pretrained(copy.deepcopy(base), folder).eval()
        torch.testing.assert_close(logits(stock, token_batch), conditioned, atol=1e-4, rtol=1e-4)
        assert peft.PeftConfig.from_pretrained(folder).peft_type == "LORA"


def test_merge_is_a_plain_copy(base, model, five_preferences, token_batch, tmp_path):
    merged = model.merge(five_preferences[1])
    assert type(merged) is type(base)
    assert merged.state_dict().keys() == base.state_dict().keys()
    with model.disabled():
        assert torch.equal(logits(model, token_batch), logits(base, token_batch)), "merging must not touch the base"
    merged.save_pretrained(tmp_path)
    reloaded = type(base).from_pretrained(tmp_path)
    torch.testing.assert_close(
        logits(reloaded, token_batch), logits(model, token_batch, five_preferences[1]), atol=1e-4, rtol=1e-4
    )


def test_round_trip(base, model, five_preferences, token_batch, tmp_path):
    model.save_pretrained(tmp_path)
    assert {SETTINGS, WEIGHTS} <= {path.name for path in tmp_path.iterdir()}
    assert not [path for path in tmp_path.iterdir() if path.suffix in (".bin", ".pt", ".pkl")]
    loaded = PreferenceModel.load(copy.deepcopy(base), tmp_path).eval()
    for preference in five_preferences:
        assert torch.equal(logits(loaded, token_batch, preference), logits(model, token_batch, preference))
    assert {name for name, p in loaded.named_parameters() if p.requires_grad} == {
        name for name, p in model.named_parameters() if p.requires_grad
    }
    settings = json.loads((tmp_path / SETTINGS).read_text())
    assert settings["objectives"] == ["helpful", "harmless"]
    assert (settings["format_version"], settings["preference_convention"]) == (3, "importance")


def test_round_trip_of_a_plain_network(make_mlp, randomise, five_preferences, tmp_path):
    model = randomise(PreferenceModel(make_mlp(), CONFIG)).eval()
    x = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))
    model.save_pretrained(tmp_path)
    loaded = PreferenceModel.load(make_mlp(), tmp_path).eval()
    assert torch.equal(loaded(x, preferences=five_preferences), model(x, preferences=five_preferences))


def test_an_adapter_folder_knows_its_base(base, randomise, five_preferences, token_batch, tmp_path):
    base.save_pretrained(tmp_path / "base")
    model = randomise(PreferenceModel.from_pretrained(str(tmp_path / "base"), CONFIG)).eval()
    with model.disabled():
        assert torch.equal(logits(model, token_batch), logits(base, token_batch))
    model.save_pretrained(tmp_path / "adapter")
    again = PreferenceModel.from_pretrained(str(tmp_path / "adapter")).eval()
    assert torch.equal(logits(again, token_batch, five_preferences[1]), logits(model, token_batch, five_preferences[1]))


def test_stock_peft_refuses_our_adapter(base, model, tmp_path):
    """Under another method's type an adapter loads "successfully" and does nothing."""
    peft = pytest.importorskip("peft")
    model.save_pretrained(tmp_path)
    with pytest.raises(
        ValueError, match=r"mopref adapter \(MOPREF_SVD_LORA\), which PEFT cannot load: load it by mopref"
    ):
        peft.PeftModel.from_pretrained(copy.deepcopy(base), tmp_path)
    settings = json.loads((tmp_path / SETTINGS).read_text())
    assert settings["peft_type"] not in [kind.value for kind in peft.PeftType]


def test_a_tool_that_reads_the_settings_of_any_adapter_is_told(base, tmp_path):
    """AutoModel looks for adapters in the folder that it is given, and PEFT for a method of that name."""
    pytest.importorskip("peft")
    transformers = pytest.importorskip("transformers")
    base.save_pretrained(tmp_path / "base")
    PreferenceModel.from_pretrained(tmp_path / "base", CONFIG).save_pretrained(tmp_path / "adapter")
    assert json.loads((tmp_path / "adapter" / SETTINGS).read_text())["base_model_name_or_path"] == str(
        tmp_path / "base"
    )
    with pytest.raises(
        ValueError, match=r"holds a mopref adapter .* load it by mopref\.PreferenceModel\.from_pretrained"
    ):
        transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "adapter")


# What a preference says to an adapter.


def rewrite_settings(folder: Path, **changes) -> None:
    """Change fields of the settings; those that are ``None`` are taken out."""
    settings = settings_of(folder) | changes
    write_settings(
        folder, {name: value for name, value in settings.items() if value is not None or name not in changes}
    )


@pytest.mark.parametrize("convention", ["importance", "ray", "unrecorded"])
@pytest.mark.filterwarnings("ignore:.*LARGER:UserWarning")
def test_the_convention_travels_with_the_adapter(convention, base, model, tmp_path):
    model.preference_convention = convention
    model.save_pretrained(tmp_path / "first")
    loaded = PreferenceModel.load(copy.deepcopy(base), tmp_path / "first")
    assert loaded.preference_convention == convention
    loaded.save_pretrained(tmp_path / "second")
    assert (tmp_path / "second" / SETTINGS).read_text() == (tmp_path / "first" / SETTINGS).read_text()


def test_importance_is_the_rule_and_needs_no_word(base, folder):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert PreferenceModel.load(base, folder).preference_convention == "importance"


@pytest.mark.parametrize("door", ["load", "from_pretrained"])
@pytest.mark.parametrize(
    ("changes", "convention", "message"),
    [
        (
            {"format_version": 1, "preference_convention": None, "base_model_name_or_path": None},
            "unrecorded",
            r"does not record what a preference says to it.*set model.preference_convention = \"importance\"",
        ),
        ({"preference_convention": "ray"}, "ray", r"was trained on rays: .* a LARGER λ_i asks for a larger loss i"),
    ],
)
def test_another_meaning_of_a_preference_is_said(changes, convention, message, door, base, model, tmp_path):
    base.save_pretrained(tmp_path / "base")
    model.save_pretrained(tmp_path / "adapter")
    rewrite_settings(tmp_path / "adapter", base_model=str(tmp_path / "base"), **changes)
    with pytest.warns(UserWarning, match=message):
        loaded = (
            PreferenceModel.load(base, tmp_path / "adapter")
            if door == "load"
            else PreferenceModel.from_pretrained(tmp_path / "adapter")
        )
    assert loaded.preference_convention == convention
    for name, layer in model.adapters.items():
        assert torch.equal(loaded.adapters[name].U, layer.U)


@pytest.mark.parametrize("broken", ["Importance", "", 1, [], "rays"])
def test_a_broken_convention_is_refused(broken, base, folder):
    rewrite_settings(folder, preference_convention=broken)
    before = snapshot(base)
    with pytest.raises(ValueError, match=r"preference_convention is .*, which is none of importance, ray, unrecorded"):
        PreferenceModel.load(base, folder)
    assert_unchanged(base, before)


@pytest.mark.parametrize("version", [0, 6, "2", None, True, 2.0])
def test_another_version_of_the_format_is_refused(version, base, folder):
    settings = json.loads((folder / SETTINGS).read_text()) | {"format_version": version}
    (folder / SETTINGS).write_text(json.dumps(settings))
    with pytest.raises(ValueError, match=rf"has format version {version!r}, and this mopref reads 1 to 5"):
        PreferenceModel.load(base, folder)


# A vocabulary of another size.


@torch.no_grad()
@pytest.mark.filterwarnings("ignore:.*does not record:UserWarning")
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("sizes", [(100, 101), (101, 100), (100, 128), (128, 90)])
def test_an_adapter_loads_on_a_base_with_another_vocabulary(sizes, tied, make_lm, randomise, token_batch, tmp_path):
    def resized(size: int) -> nn.Module:
        base = make_lm(tie_word_embeddings=tied)
        base.resize_token_embeddings(size, mean_resizing=False)
        return base.eval()

    model = randomise(PreferenceModel(resized(sizes[0]), CONFIG)).eval()
    model.save_pretrained(tmp_path)
    preference, tokens = torch.tensor([0.3, 0.7]), token_batch % 90
    expected = logits(model, tokens, preference)[..., :90]
    for version in (3, 2, 1):
        rewrite_settings(tmp_path, format_version=version)
        loaded = PreferenceModel.load(resized(sizes[1]), tmp_path).eval()
        torch.testing.assert_close(logits(loaded, tokens, preference)[..., :90], expected)


def test_an_adapted_head_has_the_vocabulary_it_was_trained_on(make_llama, tmp_path):
    PreferenceModel(make_llama(), SVDLoRAConfig(("a", "b"), target_modules=("lm_head",))).save_pretrained(tmp_path)
    other = make_llama()
    other.resize_token_embeddings(101, mean_resizing=False)
    with pytest.raises(ValueError, match=r"it adapts lm_head of shape \(100, 64\), which is \(101, 64\) here"):
        PreferenceModel.load(other, tmp_path)


@pytest.fixture
def folder(model, tmp_path):
    model.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def remove_one(tensors: dict[str, torch.Tensor]) -> None:
    del tensors[sorted(tensors)[0]]


def add_one(tensors: dict[str, torch.Tensor]) -> None:
    tensors["unexpected"] = torch.ones(2)


def cut_one(tensors: dict[str, torch.Tensor]) -> None:
    name = next(name for name in sorted(tensors) if tensors[name].ndim == 2)
    tensors[name] = tensors[name][:, :-1].contiguous()


def spoil_one(tensors: dict[str, torch.Tensor]) -> None:
    name = next(name for name in sorted(tensors) if tensors[name].ndim == 2)
    tensors[name][0, 0] = float("nan")


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (remove_one, "has no tensor .* save it again"),
        (add_one, "has a tensor 'unexpected' that adapter_config.json does not describe"),
        (cut_one, r"has shape \(\d+, \d+\), not \(\d+, 8\)"),
        (spoil_one, "not finite: the training diverged"),
    ],
)
def test_spoiled_weights_are_refused(edit, message, base, folder):
    change_tensors(folder, edit)
    before = snapshot(base)
    with pytest.raises(ValueError, match=message):
        PreferenceModel.load(base, folder)
    assert_unchanged(base, before)


@pytest.mark.parametrize("foreign", ["LORA", "no-such-type", None])
def test_another_type_is_refused(foreign, base, folder):
    settings = json.loads((folder / SETTINGS).read_text())
    if foreign is None:
        del settings["peft_type"]
    else:
        settings["peft_type"] = foreign
    (folder / SETTINGS).write_text(json.dumps(settings))
    before = snapshot(base)
    with pytest.raises(ValueError, match=f"holds an adapter of type {foreign!r}, not 'MOPREF_SVD_LORA'"):
        PreferenceModel.load(base, folder)
    assert_unchanged(base, before)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (SETTINGS, "{", "is not valid JSON .* save it again"),
        (SETTINGS, "[]", "of type None"),
        (
            SETTINGS,
            '{"peft_type": "MOPREF_SVD_LORA", "format_version": 7}',
            "format version 7, and this mopref reads 1 to 5",
        ),
        (SETTINGS, '{"peft_type": "MOPREF_SVD_LORA", "format_version": 1}', "lacks 'objectives'"),
        (WEIGHTS, "no tensors", "cannot be read .* save it again"),
    ],
)
def test_a_damaged_file_is_refused(name, content, message, base, folder):
    (folder / name).write_text(content)
    before = snapshot(base)
    with pytest.raises(ValueError, match=message):
        PreferenceModel.load(base, folder)
    assert_unchanged(base, before)


def test_companions_are_no_part_of_an_adapter(model, base, folder, tmp_path):
    model.companions["critic"] = nn.Linear(3, 2)
    model.save_pretrained(tmp_path / "beside a critic")
    for name in (SETTINGS, WEIGHTS):
        assert (tmp_path / "beside a critic" / name).read_bytes() == (folder / name).read_bytes()
    assert len(PreferenceModel.load(base, tmp_path / "beside a critic").companions) == 0


def test_a_stock_lora_folder_is_refused(base, model, tmp_path):
    model.export_lora(tmp_path, preference=torch.tensor([0.5, 0.5]))
    with pytest.raises(ValueError, match="holds an adapter of type 'LORA'"):
        PreferenceModel.load(base, tmp_path)


@pytest.mark.parametrize(
    "options",
    [{"seed": 1}, {"hidden": 32}, {"layers": 3}, {"layers": 1}],
    ids=["weights", "narrower", "deeper", "shallower"],
)
def test_another_base_is_refused(options, request, make_lm, folder):
    llama = "llama" in request.node.name
    translated = {
        "seed": "seed",
        "hidden": "hidden_size" if llama else "n_embd",
        "layers": "num_hidden_layers" if llama else "n_layer",
    }
    other = make_lm(**{translated[name]: value for name, value in options.items()})
    before = snapshot(other)
    with pytest.raises(ValueError, match="was trained on another base model"):
        PreferenceModel.load(other, folder)
    assert_unchanged(other, before)


def test_another_family_is_refused(folder, make_mlp):
    other = make_mlp()
    before = snapshot(other)
    with pytest.raises(ValueError, match="which is missing here"):
        PreferenceModel.load(other, folder)
    assert_unchanged(other, before)


@pytest.mark.parametrize(
    ("name", "message"), [(SETTINGS, f"is no adapter folder: .* {SETTINGS}"), (WEIGHTS, f"no complete .* {WEIGHTS}")]
)
def test_a_missing_file_is_refused(name, message, base, folder):
    (folder / name).unlink()
    before = snapshot(base)
    with pytest.raises(FileNotFoundError, match=message):
        PreferenceModel.load(base, folder)
    assert_unchanged(base, before)


def test_one_changed_weight_of_the_base_is_noticed(base, folder):
    """Another base of the same shapes, where even the adapted matrices are the same."""
    with torch.no_grad():
        base.get_input_embeddings().weight.mul_(1.5)
    with pytest.raises(ValueError, match="differ from those it was trained on"):
        PreferenceModel.load(base, folder)


def test_a_saved_adapter_does_not_depend_on_training_mode(model, base, folder, five_preferences, token_batch):
    loaded = PreferenceModel.load(copy.deepcopy(base), folder)
    loaded.train()
    loaded.save_pretrained(folder)
    again = PreferenceModel.load(copy.deepcopy(base), folder).eval()
    assert torch.equal(logits(again, token_batch, five_preferences[2]), logits(model, token_batch, five_preferences[2]))


# What could not be loaded again is not saved.


def other_config(model):
    model.adapter_config = SVDLoRAConfig(("helpful", "harmless"), rank=4, preference_rank=2, scaling=0.8)


def other_rank(model):
    model.adapter_config = SVDLoRAConfig(("helpful", "harmless"), rank=5, preference_rank=2, scaling=0.7)


def other_shape(model):
    layer = next(iter(model.adapters.values()))
    layer.sigma = nn.Parameter(torch.ones(3))


def whole_numbers(model):
    layer = next(iter(model.adapters.values()))
    layer.scale = nn.Parameter(torch.tensor(1), requires_grad=False)


def layer_taken_out(model):
    name, layer = next(iter(model.adapters.items()))
    model.base_model.set_submodule(name, layer.base_layer)


def other_names(model):
    # Past the checks of the settings.
    object.__setattr__(model.adapter_config, "objectives", (1, 2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (other_config, "adapter_config is not that of "),
        (other_rank, r"has shape \(\d+, 8\), not \(\d+, 9\)"),
        (other_shape, r"sigma' has shape \(3,\), not \(4,\)"),
        (whole_numbers, r"scale' is of type torch\.int64, none of torch\.float64"),
        (layer_taken_out, "is no longer in the base model"),
        (other_names, r"objectives is \[1, 2\], not a list of texts"),
    ],
)
def test_what_could_not_be_loaded_again_is_not_written(change, message, model, tmp_path):
    model.adapter_config = copy.copy(model.adapter_config)
    change(model)
    with pytest.raises(
        ValueError, match=rf"the model cannot be saved, since it could not be loaded again: .*{message}"
    ):
        model.save_pretrained(tmp_path / "adapter")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("word", ["Ray", "", None, 1, ["ray"]])
def test_only_a_convention_can_be_set(word, model):
    with pytest.raises(ValueError, match=r"preference_convention is .*: choose 'importance'.* 'ray'.* 'unrecorded'"):
        model.preference_convention = word
    assert model.preference_convention == "importance"


# A folder of a base that holds an adapter, too.


def test_a_folder_of_both_is_told_how_to_be_parted(base, tmp_path):
    mixed, apart = tmp_path / "mixed", tmp_path / "apart"
    base.save_pretrained(mixed)
    model = PreferenceModel.from_pretrained(mixed, CONFIG)
    model.save_pretrained(apart)
    for name in (SETTINGS, WEIGHTS):
        shutil.copy(apart / name, mixed / name)
    message = r"both an adapter and the weights of a model \(model\.safetensors\), .*: move adapter_config\.json and"
    for config in (None, CONFIG):
        with pytest.raises(ValueError, match=message):
            PreferenceModel.from_pretrained(mixed, config)
    for name in (SETTINGS, WEIGHTS):
        (mixed / name).unlink()
    assert PreferenceModel.from_pretrained(apart).adapters.keys() == model.adapters.keys()
    # Beside another model's weights the adapter is what is loaded: its base is elsewhere.
    base.save_pretrained(apart)
    assert PreferenceModel.from_pretrained(apart).adapters.keys() == model.adapters.keys()


def test_an_adapter_that_names_itself_as_its_base_is_refused(folder):
    rewrite_settings(folder, base_model=str(folder))
    with pytest.raises(ValueError, match="names itself as its base model, of which it holds no weights: load the base"):
        PreferenceModel.from_pretrained(folder)


def test_an_earlier_adapter_is_restored_in_place(base, model, randomise, tmp_path, token_batch):
    preference = torch.tensor([[0.25, 0.75]])
    expected = logits(model, token_batch, preference)
    model.save_pretrained(tmp_path / "earlier")
    randomise(model, seed=5)
    assert not torch.equal(logits(model, token_batch, preference), expected)
    parameters = dict(model.named_parameters())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.restore(tmp_path / "earlier")
    assert torch.equal(logits(model, token_batch, preference), expected)
    assert all(parameter is parameters[name] for name, parameter in model.named_parameters())


@pytest.mark.parametrize("change", [{"scaling": 0.5}, {"layers": [0]}, {"objectives": ("harmless", "helpful")}])
def test_an_adapter_of_other_settings_is_not_restored(change, base, model, randomise, tmp_path):
    from dataclasses import replace

    other = randomise(PreferenceModel(copy.deepcopy(base), replace(CONFIG, **change)), seed=3)
    other.save_pretrained(tmp_path / "other")
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match="another adapter than this model's"):
        model.restore(tmp_path / "other")
    assert_unchanged(model, before)

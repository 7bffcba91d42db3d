import pytest
import torch

from mopref import SVDLoRAConfig
from mopref.recipes import ModelSettings, RecipeError
from mopref.recipes.models import adapted_model, load_tokenizer, model_with_adapter

CPU = torch.device("cpu")
ADAPTER = SVDLoRAConfig(("a", "b"), rank=2, layers=(-1,))


def test_a_model_is_loaded_with_fresh_adapters_and_again_with_trained_ones(tiny, tmp_path, randomise):
    settings = ModelSettings(str(tiny / "model"), device="cpu")
    model = randomise(adapted_model(settings, ADAPTER, CPU))
    assert next(model.parameters()).dtype == torch.float32
    model.save_pretrained(tmp_path)
    again = model_with_adapter(settings, tmp_path, CPU)
    for name, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_the_type_is_the_settings(tiny):
    settings = ModelSettings(str(tiny / "model"), dtype="bfloat16")
    assert adapted_model(settings, ADAPTER, CPU).dtype == torch.bfloat16


@pytest.mark.parametrize("bits", ["4bit", "8bit"])
def test_quantised_weights_stay_where_they_were_loaded(tiny, bits):
    pytest.importorskip("bitsandbytes")
    model = adapted_model(ModelSettings(str(tiny / "model"), quantization=bits), ADAPTER, CPU)
    kinds = {type(layer.base_layer).__name__ for layer in model.adapters.values()}
    assert kinds == {"Linear4bit" if bits == "4bit" else "Linear8bitLt"}


def test_bitsandbytes_is_asked_for_by_name(tiny, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(RecipeError, match=r"^model\.quantization is '4bit': it needs bitsandbytes; run pip install"):
        adapted_model(ModelSettings(str(tiny / "model"), quantization="4bit"), ADAPTER, CPU)


def test_a_tokenizer_may_be_another_ones(tiny, tmp_path):
    tokenizer = load_tokenizer(ModelSettings(str(tiny / "model")))
    tokenizer.chat_template = "other"
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    settings = ModelSettings(str(tiny / "model"), tokenizer=str(tmp_path / "tokenizer"))
    assert load_tokenizer(settings).chat_template == "other"


def test_a_revision_goes_to_the_model_and_its_tokenizer(tiny, monkeypatch):
    seen = []
    for name in ("AutoModelForCausalLM", "AutoTokenizer"):
        import transformers

        monkeypatch.setattr(
            getattr(transformers, name),
            "from_pretrained",
            lambda *arguments, **options: seen.append(options.get("revision")) or (_ for _ in ()).throw(OSError("no")),
        )
    settings = ModelSettings(str(tiny / "model"), revision="v2")
    for load in (lambda: load_tokenizer(settings), lambda: adapted_model(settings, ADAPTER, CPU)):
        with pytest.raises(RecipeError, match=r"^model\.name is .+: nothing could be loaded from there \(no\)"):
            load()
    assert seen == ["v2", "v2"]


def test_a_model_that_is_not_there_is_named(tmp_path):
    settings = ModelSettings(str(tmp_path / "none"))
    for load in (lambda: load_tokenizer(settings), lambda: adapted_model(settings, ADAPTER, CPU)):
        with pytest.raises(RecipeError, match=r"^model\.name is '.*none': nothing .+ \(there is no such folder\)"):
            load()
    with pytest.raises(RecipeError, match=r"^model\.tokenizer is '.*other': nothing could be loaded"):
        load_tokenizer(ModelSettings("demo", tokenizer=str(tmp_path / "other")))


def test_a_trained_adapter_comes_back_on_the_commit_it_was_trained_on(tiny, tmp_path, monkeypatch):
    commit, asked = "0123456789abcdef0123456789abcdef01234567", []
    settings = ModelSettings(str(tiny / "model"), device="cpu")
    model = adapted_model(settings, ADAPTER, CPU)
    model.base_model.config._name_or_path = model.base_model.name_or_path = "OWNER/model"
    model.base_model.config._commit_hash = commit
    model.save_pretrained(tmp_path)

    def load(name, options):
        asked.append((name, options.get("revision")))
        return adapted_model(settings, ADAPTER, CPU).merge([0.5, 0.5])

    monkeypatch.setattr("mopref.recipes.models.load_base", load)
    for name, revision in (("OWNER/model", None), ("OWNER/model", "v2"), ("OTHER/model", None)):
        model_with_adapter(ModelSettings(name, revision=revision), tmp_path, CPU)
    assert asked == [("OWNER/model", commit), ("OWNER/model", "v2"), ("OTHER/model", None)]


def test_code_that_comes_with_a_tokenizer_is_not_run_nor_asked_about(tiny, monkeypatch):
    import transformers

    seen, load = [], transformers.AutoTokenizer.from_pretrained
    monkeypatch.setattr(
        transformers.AutoTokenizer,
        "from_pretrained",
        lambda name, **options: seen.append(options["trust_remote_code"]) or load(name, **options),
    )
    load_tokenizer(ModelSettings(str(tiny / "model")))
    load_tokenizer(ModelSettings("demo", tokenizer=str(tiny / "model")))
    assert seen == [False, False]


def test_pickled_weights_are_refused_with_what_to_do(tiny, tmp_path):
    import shutil

    from safetensors.torch import load_file

    folder = tmp_path / "model"
    shutil.copytree(tiny / "model", folder)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"has no weights in safetensors .* convert them once"):
        adapted_model(ModelSettings(str(folder)), ADAPTER, CPU)


def test_a_model_that_needs_code_of_its_own_is_refused_in_words(tiny, monkeypatch):
    import transformers

    def refuse(name, **options):
        raise ValueError("The repository contains custom code.\nPlease pass the argument `trust_remote_code=True`.")

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", refuse)
    with pytest.raises(
        RecipeError, match=r"^model\.name is .*, which needs code that comes with it, and mopref runs n"
    ):
        load_tokenizer(ModelSettings(str(tiny / "model")))

"""What users and tools of transformers ask of a conditioned model: where it is, how it generates, a pipeline."""

import copy
from typing import Any

import pytest
import torch
from conditioned_networks import IDS, ROW_PREFERENCES, logits_of_rows
from torch import nn

from mopref import PreferenceModel, SVDLoRAConfig

CONFIG = SVDLoRAConfig(objectives=("a", "b"), rank=4, preference_rank=2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_it_tells_the_device_and_type_of_its_base(dtype, make_llama):
    model = PreferenceModel(make_llama().to(dtype), CONFIG)
    assert (model.device, model.dtype) == (torch.device("cpu"), dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_the_type_is_the_bases_and_not_the_adapters(dtype, make_mlp):
    model = PreferenceModel(make_mlp().to(dtype), CONFIG)
    assert model.dtype == dtype
    assert model(torch.ones(2, 6, dtype=model.dtype), preferences=[0.5, 0.5]).dtype == dtype


def test_a_plain_network_tells_them_too():
    # What a base says of itself comes first: the weights of a quantised or offloaded one tell something else.
    base = nn.Sequential(nn.Linear(3, 2))
    base.device, base.dtype = torch.device("cuda", 3), torch.bfloat16
    model = PreferenceModel(base, CONFIG)
    assert (model.device, model.dtype) == (torch.device("cuda", 3), torch.bfloat16)
    base.device, base.dtype = "cuda:3", "bfloat16"
    assert (model.device, model.dtype) == (torch.device("cpu"), torch.float32)


def test_the_settings_of_generation_are_the_bases(make_llama, make_mlp):
    model = PreferenceModel(make_llama(), CONFIG)
    assert model.generation_config is model.base_model.generation_config
    settings = copy.deepcopy(model.generation_config)
    settings.max_new_tokens = 3
    model.generation_config = settings
    assert model.base_model.generation_config is settings
    assert model.eval().generate(IDS, preferences=[0.5, 0.5], eos_token_id=None).shape == (3, 6)
    assert model.can_generate()
    assert not PreferenceModel(make_mlp(), CONFIG).can_generate()


@pytest.fixture
def pipe(make_llama, randomise):
    """A pipeline of transformers around a conditioned model, whose tokenizer knows eight words."""
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    words = {word: i for i, word in enumerate(("<pad>", "<s>", "</s>", "a", "b", "c", "d", "e"))}
    inner = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="a"))
    inner.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", eos_token="</s>")
    # Which pipelines of transformers 5.0 leave to the tokenizer.
    tokenizer.padding_side = "left"
    model = randomise(PreferenceModel(make_llama(vocab_size=8), CONFIG)).eval()
    turns, answer = "{% for m in messages %}{{ m.content }} {% endfor %}", "{% if add_generation_prompt %}e{% endif %}"
    tokenizer.chat_template = turns + answer
    return transformers.pipeline("text-generation", model=model, tokenizer=tokenizer)


@pytest.mark.parametrize("preference", [[0.3, 0.7], {"b": 0.7, "a": 0.3}])
def test_a_pipeline_passes_preferences_on(preference, pipe):
    answer = pipe("a b", max_new_tokens=4, do_sample=False, preferences=preference, return_tensors=True)
    inputs = pipe.tokenizer(["a b"], return_tensors="pt").to(pipe.model.device)
    options = {"max_new_tokens": 4, "do_sample": False}
    expected = pipe.model.merge([0.3, 0.7]).generate(inputs["input_ids"], **options)[0]
    assert answer[0]["generated_token_ids"] == expected.tolist()
    with pytest.raises(ValueError, match="preferences are missing: give one weight for each of a, b"):
        pipe("a b", max_new_tokens=4)


GREEDY = {"max_new_tokens": 4, "do_sample": False}
LARGE_A, LARGE_B = {"a": 0.9, "b": 0.1}, {"b": 1.0, "a": 0.0}


def answered(pipe, text: str, preference) -> str:
    """What the model generates by itself after a text."""
    ids = pipe.tokenizer(text, return_tensors="pt")["input_ids"]
    generated = pipe.model.generate(ids, preferences=preference, **GREEDY)[0, ids.shape[1] :]
    return pipe.tokenizer.decode(generated, skip_special_tokens=True)


def stripped(answer: Any) -> Any:
    """Answers without the space before the first word, which some versions leave there."""
    if isinstance(answer, list):
        return [stripped(part) for part in answer]
    if isinstance(answer, dict):
        return {name: stripped(part) for name, part in answer.items()}
    return answer.strip()


def test_a_pipeline_gives_the_models_own_answers(pipe):
    answers = [answered(pipe, "a b", preference) for preference in (LARGE_A, LARGE_B)]
    assert len(set(answers)) == 2, "the test would be vacuous if λ had no effect"
    for preference, expected in zip((LARGE_A, LARGE_B), answers, strict=True):
        options = {"preferences": preference, **GREEDY}
        assert stripped(pipe("a b", return_full_text=False, **options)) == [{"generated_text": expected}]
        assert pipe("a b", **options)[0]["generated_text"].removeprefix("a b").strip() == expected
        whole = type(pipe)(model=pipe.model, tokenizer=pipe.tokenizer, **options)
        once = stripped(whole("a b", return_full_text=False))
        assert once == [{"generated_text": expected}], "given once, for every call"


def test_each_text_of_a_batch_has_its_preference(pipe):
    """Texts of different lengths, which the pipeline pads on the left, and a λ for each, or one for all."""
    texts, rows = ["a b", "c d e a b", "b"], [LARGE_A, LARGE_B, LARGE_A]
    expected = [[{"generated_text": answered(pipe, text, row)}] for text, row in zip(texts, rows, strict=True)]
    options = {"return_full_text": False, **GREEDY}
    assert stripped(pipe(texts, preferences=rows, batch_size=3, **options)) == expected
    for size in (1, 2):
        together = stripped(pipe(texts, preferences=LARGE_A, batch_size=size, **options))
        assert together == [[{"generated_text": answered(pipe, text, LARGE_A)}] for text in texts]
        with pytest.raises(ValueError, match=rf"3 preferences were given for {size} prompts.* needs batch_size=3"):
            pipe(texts, preferences=rows, batch_size=size, **options)


def test_a_pipeline_answers_chats(pipe):
    chats = [[{"role": "user", "content": text}] for text in ("a b", "c")]
    expected = [answered(pipe, "a b e", LARGE_A), answered(pipe, "c e", LARGE_B)]
    single = stripped(pipe(chats[0], preferences=LARGE_A, **GREEDY))
    assert single[0]["generated_text"] == [*chats[0], {"role": "assistant", "content": expected[0]}]
    both = stripped(pipe(chats, preferences=[LARGE_A, LARGE_B], batch_size=2, **GREEDY))
    assert [answer[0]["generated_text"][-1]["content"] for answer in both] == expected


def test_a_pipeline_does_not_say_that_the_model_is_not_supported(pipe, caplog, monkeypatch):
    """It goes by names of classes."""
    transformers = pytest.importorskip("transformers")
    logger = transformers.utils.logging.get_logger("transformers")
    logger.addHandler(caplog.handler)
    try:
        transformers.pipeline("text-generation", model=pipe.model, tokenizer=pipe.tokenizer)
        assert "not supported" not in caplog.text
        monkeypatch.setattr(transformers.pipelines.base, "SUPPORTED_PEFT_TASKS", {})
        transformers.pipeline("text-generation", model=pipe.model, tokenizer=pipe.tokenizer)
        assert "The model 'PreferenceModel' is not supported" in caplog.text, "the test would be vacuous"
    finally:
        logger.removeHandler(caplog.handler)


@torch.no_grad()
def test_a_preference_may_be_given_by_name(make_llama, randomise, tmp_path):
    model = randomise(PreferenceModel(make_llama(), CONFIG)).eval()
    by_name = {"b": 0.7, "a": 0.3}
    expected = logits_of_rows(model, slice(None), preferences=[0.3, 0.7])
    assert torch.equal(logits_of_rows(model, slice(None), preferences=by_name), expected)
    rows = [{"a": 1.0, "b": 0.0}, by_name, {"b": 1.0, "a": 0.0}]
    assert torch.equal(
        logits_of_rows(model, slice(None), preferences=rows),
        logits_of_rows(model, slice(None), preferences=ROW_PREFERENCES),
    )
    merged = logits_of_rows(model.merge(by_name), slice(None))
    torch.testing.assert_close(merged, expected, atol=1e-4, rtol=1e-4)
    model.export_lora(tmp_path / "by name", by_name)
    model.export_lora(tmp_path / "in order", [0.3, 0.7])
    name = "adapter_model.safetensors"
    assert (tmp_path / "by name" / name).read_bytes() == (tmp_path / "in order" / name).read_bytes()
    with pytest.raises(ValueError, match="no weight for b"):
        model(IDS, preferences={"a": 1.0})


# A compiled base.


@torch.no_grad()
def test_a_compiled_base_is_conditioned_inside(make_llama, tmp_path):
    with pytest.warns(UserWarning, match="the base model is compiled, so the plain one inside is conditioned") as told:
        model = PreferenceModel(torch.compile(make_llama(), backend="eager"), CONFIG).eval()
    assert told[0].filename == __file__
    assert type(model.base_model) is type(make_llama())
    assert list(model.adapters) == list(PreferenceModel(make_llama(), CONFIG).adapters)
    model.save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match="the base model is compiled"):
        again = PreferenceModel.load(torch.compile(make_llama(), backend="eager"), tmp_path).eval()
    for loaded in (again, PreferenceModel.load(make_llama(), tmp_path).eval()):
        assert torch.equal(loaded(IDS, preferences=[0.5, 0.5]).logits, model(IDS, preferences=[0.5, 0.5]).logits)

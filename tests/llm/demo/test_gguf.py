"""The conversion with a tiny model in the place of what transformers reads from a GGUF file."""

import sys

import pytest
import torch

from mopref.llm.demo.download import AssetError
from mopref.llm.demo.gguf import convert_gguf


@pytest.fixture
def quantised(monkeypatch, make_llama):
    """Let transformers load a tiny model that says it is quantised, as one from a GGUF file does."""
    pytest.importorskip("gguf")
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

    model = make_llama()
    model.config.quantization_config = {"quant_method": "gguf"}
    words = ["<unk>", "The", "capital", "of", "France", "is"]
    core = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>")
    for loader, part in ((AutoModelForCausalLM, model), (AutoTokenizer, tokenizer)):

        def load(source, *, gguf_file=None, part=part, real=loader.from_pretrained, **options):
            return real(source, **options) if gguf_file is None else part

        monkeypatch.setattr(loader, "from_pretrained", load)
    return model


def test_the_converted_model_is_the_same(tmp_path, quantised):
    from transformers import AutoModelForCausalLM

    convert_gguf(tmp_path / "source", "tiny.gguf", tmp_path / "folder")
    assert (tmp_path / "folder" / "model.safetensors").is_file()
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "folder")
    assert model.dtype == torch.float32
    assert getattr(model.config, "quantization_config", None) is None
    for name, weight in quantised.state_dict().items():
        assert torch.equal(model.state_dict()[name], weight), name


def test_a_model_that_answers_otherwise_is_refused(tmp_path, quantised, monkeypatch, make_llama):
    from transformers import AutoModelForCausalLM

    other = make_llama(seed=1)
    monkeypatch.setattr(AutoModelForCausalLM, "from_config", lambda config, dtype: other)
    monkeypatch.setattr(type(other), "load_state_dict", lambda self, state: None)
    with pytest.raises(AssetError, match=r"logits differ from the GGUF model's by \d.*Nothing was kept"):
        convert_gguf(tmp_path / "source", "tiny.gguf", tmp_path / "folder")


def test_missing_package_names_the_extra(tmp_path, monkeypatch):
    # None in sys.modules is how Python marks a module that cannot be imported.
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(ImportError, match=r"package gguf is missing.*pip install 'mopref\[demo\]'"):
        convert_gguf(tmp_path, "tiny.gguf", tmp_path / "folder")

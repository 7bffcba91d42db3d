"""Pickles with code in them, in the place of weights: not run, and no advice to run them."""

import os

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, LlamaForCausalLM

from mopref import PreferenceModel, SVDLoRAConfig
from mopref._pickled_weights import tensors_alone
from mopref.llm.rewards import ClassifierReward
from mopref.llm.rewards.embedder import Embedder


class Code:
    """Runs a command where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def base(folder):
    config = SVDLoRAConfig(objectives=("a", "b"), rank=2)
    return PreferenceModel.from_pretrained(str(folder), config, use_safetensors=False)


def classifier(folder):
    return ClassifierReward.from_pretrained(folder, sign=1)


def save_bert(folder, *_):
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertForSequenceClassification(BertConfig(vocab_size=20, **shape)).save_pretrained(folder)


def save_llama(folder, make_llama):
    model = make_llama()
    assert isinstance(model, LlamaForCausalLM)
    model.save_pretrained(folder)


@pytest.mark.parametrize(
    ("save", "load"),
    [(save_llama, base), (save_bert, classifier), (save_bert, Embedder)],
    ids=lambda part: part.__name__,
)
def test_code_in_the_place_of_weights_is_not_run(save, load, make_llama, tmp_path, monkeypatch):
    from transformers import AutoTokenizer

    monkeypatch.setattr(AutoTokenizer, "from_pretrained", lambda *_, **__: None)
    save(tmp_path / "model", make_llama)
    (tmp_path / "model" / "model.safetensors").unlink()
    torch.save({"weight": Code(tmp_path / "run")}, tmp_path / "model" / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"model has weights in a pickle that holds more than tensors.*was not run"):
        load(tmp_path / "model")
    assert not (tmp_path / "run").exists()


def test_other_errors_stay_what_they_are():
    with pytest.raises(KeyError), tensors_alone("x"):
        raise KeyError

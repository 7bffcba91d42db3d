"""Evaluation mode is left as it was found, part by part; and a training in which nothing is dropped."""

import copy
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import dropout

from mopref import PreferenceModel, SVDLoRAConfig
from mopref.evaluation_mode import disable_dropout, evaluation_mode

sys.path.append(str(Path(__file__).parent / "families"))


def test_each_part_comes_back_in_its_own_mode():
    module = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm1d(2))
    module[1].eval()  # frozen statistics, as users set them
    with evaluation_mode(module):
        assert not any(part.training for part in module.modules())
    assert [part.training for part in module.modules()] == [True, True, False]
    with pytest.raises(RuntimeError), evaluation_mode(module):
        raise RuntimeError
    assert [part.training for part in module.modules()] == [True, True, False]


# Without dropout, training mode gives what evaluation mode gives.


class Functional(nn.Module):
    """Drops by a function, whose probability is in an attribute of this name."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        setattr(self, name, 0.5)

    def forward(self, x):
        return dropout(x, getattr(self, self.name), self.training)


class FromConfig(nn.Module):
    """Reads the probability in its configuration at each call."""

    def __init__(self, config) -> None:
        super().__init__()
        self.config = config

    def forward(self, x):
        return dropout(x, self.config.hidden_dropout, self.training)


class Recurrent(nn.Module):
    def __init__(self, kind) -> None:
        super().__init__()
        self.inner = kind(4, 4, num_layers=2, dropout=0.5)

    def forward(self, x):
        return self.inner(x)[0]


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.MultiheadAttention(4, 2, dropout=0.5)

    def forward(self, x):
        return self.inner(x, x, x)[0]


class Noisy(nn.Module):
    """A router that disturbs its input."""

    def __init__(self) -> None:
        super().__init__()
        self.jitter_noise = 0.5

    def forward(self, x):
        return x * torch.empty_like(x).uniform_(1 - self.jitter_noise, 1 + self.jitter_noise) if self.training else x


class MyDropout(nn.Dropout):
    """As models derive it."""


RANDOM = {
    "units": lambda: nn.Dropout(0.5),
    "derived": lambda: MyDropout(0.5),
    "features": lambda: nn.Dropout1d(0.5),
    "alpha": lambda: nn.AlphaDropout(0.5),
    "feature alpha": lambda: nn.FeatureAlphaDropout(0.5),
    "attention_dropout": lambda: Functional("attention_dropout"),
    "drop_prob": lambda: Functional("drop_prob"),
    "layerdrop": lambda: Functional("layerdrop"),
    "resid_pdrop": lambda: Functional("resid_pdrop"),
    "DropPath": lambda: Functional("DropPath_rate"),
    "LSTM": lambda: Recurrent(nn.LSTM),
    "GRU": lambda: Recurrent(nn.GRU),
    "attention": Attention,
    "encoder": lambda: nn.TransformerEncoderLayer(4, 2, 8, dropout=0.5),
    "jitter": Noisy,
    "a number of numpy": lambda: FromConfig(SimpleNamespace(hidden_dropout=np.float64(0.5))),
    "configuration": lambda: FromConfig(SimpleNamespace(hidden_dropout=0.5)),
}


@pytest.mark.parametrize("kind", RANDOM)
def test_nothing_is_dropped_or_disturbed(kind):
    torch.manual_seed(0)
    # The outermost configuration stays, so the random part is never the outermost one.
    outer = nn.Sequential(nn.Linear(4, 4), RANDOM[kind]())
    outer.config = SimpleNamespace(hidden_dropout=0.5)
    x = torch.randn(6, 3, 4)
    expected = copy.deepcopy(outer).eval()(x)
    assert (outer.train()(x) - expected).abs().max() > 1e-2
    disable_dropout(outer)
    assert outer.training
    torch.testing.assert_close(outer(x), expected)


def test_what_is_saved_is_unchanged_and_copies_are_shared():
    shared = SimpleNamespace(hidden_dropout=0.5, layer_norm_eps=1e-5, drop_last=3, note="dropout")
    outer = nn.Sequential(FromConfig(shared), FromConfig(shared), FromConfig(SimpleNamespace(hidden_dropout=0.25)))
    outer.config = shared
    disable_dropout(outer)
    assert outer.config is shared
    assert shared.hidden_dropout == 0.5
    assert outer[0].config is outer[1].config is not shared
    assert vars(outer[0].config) == vars(shared) | {"hidden_dropout": 0.0}
    assert outer[2].config.hidden_dropout == 0.0


def test_what_is_no_probability_stays():
    part = nn.Linear(2, 2)
    part.dropout, part.drop_last, part.dropout_layer, part.dropout_name = None, True, nn.Linear(1, 1), "p"
    part.scaling = 0.5
    disable_dropout(part)
    assert (part.dropout, part.drop_last, part.dropout_name, part.scaling) == (None, True, "p", 0.5)
    assert isinstance(part.dropout_layer, nn.Linear)


FAMILIES = ("gpt2", "opt", "falcon", "persimmon", "gpt_neo", "seed_oss", "biogpt", "xglm", "bart", "ctrl")
# Large enough to show in tiny models, under every name that these families have for it.
PROBABILITY_NAMES = (
    *("attn_pdrop", "embd_pdrop", "resid_pdrop", "attention_dropout", "hidden_dropout", "dropout"),
    *("activation_dropout", "embed_dropout", "resid_dropout", "residual_dropout", "hidden_dropout_prob"),
    "attention_probs_dropout_prob",
)


@torch.no_grad()
@pytest.mark.filterwarnings("ignore:.*without an adapter:UserWarning")
@pytest.mark.parametrize("family", FAMILIES)
def test_a_conditioned_model_trains_without_dropout(family):
    pytest.importorskip("transformers")
    from tiny_models import tiny_config, tiny_model

    known = vars(tiny_config(family))
    options = {name: 0.3 for name in PROBABILITY_NAMES if name in known}
    base = tiny_model(family, **options)
    saved = base.config.to_dict()
    model = PreferenceModel(base, SVDLoRAConfig(("a", "b"))).eval()
    ids, preferences = torch.arange(5, 21).view(2, 8), [[1.0, 0.0], [0.3, 0.7]]
    expected = model(input_ids=ids, preferences=preferences).logits
    dropped = model.train()(input_ids=ids, preferences=preferences).logits
    assert options
    assert (dropped - expected).abs().max() > 1e-2
    disable_dropout(model)
    torch.testing.assert_close(model(input_ids=ids, preferences=preferences).logits, expected, atol=1e-5, rtol=1e-5)
    assert base.config.to_dict() == saved
    assert model.training

"""What a small forward tells of a language model's linear layers, and that it leaves no trace."""

import pytest
import torch
from conditioned_networks import DoubledLinear, GroupedLinear, TinyLanguageModel, TupleLinear, tiny_image_model, tiny_t5
from torch import nn
from torch.nn.functional import linear

from mopref.conditioning.layer_use import LayerUse, layer_uses
from mopref.conditioning.wrapping import linear_layers


def use_of(body, layer: nn.Module | None = None) -> LayerUse:
    """How a language model of this body uses its layer ``layers.inner``."""
    base = TinyLanguageModel(body, inner=layer or nn.Linear(4, 4))
    uses = layer_uses(base, linear_layers(base))
    assert uses is not None
    return uses["layers.inner"]


def inner(base: nn.Module) -> nn.Module:
    return base.layers["inner"]


# Where rows lie.


@pytest.mark.parametrize(
    ("body", "layout"),
    [
        (lambda base, x: inner(base)(x), "rows first"),
        (lambda base, x: inner(base)(x.flatten(0, 1)).view_as(x), "rows first"),
        (lambda base, x: inner(base)(x[:, -1]), "rows first"),
        (lambda base, x: inner(base)(x.unflatten(2, (1, 4))), "rows first"),
        (lambda base, x: (inner(base)(x), inner(base)(x.flatten(0, 1))), "rows first"),
        (lambda base, x: inner(base)(x.transpose(0, 1)), "tokens first"),
        (lambda base, x: inner(base)(x.transpose(0, 1).unflatten(2, (1, 4))), "tokens first"),
        (lambda base, x: inner(base)(x.flatten(0, 1)[:4]), "mixed"),
        (lambda base, x: inner(base)(x.flatten(0, 1)[:1]), "mixed"),
        (lambda base, x: inner(base)(x.repeat(4, 1, 1)), "mixed"),
        (lambda base, x: inner(base)(x[0, 0]), "mixed"),
        (lambda base, x: (inner(base)(x), inner(base)(x.transpose(0, 1))), "mixed"),
        (lambda base, x: (inner(base)(x), inner(base)(x.flatten(0, 1)[:5])), "mixed"),
    ],
)
def test_the_rows_of_the_batch_are_found(body, layout):
    use = use_of(body)
    assert use.layout == layout
    assert use.obstacle is None


def routed(base: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Each third token goes to the same expert: of six tokens two, as many as there are rows."""
    rows = x.flatten(0, 1)
    return torch.cat([base.layers[name](rows[index::3]) for index, name in enumerate(("inner", "second", "third"))])


def test_experts_are_not_taken_for_rows_where_they_happen_to_see_as_many():
    base = TinyLanguageModel(routed, **{name: nn.Linear(4, 4) for name in ("inner", "second", "third")})
    uses = layer_uses(base, linear_layers(base))
    assert {use.layout for use in uses.values()} == {"mixed"}


# What cannot be adapted.


@pytest.mark.parametrize(
    ("body", "layer", "obstacle"),
    [
        (lambda base, x: x, None, "a forward over text does not call it"),
        (lambda base, x: linear(x, inner(base).weight), None, "computes with its weight itself instead of calling it"),
        (lambda base, x: linear(x, weight=inner(base).weight), None, "computes with its weight itself"),
        (lambda base, x: x @ inner(base).weight.T, None, "computes with its weight itself"),
        (lambda base, x: (inner(base)(x), x @ inner(base).weight.data), None, "computes with its weight itself"),
        (lambda base, x: x @ inner(base).weight if base.training else inner(base)(x), None, "with its weight itself"),
        (lambda base, x: inner(base)(x), TupleLinear(4, 4), "makes something else of its input than one product"),
        (lambda base, x: inner(base)(x), GroupedLinear(4, 8), "makes something else of its input than one product"),
        (lambda base, x: inner(base)(x).to(inner(base).weight.dtype), None, None),
        (lambda base, x: x if base.training else inner(base)(x), None, None),
        (lambda base, x: inner(base)(input=x), None, None),
        (lambda base, x: inner(base)(x), DoubledLinear(4, 4), None),
    ],
)
def test_what_cannot_be_adapted_is_found(body, layer, obstacle):
    found = use_of(body, layer).obstacle
    assert (found is None) if obstacle is None else (obstacle in found)


def test_a_weight_that_an_embedding_shares_is_not_read_by_it():
    base = TinyLanguageModel(lambda base, x: base.layers["head"](x), head=nn.Linear(4, 20, bias=False))
    base.layers["head"].weight = base.embedding.weight
    assert layer_uses(base, linear_layers(base))["layers.head"].obstacle is None
    base.body = lambda base, x: base.layers["head"](x) @ base.layers["head"].weight
    assert "weight itself" in layer_uses(base, linear_layers(base))["layers.head"].obstacle


def test_layers_that_share_a_weight_are_both_called():
    base = TinyLanguageModel(
        lambda base, x: base.layers["second"](base.layers["first"](x)), first=nn.Linear(4, 4), second=nn.Linear(4, 4)
    )
    base.layers["second"].weight = base.layers["first"].weight
    uses = layer_uses(base, linear_layers(base))
    assert [use.obstacle for use in uses.values()] == [None, None]


def test_both_halves_of_an_encoder_decoder_are_called():
    base = tiny_t5()
    uses = layer_uses(base, linear_layers(base))
    assert {use.obstacle for use in uses.values()} == {None}
    assert {use.layout for use in uses.values()} == {"rows first"}


def test_a_tower_of_images_is_not_called_by_text():
    base = tiny_image_model()
    uses = layer_uses(base, linear_layers(base))
    called = {name for name, use in uses.items() if use.obstacle is None}
    assert called == {name for name in uses if "language_model" in name or name == "lm_head"}


# The tokens that it runs on.


@pytest.mark.parametrize("vocabulary", [4, 6, 20, 1000])
def test_tokens_lie_in_the_vocabulary_away_from_its_ends(vocabulary):
    base = TinyLanguageModel(lambda base, x: x, vocabulary)
    layer_uses(base, {})
    assert len(base.inputs) == 2
    for ids in base.inputs:
        assert min(ids.shape) > 1
        assert ids.shape[0] != ids.shape[1]
        assert 0 <= ids.min() <= ids.max() < vocabulary
        assert ids.unique().numel() == min(ids.numel(), vocabulary)
        if vocabulary > 100:
            assert vocabulary / 4 < ids.min() <= ids.max() < 3 * vocabulary / 4


# No trace.


def test_it_leaves_no_trace():
    def body(base, x):
        base.count += 1
        base.total = base.total + x.detach().sum()
        return base.norm(base.dropout(base.layers["inner"](x)).transpose(1, 2))

    base = TinyLanguageModel(body, inner=nn.Linear(4, 4))
    base.norm, base.dropout = nn.BatchNorm1d(4), nn.Dropout(0.5)
    base.register_buffer("count", torch.zeros(()))
    base.register_buffer("total", torch.zeros(()))
    base.norm.eval()
    before = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    generator = torch.random.get_rng_state()
    assert layer_uses(base, linear_layers(base)) is not None
    assert torch.equal(torch.random.get_rng_state(), generator)
    after = base.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert (base.training, base.norm.training, base.dropout.training) == (True, False, True)
    assert all(parameter.grad is None and parameter.requires_grad for parameter in base.parameters())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in base.modules())
    assert torch.is_grad_enabled()


def test_a_forward_that_fails_leaves_none_either():
    def body(base, x):
        base.count += 1
        if base.training:
            raise RuntimeError("only in evaluation")
        return inner(base)(x)

    base = TinyLanguageModel(body, inner=nn.Linear(4, 4)).eval()
    base.register_buffer("count", torch.zeros(()))
    assert layer_uses(base, linear_layers(base)) is None
    assert base.count == 0
    assert not base.training
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in base.modules())
    assert torch.is_grad_enabled()


# Of these nothing is known, and none of them is run.


def without_embeddings(base: nn.Module) -> None:
    def refuse() -> nn.Module:
        raise NotImplementedError

    base.get_input_embeddings = refuse


def in_two_memories(base: nn.Module) -> None:
    base.hf_device_map = {"embedding": 0, "layers": "disk"}


def on_the_meta_device(base: nn.Module) -> None:
    base.to("meta")


def of_images(base: nn.Module) -> None:
    base.main_input_name = "pixel_values"


@pytest.mark.parametrize("change", [without_embeddings, in_two_memories, on_the_meta_device, of_images])
def test_of_some_nothing_is_known(change):
    base = TinyLanguageModel(lambda base, x: inner(base)(x), inner=nn.Linear(4, 4))
    change(base)
    assert layer_uses(base, {"layers.inner": inner(base)}) is None
    assert base.inputs == []


def test_of_a_plain_network_nothing_is_known(make_mlp):
    base = make_mlp()
    assert layer_uses(base, linear_layers(base)) is None
    base = TinyLanguageModel(lambda base, x: inner(base)(x), inner=nn.Linear(4, 4))
    base.hf_device_map = {"": "cpu"}
    assert layer_uses(base, linear_layers(base)) is not None

"""A preference for each row, in families whose layers see rows and tokens elsewhere than in two first dimensions."""

import copy

import pytest
import torch
from conditioned_networks import (
    IDS,
    ROW_PREFERENCES,
    assert_each_row_is_its_merged_model,
    conditioned,
    tiny_t5,
)
from tiny_models import tiny_model
from torch import nn

from mopref.conditioning.preference_state import PreferenceRecord
from mopref.evaluation_mode import disable_dropout

pytestmark = pytest.mark.filterwarnings("ignore:.*experts of a mixture:UserWarning", "ignore:.*without an adapter")


@pytest.mark.parametrize("tokens", [3, 2, 1])
@pytest.mark.parametrize("family", ["opt", "qwen2_moe", "ernie4_5_moe", "llama4_text", "xlnet"])
def test_rows_are_under_their_own_preferences(family, tokens):
    def call(network, rows, **options):
        return network(input_ids=IDS[rows, :tokens], **options).logits

    assert_each_row_is_its_merged_model(conditioned(tiny_model(family)), call)


@pytest.mark.parametrize("family", ["opt", "xlnet"])
def test_embeddings_instead_of_tokens_have_rows_too(family):
    model = conditioned(tiny_model(family))
    embeddings = model.base_model.get_input_embeddings()(IDS).detach()

    def call(network, rows, **options):
        return network(inputs_embeds=embeddings[rows], **options).logits

    assert_each_row_is_its_merged_model(model, call)


@pytest.mark.parametrize("family", ["opt", "xlnet"])
def test_a_wrong_number_of_preferences_is_refused_whatever_a_layer_sees(family):
    model = conditioned(tiny_model(family))
    for count in (2, 9):
        with pytest.raises(ValueError, match=f"{count} preferences were given for 3 rows: give one for each"):
            model(input_ids=IDS, preferences=torch.full((count, 2), 0.5))


def test_layers_that_see_rows_and_tokens_in_one_dimension_are_there():
    """Guards the tests above: OPT's feed-forward layers and XLNet's see no (rows, tokens, features)."""
    shapes = []
    model = conditioned(tiny_model("opt"))
    next(layer for name, layer in model.adapters.items() if name.endswith("fc1")).register_forward_pre_hook(
        lambda _, inputs: shapes.append(inputs[0].ndim)
    )
    model(input_ids=IDS, preferences=ROW_PREFERENCES)
    assert shapes == [2]
    assert {layer.layout for layer in conditioned(tiny_model("xlnet")).adapters.values()} == {"tokens first"}


@torch.no_grad()
@pytest.mark.parametrize("options", [{}, {"num_beams": 3}, {"num_beams": 2, "num_return_sequences": 2}])
@pytest.mark.parametrize("family", ["opt", "qwen2_moe"])
def test_prompts_are_answered_under_their_own_preferences(family, options):
    model = conditioned(tiny_model(family))
    settings = {"max_new_tokens": 5, "do_sample": False, "pad_token_id": 0, **options}
    preferences = torch.tensor([[0.9, 0.1], [0.1, 0.9]])
    together = model.generate(IDS[:2], preferences=preferences, **settings)
    alone = [model.merge(row).generate(IDS[i : i + 1], **settings) for i, row in enumerate(preferences)]
    width = max(part.shape[1] for part in alone)
    expected = torch.cat([torch.nn.functional.pad(part, (0, width - part.shape[1])) for part in alone])
    assert torch.equal(together, expected)
    assert not torch.equal(together, model.generate(IDS[:2], preferences=preferences.flip(0), **settings))


@torch.no_grad()
@pytest.mark.parametrize("options", [{}, {"num_beams": 2}])
def test_an_encoder_decoder_answers_under_each_rows_preference(options):
    model = conditioned(tiny_t5())
    settings = {"max_new_tokens": 5, "do_sample": False, **options}
    together = model.generate(IDS, preferences=ROW_PREFERENCES, **settings)
    for i, row in enumerate(ROW_PREFERENCES):
        alone = model.merge(row).generate(IDS[i : i + 1], **settings)[0]
        assert torch.equal(together[i, : len(alone)], alone)
    assert not torch.equal(together, model.generate(IDS, preferences=ROW_PREFERENCES.flip(0), **settings))


@torch.no_grad()
@pytest.mark.parametrize("layout", ["rows first", "tokens first"])
def test_what_generation_keeps_belongs_to_as_many_rows(layout):
    """The rows of a batch become those of its beams, with as many tokens as before."""
    layer = conditioned(nn.Sequential(nn.Linear(4, 4))).adapters["0"]
    layer.layout = layout

    def outputs(rows: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        layer.state.set(PreferenceRecord(rows))
        return layer(x)

    x = torch.randn(6, 5, 4, generator=torch.Generator().manual_seed(0))
    layer.state.set(PreferenceRecord(ROW_PREFERENCES))
    found = []
    with layer.state.generation():
        for beams in (1, 2, 1):
            rows = x[: 3 * beams]
            output = layer(rows.transpose(0, 1) if layout == "tokens first" else rows)
            found.append(output.transpose(0, 1) if layout == "tokens first" else output)
    layer.layout = "rows first"
    alone = torch.stack([outputs(ROW_PREFERENCES[i // 2 : i // 2 + 1], x[i : i + 1])[0] for i in range(6)])
    torch.testing.assert_close(found[1], alone)
    alone = torch.stack([outputs(ROW_PREFERENCES[i : i + 1], x[i : i + 1])[0] for i in range(3)])
    torch.testing.assert_close(found[0], alone)
    torch.testing.assert_close(found[2], alone)


def gradients(model) -> torch.Tensor:
    return torch.cat([layer.U.grad.flatten() for layer in model.adapters.values()])


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("family", ["opt", "qwen2_moe"])
def test_recomputed_activations_have_the_rows_of_their_own_forward(family):
    """A forward over rows of another length runs between a forward and its backward pass."""
    plain = conditioned(tiny_model(family)).train()
    disable_dropout(plain)
    recomputing = copy.deepcopy(plain)
    recomputing.gradient_checkpointing_enable()
    for model in (plain, recomputing):
        losses = [
            model(input_ids=IDS, preferences=ROW_PREFERENCES, use_cache=False).logits.square().mean(),
            model(input_ids=IDS[:2, :2], preferences=ROW_PREFERENCES[1:], use_cache=False).logits.square().mean(),
        ]
        with torch.no_grad(), model.disabled():
            model(input_ids=IDS[:, :1])
        sum(losses).backward()
    torch.testing.assert_close(gradients(recomputing), gradients(plain), atol=1e-6, rtol=1e-4)
    assert gradients(plain).abs().max() > 1e-3

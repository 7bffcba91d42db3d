"""Another base of the same shapes is noticed; the same one in another precision or vocabulary is not another."""

import copy

import pytest
import torch
from conditioned_networks import PackedLinear, conditioned, small_config, store_in_int8
from torch import nn

from mopref import FiLMModel, PreferenceModel, SVDLoRAConfig
from mopref.conditioning.base_check import (
    base_check,
    difference_of_weights,
    sampled_numbers,
    shares_no_weight,
    storage_kinds,
)


def test_eight_numbers_of_every_weight_by_its_plain_name(make_lm):
    base = make_lm()
    samples = base_check(base)
    assert samples.keys() == {name for name, _ in base.named_parameters()}
    assert all(len(values) == 8 for values in samples.values())
    weight = dict(base.named_parameters())[
        name := next(name for name in samples if "layers.0" in name or "h.0" in name)
    ]
    flat = weight.detach().flatten()
    places = [int(index * (len(flat) - 1) / 7) for index in range(8)]
    assert samples[name] == [flat[place].item() for place in places]
    assert base_check(PreferenceModel(base, small_config()).base_model) == samples


def test_adapters_are_no_part_of_the_base(make_mlp):
    base = make_mlp()
    samples = base_check(base)
    assert base_check(conditioned(base).base_model) == samples


@pytest.mark.parametrize("size", [8, 90, 104, 128])
def test_an_enlarged_or_cut_vocabulary_is_the_same_base(size, make_lm):
    base = make_lm()
    samples = base_check(base)
    base.resize_token_embeddings(size, mean_resizing=False)
    assert difference_of_weights(samples, base, version=2) is None
    with torch.no_grad():
        base.get_input_embeddings().weight[:8] *= 2
    assert "the weights of" in difference_of_weights(samples, base, version=2)


def test_a_bias_of_the_head_has_a_row_for_each_token():
    class Headed(nn.Module):
        def __init__(self, rows):
            super().__init__()
            self.table, self.head = nn.Embedding(rows, 4), nn.Linear(4, rows)

        def get_input_embeddings(self):
            return self.table

        def get_output_embeddings(self):
            return self.head

    base, enlarged = Headed(10), Headed(16)
    with torch.no_grad():
        for small, large in zip(base.parameters(), enlarged.parameters(), strict=True):
            large[:10] = small
    assert difference_of_weights(base_check(base), enlarged, version=2) is None
    assert difference_of_weights(base_check(enlarged), base, version=2) is None


def test_token_tables_of_an_older_file_are_not_compared(make_llama):
    base = make_llama()
    samples = base_check(base)
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        samples[name] = [0.0] * 8
    assert difference_of_weights(samples, base, version=1) is None
    assert "embed_tokens" in difference_of_weights(samples, base, version=2)
    samples["model.norm.weight"] = [0.0] * 8
    assert "model.norm.weight" in difference_of_weights(samples, base, version=1)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_another_precision_is_the_same_base(dtype, make_lm):
    base = make_lm()
    samples = base_check(base)
    assert difference_of_weights(samples, copy.deepcopy(base).to(dtype), version=2) is None
    assert difference_of_weights(base_check(copy.deepcopy(base).to(dtype)), base, version=2) is None


def test_weights_that_are_stored_otherwise_are_not_compared(make_llama):
    base = make_llama()
    samples = base_check(base)
    packed = copy.deepcopy(base)
    packed.set_submodule("model.layers.0.mlp.up_proj", PackedLinear(packed.model.layers[0].mlp.up_proj))
    packed.model.layers[1].mlp = store_in_int8(packed.model.layers[1].mlp)
    missing = samples.keys() - base_check(packed).keys()
    assert missing == {"model.layers.0.mlp.up_proj.weight"} | {
        f"model.layers.1.mlp.{part}_proj.weight" for part in ("gate", "up", "down")
    }
    assert difference_of_weights(samples, packed, version=2) is None
    assert difference_of_weights(base_check(packed), base, version=2) is None
    with torch.no_grad():
        packed.model.layers[0].mlp.gate_proj.weight.mul_(1.5)
    assert "gate_proj" in difference_of_weights(samples, packed, version=2)


def test_the_weight_that_differs_is_named(make_mlp):
    base = make_mlp()
    samples = base_check(base)
    with torch.no_grad():
        base[2].bias += 1
    assert (
        difference_of_weights(samples, base, version=2) == "the weights of 2.bias differ from those it was trained on"
    )


def test_float_weights_are_of_one_kind_however_they_are_stored_or_computed():
    counting = nn.utils.parametrizations.spectral_norm(nn.Linear(4, 4)).train()
    before = counting.parametrizations.weight[0]._u.clone()
    layers = [nn.Linear(4, 4, dtype=dtype) for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16)]
    assert storage_kinds([*layers, nn.Linear(4, 4, device="meta"), counting]) == {"float": 6}
    assert torch.equal(counting.parametrizations.weight[0]._u, before)


def test_other_weights_are_told_by_the_class_that_quantises():
    eight_bits = nn.Linear(4, 4)
    eight_bits.weight = nn.Parameter(torch.zeros(4, 4, dtype=torch.float8_e4m3fn), requires_grad=False)
    without_weight = nn.Linear(4, 4)
    del without_weight.weight
    packed, stored = PackedLinear(nn.Linear(4, 4)), store_in_int8(nn.Sequential(nn.Linear(4, 4)))[0]
    assert storage_kinds([eight_bits, packed, packed, stored, without_weight]) == {
        "Linear": 1,
        "Linear float8_e4m3fn": 1,
        "PackedLinear int8": 2,
        "_Int8": 1,
    }


def test_whether_there_is_anything_to_compare(make_mlp):
    base = make_mlp()
    samples = base_check(base)
    assert not shares_no_weight(samples, base)
    assert not shares_no_weight({"0.bias": samples["0.bias"]}, base)
    assert shares_no_weight({"another": samples["0.bias"]}, base)
    assert not shares_no_weight({}, PackedLinear(nn.Linear(4, 4)))


def test_the_numbers_of_a_weight_are_spread_over_it():
    weight = nn.Parameter(torch.arange(15.0).reshape(5, 3))
    assert sampled_numbers(weight) == [0, 2, 4, 6, 8, 10, 12, 14]
    tall = nn.Parameter(torch.arange(40.0).reshape(20, 2))
    assert sampled_numbers(tall, of_first_rows=True) == [0, 2, 4, 6, 8, 10, 12, 15]
    assert sampled_numbers(nn.Parameter(torch.empty(0, 4))) == []
    assert sampled_numbers(nn.Parameter(torch.empty(2, device="meta"))) is None


def test_layers_around_linear_ones_are_no_part_of_the_base():
    for wrap in (
        lambda base: PreferenceModel(base, SVDLoRAConfig(("a", "b"))),
        lambda base: FiLMModel(base, 2, train_base=False),
    ):
        base = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
        samples = base_check(base)
        wrap(base)
        assert base_check(base) == samples
        assert storage_kinds([base[0], base[2]]) == {"float": 2}

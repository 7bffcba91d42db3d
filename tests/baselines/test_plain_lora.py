from dataclasses import replace

import pytest
import torch
from conftest import VOCABULARY

from mopref.baselines import mixed_model
from mopref.baselines.plain_lora import plain_config, plain_model, put_lora, trained_lora
from mopref.baselines.runs import Trainings, trained_parameters
from mopref.conditioning import SVDLoRAConfig

NAMES = ("helpful", "harmless")
ADAPTER = SVDLoRAConfig(NAMES, rank=2, preference_rank=1)
TOKENS = torch.randint(3, VOCABULARY, (3, 7), generator=torch.Generator().manual_seed(1))


def logits(model, preference=None):
    with torch.no_grad():
        given = {} if preference is None else {"preferences": torch.tensor(preference)}
        return model(input_ids=TOKENS, **given).logits


@pytest.mark.parametrize("preference", [[1.0, 0.0], [0.0, 1.0], [0.3, 0.7]])
def test_a_mixture_is_the_model_with_the_merged_weights(make_model, random_loras, merged, preference):
    model = mixed_model(make_model, ADAPTER, random_loras)
    expected = logits(merged(random_loras, preference))
    assert torch.allclose(logits(model, preference), expected, atol=1e-5)
    assert not torch.allclose(expected, logits(merged(random_loras, [0.0, 0.0])), atol=0.1)


def test_an_offset_counts_at_every_preference(make_model, random_loras, merged):
    model = mixed_model(make_model, ADAPTER, random_loras, slope=2.5, offset=-0.75)
    for first in (1.0, 0.4):
        weights = [2.5 * first - 0.75, 2.5 * (1 - first) - 0.75]
        assert torch.allclose(logits(model, [first, 1 - first]), logits(merged(random_loras, weights)), atol=1e-5)


def test_averaged_factors_are_another_matrix(make_model, random_loras):
    """The trap of averaging A and B by themselves, which the mixture must not fall into."""
    model = mixed_model(make_model, ADAPTER, random_loras)
    for name, layer in model.adapters.items():
        pairs = [lora.factors[name] for lora in random_loras]
        mixed = layer.delta_weight(torch.tensor([0.5, 0.5]))
        exact = sum(0.5 * b @ a for a, b in pairs)
        averaged = (0.5 * (pairs[0][1] + pairs[1][1])) @ (0.5 * (pairs[0][0] + pairs[1][0]))
        assert (mixed - exact).norm() < 1e-6 * exact.norm()
        assert (averaged - exact).norm() > 0.3 * exact.norm()


def test_a_mixture_needs_a_lora_for_each_objective_of_one_rank(make_model, random_loras):
    with pytest.raises(ValueError, match="3 LoRAs"):
        mixed_model(make_model, ADAPTER, [*random_loras, random_loras[0]])
    other = random_loras[1]._replace(factors={k: (a[:2], b[:, :2]) for k, (a, b) in random_loras[1].factors.items()})
    with pytest.raises(ValueError, match=r"ranks \[2, 4\]"):
        mixed_model(make_model, ADAPTER, [random_loras[0], other])


def test_a_plain_model_is_one_lora_whatever_the_preference(make_model, random_loras, merged):
    model = plain_model(make_model, ADAPTER)
    put_lora(model, random_loras[0])
    expected = logits(merged(random_loras, [1.0, 0.0]))
    for preference in ([1.0, 0.0], [0.2, 0.8]):
        assert torch.allclose(logits(model, preference), expected, atol=1e-5)
    put_lora(model, random_loras[1])
    assert torch.allclose(logits(model, [1.0, 0.0]), logits(merged(random_loras, [0.0, 1.0])), atol=1e-5)


def test_all_that_is_trained_is_a_lora_of_the_same_total_rank(make_model, make_setup):
    model = plain_model(make_model, ADAPTER)
    sizes = sum(layer.n_in + layer.n_out for layer in model.adapters.values())
    assert trained_parameters(model) == ADAPTER.total_rank * sizes
    before = {name: layer.V[:, ADAPTER.total_rank :].clone() for name, layer in model.adapters.items()}
    made = []
    setup = make_setup(make_model=lambda config: made.append(make_model(config)) or made[-1])
    lora = trained_lora(Trainings(setup), [0.5, 0.5])
    assert lora.num_parameters == lora.cost.trained_parameters == ADAPTER.total_rank * sizes
    for name, layer in made[0].adapters.items():
        assert torch.equal(layer.V[:, ADAPTER.total_rank :], before[name])
        assert not layer.U[:, ADAPTER.total_rank :].any()
        a, b = lora.factors[name]
        assert torch.allclose(b @ a, layer.delta_weight(torch.tensor([0.1, 0.9])))
        assert b.any()


def test_scaling_is_in_the_factors(make_model, make_setup):
    adapter = replace(ADAPTER, scaling=3.0)
    made = []
    setup = make_setup(adapter=adapter, make_model=lambda config: made.append(make_model(config)) or made[-1])
    lora = trained_lora(Trainings(setup), [0.5, 0.5])
    again = plain_model(make_model, adapter)
    put_lora(again, lora)
    for name, layer in made[0].adapters.items():
        delta = layer.delta_weight(torch.tensor([1.0, 0.0]))
        a, b = lora.factors[name]
        assert torch.allclose(b @ a, delta, atol=1e-7)
        assert torch.allclose(again.adapters[name].delta_weight(torch.tensor([1.0, 0.0])), delta, atol=1e-7)


@pytest.mark.parametrize("options", [{"gate": "layer-mlp"}, {"gate": "shared-mlp"}, {"core": "full"}])
def test_a_plain_lora_has_no_gate_or_core_of_the_setups(options, make_setup, make_model, random_loras):
    """What a curved gate or a core learned would be lost where the factors alone are read."""
    adapter = replace(ADAPTER, **options)
    assert plain_config(adapter) == plain_config(ADAPTER)
    assert mixed_model(make_model, adapter, random_loras).adapter_config.gate == "linear"
    found = [trained_lora(Trainings(make_setup(adapter=own)), [0.5, 0.5]).factors for own in (ADAPTER, adapter)]
    for name, factors in found[0].items():
        assert all(torch.equal(*pair) for pair in zip(factors, found[1][name], strict=True))

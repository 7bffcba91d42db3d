"""The fast forward is the plain one: the same values and gradients, packed and with its head on single tokens."""

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from mopref import PreferenceModel, SVDLoRAConfig
from mopref.evaluation_mode import disable_dropout
from mopref.llm.data.sequences import collate_sequences
from mopref.llm.policy import Policy, Sampling, forward_traits as traits_module
from mopref.llm.policy.forward_traits import ForwardTraits, forward_traits

sys.path.append(str(Path(__file__).parents[2] / "families"))
from tiny_models import tiny_model

NAMES = ("helpful", "harmless", "concise")
FAMILIES = ["llama", "qwen3", "gemma3_text", "gpt2"]
PREFERENCES = torch.tensor([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0], [0.0, 0.5, 0.5], [0.2, 0.3, 0.5]])
PLAIN = ForwardTraits(None, packs=False)


def model_of(base: nn.Module, dtype: torch.dtype = torch.float64, **options) -> PreferenceModel:
    model = PreferenceModel(base.to(dtype), SVDLoRAConfig(NAMES, rank=3, preference_rank=2, **options))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model


def pairs(vocabulary: int):
    """Four prompts with two responses each, all of unlike length."""
    generator = torch.Generator().manual_seed(2)

    def ids(count: int) -> list[int]:
        return torch.randint(3, vocabulary, (count,), generator=generator).tolist()

    prompts = [ids(count) for count in (3, 9, 1, 5)]
    return collate_sequences(prompts * 2, [ids(count) for count in (2, 6, 1, 4, 7, 1, 3, 4)])


def outputs(model, sequences, traits, monkeypatch, sampling=None, **options):
    """Values, and gradients of an uneven sum, with the model's traits in place of what was found."""
    monkeypatch.setitem(traits_module._traits, model, traits)
    found = Policy(model, sampling).token_outputs(sequences, PREFERENCES.repeat(2, 1), **options)
    weights = torch.linspace(-1, 2, found.log_probabilities.numel()).view_as(found.log_probabilities)
    total = (found.log_probabilities * weights).sum()
    if found.head_inputs is not None:
        total = total + (found.head_inputs * sequences.response_mask.unsqueeze(-1)).square().sum()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return found, torch.autograd.grad(total, trained)


def assert_the_same(one, other, relative: float = 2e-6):
    """In float64, up to norms and softmax, which models of transformers compute in float32."""
    torch.testing.assert_close(other[0].log_probabilities, one[0].log_probabilities, atol=relative, rtol=relative)
    expected, gradients = (torch.cat([part.flatten() for part in each[1]]) for each in (one, other))
    assert (gradients - expected).norm() <= relative * expected.norm()
    # Small ones, too: those of σ and the scale.
    for single, gradient in zip(one[1], other[1], strict=True):
        assert (gradient - single).norm() <= 100 * relative * single.norm()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("checkpointing", [False, True], ids=["", "checkpointing"])
def test_values_and_gradients_of_families(family, checkpointing, monkeypatch):
    model = model_of(tiny_model(family)).train()
    disable_dropout(model)
    if checkpointing:
        model.gradient_checkpointing_enable()
    sequences = pairs(model.config.get_text_config().vocab_size)
    traits = forward_traits(model)
    assert traits.packs
    assert traits.change is not None
    plain = outputs(model, sequences, PLAIN, monkeypatch)
    assert_the_same(plain, outputs(model, sequences, traits, monkeypatch))
    assert_the_same(plain, outputs(model, sequences, traits._replace(packs=False), monkeypatch))


@pytest.mark.parametrize("traits", [{}, {"packs": False}], ids=["packed", "not packed"])
@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=0.7, stop_token_ids=(5, 6), min_new_tokens=2),
        Sampling(stop_token_ids=(5,), max_new_tokens=9),
    ],
    ids=["temperature", "stop"],
)
def test_sampling_settings_and_head_inputs(sampling, traits, make_llama, monkeypatch):
    model = model_of(make_llama())
    sequences, found = pairs(64), forward_traits(model)._replace(**traits)
    plain = outputs(model, sequences, PLAIN, monkeypatch, sampling, with_head_inputs=True)
    fast = outputs(model, sequences, found, monkeypatch, sampling, with_head_inputs=True)
    assert_the_same(plain, fast)
    mask = sequences.response_mask
    torch.testing.assert_close(fast[0].head_inputs[mask], plain[0].head_inputs[mask], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("traits", [{}, {"packs": False}], ids=["packed", "not packed"])
def test_an_adapted_head(traits, make_llama, monkeypatch):
    model = model_of(make_llama(), target_modules=("lm_head", "q_proj"))
    sequences = pairs(64)
    plain = outputs(model, sequences, PLAIN, monkeypatch)
    assert_the_same(plain, outputs(model, sequences, forward_traits(model)._replace(**traits), monkeypatch))


def test_kept_activations_are_packed_too(make_llama, monkeypatch):
    model = model_of(make_llama(), layers=(-1,))
    sequences = pairs(64)
    kept = Policy(model).with_lower_hidden_states(sequences)
    plain = outputs(model, sequences, PLAIN, monkeypatch)
    assert_the_same(plain, outputs(model, kept, forward_traits(model), monkeypatch))


def test_the_reference_is_packed_too(make_llama, monkeypatch):
    model = model_of(make_llama())
    sequences = pairs(64)
    packed = Policy(model).reference_log_probabilities(sequences)
    monkeypatch.setitem(traits_module._traits, model, PLAIN)
    torch.testing.assert_close(packed, Policy(model).reference_log_probabilities(sequences), atol=1e-5, rtol=1e-5)


def test_fewer_tokens_and_no_logits(make_llama):
    """Of 8 sequences of 9 + 7 columns, prompts stand once, and no padding but at the ends of rows."""
    model, sequences, seen = model_of(make_llama()), pairs(64), []
    forward_traits(model)

    def watch(module, arguments, options, output):
        seen.append((options["input_ids"].numel(), output.logits.shape[-1]))

    handle = model.base_model.register_forward_hook(watch, with_kwargs=True)
    Policy(model).token_log_probabilities(sequences, PREFERENCES.repeat(2, 1))
    handle.remove()
    ((tokens, width),) = seen
    assert width == 1
    assert tokens <= 0.5 * sequences.input_ids.numel()


@pytest.mark.parametrize("family", FAMILIES)
def test_single_precision_is_within_its_rounding(family, monkeypatch):
    model = model_of(tiny_model(family), torch.float32)
    sequences = pairs(model.config.get_text_config().vocab_size)
    traits = forward_traits(model)
    plain, fast = (outputs(model, sequences, each, monkeypatch) for each in (PLAIN, traits))
    assert_the_same(plain, fast, relative=1e-5)


def test_in_the_mixed_precision_in_force(make_llama, monkeypatch):
    """The mask is of the type that attention runs in, and log-probabilities are single precision."""
    model, sequences = model_of(make_llama(), torch.float32), pairs(64)
    traits = forward_traits(model)
    with torch.autocast("cpu", dtype=torch.bfloat16, cache_enabled=False):
        plain = outputs(model, sequences, PLAIN, monkeypatch)
        fast = outputs(model, sequences, traits, monkeypatch)
    assert fast[0].log_probabilities.dtype == torch.float32
    torch.testing.assert_close(fast[0].log_probabilities, plain[0].log_probabilities, atol=0.2, rtol=0.05)


class Wrapped(nn.Module):
    """As what distributes a model wraps it: it watches the output for the backward pass."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module, self.passes = module, 0

    def forward(self, *arguments, **options):
        output = self.module(*arguments, **options)
        if output.logits.requires_grad:
            output.logits.register_hook(self._count)
        return output

    def _count(self, gradient):
        self.passes += 1


def test_what_wraps_the_model_sees_the_backward_pass(make_llama):
    model, sequences = model_of(make_llama()), pairs(64)
    wrapped = Wrapped(model)
    values = Policy(wrapped).token_log_probabilities(sequences, PREFERENCES.repeat(2, 1))
    torch.testing.assert_close(values, Policy(model).token_log_probabilities(sequences, PREFERENCES.repeat(2, 1)))
    values.sum().backward()
    assert wrapped.passes == 1

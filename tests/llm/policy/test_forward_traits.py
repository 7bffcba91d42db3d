"""What a model is tried for: it is run packed where that is right, and told why it is not where it is wrong."""

import sys
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

from mopref import PreferenceModel, SVDLoRAConfig
from mopref.llm.data.sequences import collate_sequences
from mopref.llm.policy import Policy
from mopref.llm.policy.forward_traits import _try_forwards, forward_traits, tell_plain_rows

sys.path.append(str(Path(__file__).parents[2] / "families"))
from tiny_models import PACKED_BASES, PACKED_PACKAGES, tiny_model

CONFIG = SVDLoRAConfig(("a", "b"), rank=2)


def model_of(family: str) -> PreferenceModel:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return PreferenceModel(tiny_model(family), CONFIG)


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma2", "gpt2", "granite", "cohere", "opt", "qwen3_moe"])
def test_models_of_attention_to_everything_are_packed(family):
    traits = forward_traits(model_of(family))
    assert traits.packs, traits.reason
    assert traits.change is not None


@pytest.mark.parametrize("family", ["mpt", "bloom", "mamba", "rwkv"])
def test_models_that_go_by_places_are_not(family):
    model = model_of(family)
    traits = forward_traits(model)
    assert not traits.packs
    assert traits.reason
    with pytest.warns(UserWarning, match=rf"{type(model.base_model).__name__} are padded and not packed, .*: "):
        tell_plain_rows(model, 5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tell_plain_rows(model, 5)
    # Right all the same.
    prompts, responses = [[5, 6, 7]] * 2, [[8, 9], [4, 5]]
    together = Policy(model).sequence_log_probabilities(collate_sequences(prompts, responses), [[1.0, 0.0]])
    alone = [
        Policy(model).sequence_log_probabilities(collate_sequences([p], [r]), [[1.0, 0.0]])
        for p, r in zip(prompts, responses, strict=True)
    ]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", PACKED_BASES)
def test_quantised_bases_are_packed_whatever_their_activations_are_rounded_to(name):
    """In 8 bits two ways of the same sums differ by what another row and the last bit of an input make of rounding."""
    pytest.importorskip(PACKED_PACKAGES[name])
    model = PreferenceModel(PACKED_BASES[name](), CONFIG)
    for seed in range(5):
        with torch.no_grad():
            for layer in model.adapters.values():
                layer.U.normal_(0, 0.05, generator=torch.Generator().manual_seed(seed))
        found = _try_forwards(model)
        assert found.packs, found.reason
        assert found.change is not None


def test_nothing_is_told_of_a_model_that_is_packed(make_llama):
    model = PreferenceModel(make_llama(), CONFIG)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tell_plain_rows(model, 10_000)


def test_rows_beyond_a_window_are_padded_and_told():
    """Of a packed row a layer that sees eight tokens back would see another distance."""
    model = PreferenceModel(tiny_model("mistral", sliding_window=8), CONFIG)
    traits = forward_traits(model)
    assert (traits.packs, traits.longest_row) == (False, None) or traits.longest_row == 8
    if traits.packs:
        tell_plain_rows(model, 8)
        with pytest.warns(UserWarning, match="the longest row has 9 tokens, and some of its layers see 8 only"):
            tell_plain_rows(model, 9)


def test_a_rule_for_logits_that_changes_little_is_not_missed(monkeypatch):
    """A cap of 30 on logits of some units changes them by a hundredth."""
    model = model_of("recurrent_gemma")
    assert forward_traits(model).change is not None
    monkeypatch.setattr("mopref.llm.policy.forward_traits.known_changes", lambda config: [lambda logits: logits])
    assert forward_traits(model_of("recurrent_gemma")).change is None


class Doubled(nn.Module):
    """Doubles what a head makes, by no rule that a configuration says."""

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base, self.config = base, base.config

    def forward(self, **options):
        output = self.base(**options)
        output.logits = 2 * output.logits
        return output

    def get_output_embeddings(self):
        return self.base.get_output_embeddings()

    def get_input_embeddings(self):
        return self.base.get_input_embeddings()


def test_an_unknown_rule_for_logits_has_them_made_in_full(make_llama):
    model = PreferenceModel(Doubled(make_llama()), CONFIG)
    traits = forward_traits(model)
    assert traits.change is None
    assert not traits.packs
    assert "without all of its logits it gives other log-probabilities" in traits.reason
    sequences = collate_sequences([[5, 6, 7]] * 2, [[8, 9], [4, 5]])
    values = Policy(model).token_log_probabilities(sequences, [[1.0, 0.0]])
    logits = model(input_ids=sequences.input_ids, preferences=[1.0, 0.0]).logits[:, 2:-1]
    expected = logits.log_softmax(dim=-1).gather(-1, sequences.targets.unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(values, expected)


def test_tried_with_adapters_on_also_where_the_reference_asks_first(make_llama):
    model = PreferenceModel(make_llama(), CONFIG)
    with model.disabled():
        assert forward_traits(model).packs
    assert model.state.enabled


def test_tried_once_and_nothing_is_changed(make_llama):
    model = PreferenceModel(make_llama(), CONFIG).train()
    state = torch.get_rng_state()
    traits = forward_traits(model)
    assert model.training
    assert torch.get_rng_state().equal(state)
    calls = []
    handle = model.base_model.register_forward_hook(lambda *_: calls.append(1))
    assert forward_traits(model) is traits
    handle.remove()
    assert not calls
    assert not model.base_model.get_input_embeddings()._forward_hooks

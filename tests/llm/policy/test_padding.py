"""How a language model takes padded rows: tried once, on a few tokens, with the adapters out of the way."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from mopref import PreferenceModel, SVDLoRAConfig
from mopref.llm.data.sequences import collate_sequences
from mopref.llm.policy import Policy
from mopref.llm.policy.model_kind import refuse_other_kinds
from mopref.llm.policy.padding import PaddingTraits, equal_groups, padding_traits
from mopref.mixed_precision import autocast

sys.path.append(str(Path(__file__).parents[2] / "families"))

pytestmark = pytest.mark.filterwarnings("ignore:.*without an adapter:UserWarning")
CONFIG = SVDLoRAConfig(objectives=("a", "b"), rank=2, preference_rank=2)
PROMPTS = [[50, 7, 33], [12], [9, 41, 25, 60, 8]]
RESPONSES = [[20, 30], [40, 50, 60], [70]]


def conditioned(family: str) -> PreferenceModel:
    from tiny_models import tiny_model

    model = PreferenceModel(tiny_model(family), CONFIG).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for layer in model.adapters.values():
            layer.U.normal_(0, 0.3, generator=generator)
    return model


def plain_log_probability(model: nn.Module, prompt: list[int], response: list[int], **options) -> float:
    """By a forward of the row alone, to which no positions and no mask are given."""
    logits = model(input_ids=torch.tensor([prompt + response]), **options).logits[0].log_softmax(dim=-1)
    places = range(len(prompt) - 1, len(prompt) + len(response) - 1)
    return sum(logits[place, token].item() for place, token in zip(places, response, strict=True))


@torch.no_grad()
@pytest.mark.parametrize(
    ("family", "offset"),
    [("llama", 0), ("gpt2", 0), ("opt", 0), ("roberta", 1), ("xlm-roberta", 1), ("camembert", 1), ("data2vec-text", 1)],
)
def test_positions_begin_where_the_model_begins_them(family, offset):
    model = conditioned(family)
    assert padding_traits(model) == PaddingTraits(offset, True)
    preferences = torch.tensor([[1.0, 0.0], [0.3, 0.7], [0.0, 1.0]])
    found = Policy(model).sequence_log_probabilities(collate_sequences(PROMPTS, RESPONSES), preferences)
    rows = zip(PROMPTS, RESPONSES, preferences, strict=True)
    expected = [plain_log_probability(model, prompt, response, preferences=row) for prompt, response, row in rows]
    torch.testing.assert_close(found, torch.tensor(expected), atol=2e-4, rtol=2e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("family", "offset"), [("roberta", 1), ("data2vec-text", 1), ("gpt2", 0)])
def test_positions_that_matter_little_are_told_in_half_precision_too(family, offset, dtype):
    from tiny_models import tiny_model

    base = tiny_model(family)
    with torch.no_grad():
        for name, parameter in base.named_parameters():
            if "position" in name or "wpe" in name:
                parameter.mul_(0.2)
    assert padding_traits(PreferenceModel(base.to(dtype), CONFIG)) == PaddingTraits(offset, True)


class Counting(nn.Module):
    """A language model whose logits are a function of the tokens up to each place, padding included or not."""

    def __init__(self, left: bool = True, right: bool = True) -> None:
        super().__init__()
        self.config = SimpleNamespace(vocab_size=50, get_text_config=lambda: self.config)
        self.embedding, self.inner = nn.Embedding(50, 4), nn.Linear(4, 50)
        self.left, self.right, self.calls = left, right, 0

    def forward(self, input_ids, attention_mask=None, position_ids=None, use_cache=None, logits_to_keep=0):
        self.calls += 1
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        x = self.embedding(input_ids) * (mask if self.left else torch.ones_like(mask)).unsqueeze(-1)
        sums = x.cumsum(dim=1) if self.right else x.cumsum(dim=1) + x.shape[1]
        return SimpleNamespace(logits=self.inner(sums)[:, -logits_to_keep:])


def test_it_is_tried_once_with_disabled_adapters_and_leaves_no_trace():
    base = Counting()
    model = PreferenceModel(base, CONFIG).train()
    with torch.no_grad():
        for layer in model.adapters.values():
            layer.U.fill_(torch.nan)
    assert padding_traits(model) == PaddingTraits(0, True)
    calls = base.calls
    assert 2 <= calls <= 4
    assert padding_traits(model) == PaddingTraits(0, True)
    assert base.calls == calls
    assert model.training
    assert base.training
    assert model.state.enabled
    other = PreferenceModel(Counting(left=False), CONFIG)
    assert padding_traits(other) == PaddingTraits(0, False)


def test_a_model_that_padding_disturbs_on_both_sides_is_refused():
    model = PreferenceModel(Counting(left=False, right=False), CONFIG)
    with pytest.raises(ValueError, match="Counting gives other logits for a row that is padded, on either side"):
        Policy(model).token_log_probabilities(collate_sequences(PROMPTS, RESPONSES), torch.tensor([[0.5, 0.5]]))


class Rounded(Counting):
    """Padding changes its logits as much as half precision rounds them, whatever type they are in."""

    def forward(self, input_ids, **inputs):
        output = super().forward(input_ids, **inputs)
        rounding = 2**-8 * output.logits.abs().max() * (input_ids.shape[1] - 5)
        return SimpleNamespace(logits=(output.logits + rounding).float())


@pytest.mark.parametrize("mixed_precision", [None, "bf16"])
def test_rounding_in_mixed_precision_is_no_matter_of_padding(mixed_precision):
    """Also where the outputs come in float32, as from a forward that accelerate prepared."""
    model = PreferenceModel(Rounded(), CONFIG)
    with autocast(torch.device("cpu"), mixed_precision):
        if mixed_precision is None:
            with pytest.raises(ValueError, match="Rounded gives other logits for a row that is padded"):
                padding_traits(model)
        else:
            assert padding_traits(model) == PaddingTraits(0, True)


def test_of_a_network_of_ones_own_the_author_knows(make_mlp):
    assert padding_traits(PreferenceModel(make_mlp(), CONFIG)) == PaddingTraits(0, True)


@torch.no_grad()
@pytest.mark.parametrize("per_row", [True, False])
def test_rows_that_bear_no_padding_on_the_left_are_run_without_it(per_row):
    base = Counting(left=False)
    model = PreferenceModel(base, CONFIG).eval()
    for layer in model.adapters.values():
        layer.U.normal_(0, 0.5, generator=torch.Generator().manual_seed(0))
    prompts = [*PROMPTS, [5, 6, 7]]
    prompts = [[token % 50 for token in prompt] for prompt in prompts]
    responses = [[token % 50 for token in response] for response in [*RESPONSES, [44, 45]]]
    preferences = (
        torch.tensor([[1.0, 0.0], [0.3, 0.7], [0.0, 1.0], [0.6, 0.4]]) if per_row else torch.tensor([[0.3, 0.7]])
    )
    outputs = Policy(model).sequence_log_probabilities(collate_sequences(prompts, responses), preferences)
    rows = zip(prompts, responses, preferences.expand(4, 2), strict=True)
    expected = [plain_log_probability(model, prompt, response, preferences=row) for prompt, response, row in rows]
    torch.testing.assert_close(outputs, torch.tensor(expected), atol=1e-4, rtol=1e-4)
    assert len(set(expected)) == 4


@pytest.mark.parametrize(
    ("keys", "groups"),
    [([], []), ([3], [[0]]), ([3, 5, 3, 5, 3], [[0, 2, 4], [1, 3]]), (["b", "a", "b"], [[0, 2], [1]])],
)
def test_equal_groups(keys, groups):
    assert equal_groups(keys) == groups


# Encoder-decoders.


@pytest.mark.parametrize("name", ["t5-encoder-decoder", "bart-encoder-decoder"])
def test_an_encoder_decoder_is_refused_before_it_runs(name):
    pytest.importorskip("transformers")
    from tiny_models import SEQUENCE_TO_SEQUENCE

    base = SEQUENCE_TO_SEQUENCE[name]()
    model = PreferenceModel(base, CONFIG)
    message = rf"{type(base).__name__} is an encoder-decoder: .* Use a causal language model"
    for network in (model, base, nn.DataParallel(model)):
        with pytest.raises(ValueError, match=message):
            Policy(network)
    with pytest.raises(ValueError, match=message):
        refuse_other_kinds(base)


def test_a_causal_model_and_a_network_without_settings_are_not(make_lm, make_mlp):
    for base in (make_lm(), make_mlp()):
        refuse_other_kinds(base)
    # The decoder of an encoder-decoder, alone, is a causal language model.
    assert padding_traits(conditioned("bart")).position_offset == 0

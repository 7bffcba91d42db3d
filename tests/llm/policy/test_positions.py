"""How many tokens a model takes, as its own forward tells, and rows beyond: refused, or told once."""

import warnings

import pytest
import torch
from torch import nn
from transformers import (
    BartConfig,
    BartForCausalLM,
    BloomConfig,
    BloomForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPTJConfig,
    GPTJForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MptConfig,
    MptForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    RobertaConfig,
    RobertaForCausalLM,
)

from mopref import PreferenceModel, SVDLoRAConfig
from mopref.llm.policy import Policy, Sampling
from mopref.llm.policy.positions import PositionLimits, check_lengths, check_one_scaling, position_limits

SIZES = {"vocab_size": 90, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2}
HALF = 4
LONG = {"short_factor": [1.0] * HALF, "long_factor": [1.0, 2.0, 8.0, 30.0], "factor": 8.0}


def _llama(rope_type: str = "default", positions: int = 24, **rope) -> nn.Module:
    parameters = {"rope_type": rope_type, "rope_theta": 10000.0, **rope}
    return LlamaForCausalLM(
        LlamaConfig(**SIZES, **HEADS, max_position_embeddings=positions, rope_parameters=parameters)
    ).eval()


def _longrope() -> nn.Module:
    return _llama("longrope", 64, original_max_position_embeddings=16, **LONG)


def _dynamic() -> nn.Module:
    return _llama("dynamic", 16, factor=4.0)


def _learned(make_gpt2) -> nn.Module:
    return make_gpt2(n_positions=24)


def _behind_padding(_) -> nn.Module:
    config = RobertaConfig(**SIZES, num_attention_heads=4, max_position_embeddings=24, pad_token_id=1, is_decoder=True)
    return RobertaForCausalLM(config).eval()


def _with_offset(_) -> nn.Module:
    config = OPTConfig(vocab_size=90, hidden_size=32, ffn_dim=48, num_hidden_layers=2, num_attention_heads=4)
    config.max_position_embeddings, config.word_embed_proj_dim = 24, 32
    return OPTForCausalLM(config).eval()


def _sinusoidal(_) -> nn.Module:
    config = GPTJConfig(vocab_size=90, n_embd=32, n_layer=2, n_head=4, n_positions=24, rotary_dim=4)
    return GPTJForCausalLM(config).eval()


def _decoder(_) -> nn.Module:
    sizes = {"decoder_ffn_dim": 48, "decoder_attention_heads": 4, "decoder_layers": 2}
    return BartForCausalLM(BartConfig(vocab_size=90, d_model=32, max_position_embeddings=24, **sizes)).eval()


def _biases(_) -> nn.Module:
    return MptForCausalLM(MptConfig(vocab_size=90, d_model=32, n_layers=2, n_heads=4, max_seq_len=24)).eval()


def _rotary(_) -> nn.Module:
    return _llama()


def _rotary_of_two_kinds(_) -> nn.Module:
    return Gemma3ForCausalLM(Gemma3TextConfig(**SIZES, **HEADS, head_dim=8, max_position_embeddings=24)).eval()


def _runs(base: nn.Module, tokens: int) -> bool:
    try:
        with torch.no_grad():
            base(input_ids=(5 + torch.arange(tokens) % 80).view(1, -1), use_cache=False)
    except (IndexError, RuntimeError):
        return False
    return True


@pytest.mark.parametrize(
    ("make", "tokens", "ends"),
    [
        (_learned, 24, True),
        (_behind_padding, 22, True),
        (_with_offset, 24, True),
        (_sinusoidal, 24, True),
        (_decoder, 24, True),
        (_biases, 24, True),
        (_rotary, 24, False),
        (_rotary_of_two_kinds, 24, False),
    ],
    ids=lambda part: getattr(part, "__name__", str(part)),
)
def test_the_limit_is_the_forwards_own(make, tokens, ends, make_gpt2):
    base = make(make_gpt2)
    assert position_limits(base) == PositionLimits(tokens, ends)
    assert _runs(base, tokens)
    assert _runs(base, tokens + 1) is not ends


def test_no_limit_where_nothing_is_known(make_mlp):
    bloom = BloomForCausalLM(BloomConfig(vocab_size=90, hidden_size=32, n_layer=2, n_head=4))
    for base in (make_mlp(), bloom):
        assert position_limits(base) == PositionLimits(None)
        check_lengths(base, [10**6])
        check_one_scaling(base, [1, 10**6])


def test_where_a_scaling_changes():
    assert position_limits(_longrope()) == PositionLimits(64, False, threshold=16, grows=False)
    assert position_limits(_dynamic()) == PositionLimits(16, False, threshold=16, grows=True)
    assert position_limits(_llama("linear", factor=2.0)).threshold is None
    # By the kind of layer.
    base = _rotary_of_two_kinds(None)
    base.config.rope_parameters["full_attention"] |= {"rope_type": "dynamic", "factor": 4.0}
    assert position_limits(base) == PositionLimits(24, False, threshold=24, grows=True)


@pytest.mark.parametrize("new_tokens", [0, 10])
def test_too_long_for_a_table(new_tokens, make_gpt2):
    base = make_gpt2(n_positions=24)
    fits = [3, 24 - new_tokens, 5]
    check_lengths(base, fits, new_tokens=new_tokens)
    check_lengths(base, [], new_tokens=new_tokens)
    more = r", and with max_new_tokens = 10 up to 25" if new_tokens else ""
    remedy = "lower max_new_tokens" if new_tokens else "max_response_length"
    message = rf"prompt 1 has {25 - new_tokens} tokens{more}, but GPT2LMHeadModel has 24 positions: .*{remedy}"
    with pytest.raises(ValueError, match=message):
        check_lengths(base, [3, 25 - new_tokens, 5], "prompt", new_tokens)


def test_too_long_for_what_it_was_made_for_is_told_once():
    base = _llama()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_lengths(base, [24])
    with pytest.warns(UserWarning, match=r"row 1 has 25 tokens, but LlamaForCausalLM was made for 24"):
        check_lengths(base, [2, 25])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_lengths(base, [2, 99])
    with pytest.warns(UserWarning, match="row 0 has 26 tokens"):
        check_lengths(_llama(), [26])


@pytest.mark.parametrize(
    ("make", "lengths", "new_tokens", "passes"),
    [
        (_longrope, [3, 16], 0, True),
        (_longrope, [3, 17], 0, False),
        (_longrope, [17, 40], 0, True),
        (_longrope, [3, 6], 10, True),
        (_longrope, [3, 7], 10, False),
        (_longrope, [16, 20], 10, True),
        (_longrope, [15, 20], 10, False),
        (_dynamic, [3, 16], 0, True),
        (_dynamic, [17, 40], 0, False),
        (_rotary, [3, 24], 0, True),
    ],
    ids=lambda part: getattr(part, "__name__", str(part)),
)
def test_rows_on_both_sides_of_a_threshold(make, lengths, new_tokens, passes):
    """Beyond it the dynamic scaling goes on changing, so that no row may be there at all."""
    base = make(None) if make is _rotary else make()
    if passes:
        check_one_scaling(base, lengths, "row", new_tokens)
        return
    with pytest.raises(ValueError, match=r"row 1 has .*LlamaForCausalLM scales .* more than 16, for all of its rows"):
        check_one_scaling(base, lengths, "row", new_tokens)


@pytest.mark.parametrize("make", [_longrope, _dynamic])
def test_a_row_does_change_with_its_neighbours_there(make):
    """Guards the test above: what is refused would differ, and what passes does not."""
    base = make()
    ids = 5 + torch.arange(40).view(1, -1) % 80
    with torch.no_grad():
        short, padded = ids[:, :12], torch.cat([ids[:, :12], torch.zeros(1, 28, dtype=torch.int64)], dim=1)
        alone, near, beside = (
            base(rows).logits[:1, :12]
            for rows in (short, torch.cat([padded[:, :16], ids[:, :16]]), torch.cat([padded, ids]))
        )
    assert (alone - beside).abs().max() > 1e-4
    torch.testing.assert_close(near, alone, atol=1e-5, rtol=1e-4)


def test_the_policy_asks_its_own_model_before_it_samples(make_gpt2):
    model = PreferenceModel(make_gpt2(n_positions=24), SVDLoRAConfig(objectives=("a", "b")))
    policy = Policy(model, Sampling(max_new_tokens=20, stop_token_ids=()))
    with pytest.raises(ValueError, match="row 0 has 25 tokens, but GPT2LMHeadModel has 24 positions"):
        policy.check_lengths([25])
    calls = []
    model.base_model.register_forward_pre_hook(lambda *_: calls.append(1))
    with pytest.raises(ValueError, match=r"prompt 1 has 5 tokens, and with max_new_tokens = 20 up to 25"):
        policy.sample([[7], [7] * 5], torch.tensor([[0.5, 0.5]]), 1)
    assert not calls
    dynamic = PreferenceModel(_dynamic(), SVDLoRAConfig(objectives=("a", "b")))
    with pytest.raises(ValueError, match="scales its rotary positions in another way"):
        Policy(dynamic).check_lengths([17])

from itertools import islice

import pytest
import torch

pytest.importorskip("transformers")

from tiny_models import FAMILIES, MISSING, VOCABULARY, WINDOW, tiny_config, tiny_model


def _names_in_transformers() -> set[str]:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    return set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


@pytest.mark.skipif(
    "inkling2_text" not in _names_in_transformers(), reason="the list is that of a later release of transformers"
)
def test_every_family_of_the_release_is_made_or_named_with_a_reason():
    assert not FAMILIES.keys() & MISSING.keys()
    assert FAMILIES.keys() | MISSING.keys() >= _names_in_transformers()
    assert all(reason.endswith(".") for reason in MISSING.values())


def test_the_same_small_model_at_every_call():
    state = torch.random.get_rng_state()
    first, second = tiny_model("llama"), tiny_model("llama")
    assert torch.random.get_rng_state().equal(state)
    ids = torch.arange(5, 25).view(1, 20)
    with torch.no_grad():
        logits = first(input_ids=ids).logits
        assert logits.equal(second(input_ids=ids).logits)
    assert logits.shape == (1, 20, VOCABULARY)
    assert logits.std() > 0.5
    assert not first.training


def test_sizes_are_small_and_ids_are_in_the_vocabulary():
    known = [family for family in FAMILIES if family in _names_in_transformers()]
    assert len(known) > 100
    for family in islice(known, 0, None, 9):
        config = tiny_config(family)
        ids = [getattr(config, f"{name}_token_id", None) for name in ("pad", "bos", "eos")]
        assert all(token is None or token < VOCABULARY for token in ids), family
        assert config.hidden_size <= 128, family


def test_attention_is_mixed_where_a_family_mixes_it():
    for family in ("gemma3_text", "qwen3", "cohere2", "gpt_oss"):
        config = tiny_config(family)
        assert set(config.layer_types) == {"sliding_attention", "full_attention"}, family
        assert config.sliding_window == WINDOW, family

"""Keys and values computed under one preference are not gone on with under another."""

import inspect
from types import SimpleNamespace

import pytest
import torch
from conditioned_networks import IDS, conditioned
from tiny_models import tiny_model
from transformers import LlamaForCausalLM

from mopref.conditioning.cache_mark import check_cache, mark_cache

ROWS = torch.tensor([[1.0, 0.0], [0.3, 0.7]])


NAMES = ["cache", "past_key_values", "cache_params"]
# By which of these this version of transformers takes a cache.
KNOWN = ["past_key_values", *({"cache"} & inspect.signature(LlamaForCausalLM.forward).parameters.keys())]


def marked(preferences: torch.Tensor | None, name: str) -> dict[str, SimpleNamespace]:
    """Arguments with a cache that came out of a forward under the preferences."""
    cache = SimpleNamespace()
    mark_cache(SimpleNamespace(**{name: cache}), preferences)
    return {name: cache}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("preferences", [ROWS, ROWS[:1], None])
def test_the_same_preference_goes_on(preferences, name):
    check_cache(marked(preferences, name), preferences)
    check_cache(marked(preferences, name), None if preferences is None else preferences.clone())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("before", "now"), [(ROWS, ROWS.flip(0)), (ROWS, ROWS[:1]), (ROWS[:1], ROWS[1:]), (ROWS, None), (None, ROWS)]
)
def test_another_one_is_refused(before, now, name):
    with pytest.raises(ValueError, match="was computed under another preference than the one that is given now"):
        check_cache(marked(before, name), now)


def test_what_has_no_mark_is_taken_as_it_is():
    for cache in (None, (torch.ones(2),)):
        mark_cache(SimpleNamespace(cache=cache), ROWS)
        check_cache({"cache": cache}, ROWS)
    mark_cache((torch.ones(2),), ROWS)
    check_cache({"cache": SimpleNamespace()}, ROWS)
    check_cache({}, ROWS)


@torch.no_grad()
@pytest.mark.parametrize("name", KNOWN)
@pytest.mark.parametrize("family", ["llama", "gpt2", "opt"])
def test_a_model_goes_on_from_its_own_cache_only(family, name):
    model = conditioned(tiny_model(family))
    preferences = torch.tensor([[1.0, 0.0], [0.3, 0.7], [0.0, 1.0]])
    whole = model(input_ids=IDS, preferences=preferences).logits

    def cached(**options):
        return model(input_ids=IDS[:, :2], use_cache=True, **options).past_key_values

    cache = cached(preferences=preferences)
    step = model(input_ids=IDS[:, 2:], **{name: cache}, preferences=preferences).logits
    torch.testing.assert_close(step, whole[:, 2:], atol=2e-4, rtol=2e-4)
    for other in (preferences.flip(0), preferences[1]):
        with pytest.raises(ValueError, match="begin with a new cache, or give the same preference"):
            model(input_ids=IDS[:, 2:], **{name: cached(preferences=preferences)}, preferences=other)
    with model.disabled():
        base_cache = cached()
        model(input_ids=IDS[:, 2:], **{name: base_cache})
    with pytest.raises(ValueError, match="computed under another preference"):
        model(input_ids=IDS[:, 2:], **{name: base_cache}, preferences=preferences)

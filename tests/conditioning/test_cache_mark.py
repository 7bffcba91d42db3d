"""Keys and values computed under one preference are not gone on with under another."""

from types import SimpleNamespace

import pytest
import torch
from conditioned_networks import IDS, conditioned
from tiny_models import tiny_model

from mopref.conditioning.cache_mark import check_cache, mark_cache

ROWS = torch.tensor([[1.0, 0.0], [0.3, 0.7]])


def marked(preferences: torch.Tensor | None) -> SimpleNamespace:
    cache = SimpleNamespace()
    mark_cache(cache, preferences)
    return cache


@pytest.mark.parametrize("preferences", [ROWS, ROWS[:1], None])
def test_the_same_preference_goes_on(preferences):
    check_cache(marked(preferences), preferences)
    check_cache(marked(preferences), None if preferences is None else preferences.clone())


@pytest.mark.parametrize(
    ("before", "now"), [(ROWS, ROWS.flip(0)), (ROWS, ROWS[:1]), (ROWS[:1], ROWS[1:]), (ROWS, None), (None, ROWS)]
)
def test_another_one_is_refused(before, now):
    with pytest.raises(ValueError, match="past_key_values were computed under another preference than the one that is"):
        check_cache(marked(before), now)


def test_what_has_no_mark_is_taken_as_it_is():
    mark_cache(None, ROWS)
    mark_cache((torch.ones(2),), ROWS)
    for cache in (None, (torch.ones(2),), SimpleNamespace()):
        check_cache(cache, ROWS)


@torch.no_grad()
@pytest.mark.parametrize("family", ["llama", "gpt2", "opt"])
def test_a_model_goes_on_from_its_own_cache_only(family):
    model = conditioned(tiny_model(family))
    preferences = torch.tensor([[1.0, 0.0], [0.3, 0.7], [0.0, 1.0]])
    whole = model(input_ids=IDS, preferences=preferences).logits

    def cached(**options):
        return model(input_ids=IDS[:, :2], use_cache=True, **options).past_key_values

    cache = cached(preferences=preferences)
    step = model(input_ids=IDS[:, 2:], past_key_values=cache, preferences=preferences).logits
    torch.testing.assert_close(step, whole[:, 2:], atol=2e-4, rtol=2e-4)
    for other in (preferences.flip(0), preferences[1]):
        with pytest.raises(ValueError, match="begin with a new cache, or give the same preference"):
            model(input_ids=IDS[:, 2:], past_key_values=cached(preferences=preferences), preferences=other)
    with model.disabled():
        base_cache = cached()
        model(input_ids=IDS[:, 2:], past_key_values=base_cache)
    with pytest.raises(ValueError, match="computed under another preference"):
        model(input_ids=IDS[:, 2:], past_key_values=base_cache, preferences=preferences)

"""Generation with a λ per row: each row as if it were alone."""

import pytest
import torch

from mopref import PreferenceModel, SVDLoRAConfig

CONFIG = SVDLoRAConfig(objectives=("a", "b"), rank=4, preference_rank=2)
NEW = 6


@pytest.fixture
def model(make_lm, randomise):
    # No end-of-sequence token: every continuation has NEW tokens, so that rows can be compared one by one.
    return randomise(PreferenceModel(make_lm(eos_token_id=None), CONFIG)).eval()


@pytest.fixture
def prompts() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    return [torch.randint(3, 100, (length,), generator=generator) for length in (3, 7, 5, 1, 4)]


def left_padded(prompts: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    longest = max(map(len, prompts))
    pads = [longest - len(prompt) for prompt in prompts]
    zeros = [torch.zeros(pad, dtype=torch.long) for pad in pads]
    return {
        "input_ids": torch.stack([torch.cat([zero, prompt]) for zero, prompt in zip(zeros, prompts, strict=True)]),
        "attention_mask": torch.stack(
            [torch.cat([zero, torch.ones_like(prompt)]) for zero, prompt in zip(zeros, prompts, strict=True)]
        ),
    }


def alone(model, prompt, preference, **options) -> torch.Tensor:
    """New tokens of one unpadded row."""
    output = model.generate(
        input_ids=prompt[None],
        attention_mask=torch.ones_like(prompt[None]),
        preferences=preference[None],
        max_new_tokens=NEW,
        **options,
    )
    return output[:, len(prompt) :]


def test_greedy_batch_equals_single_rows(model, prompts, five_preferences):
    output = model.generate(**left_padded(prompts), preferences=five_preferences, max_new_tokens=NEW, do_sample=False)
    new = output[:, -NEW:]
    assert torch.equal(output[:, :-NEW], left_padded(prompts)["input_ids"])
    for row, (prompt, preference) in enumerate(zip(prompts, five_preferences, strict=True)):
        assert torch.equal(new[row : row + 1], alone(model, prompt, preference, do_sample=False)), f"row {row}"
    flipped = model.generate(
        **left_padded(prompts), preferences=five_preferences.flip(0), max_new_tokens=NEW, do_sample=False
    )
    assert not torch.equal(flipped[:, -NEW:], new), "the test would be vacuous if λ had no effect"


def test_greedy_equals_repeated_forwards(model, prompts, five_preferences):
    """The key-value cache keeps each row's λ: no cache, one full forward a token, gives the same tokens."""
    prompt, preference = prompts[1], five_preferences[1]
    tokens = prompt[None]
    with torch.no_grad():
        for _ in range(NEW):
            logits = model(tokens, preferences=preference[None]).logits[:, -1]
            tokens = torch.cat([tokens, logits.argmax(-1, keepdim=True)], dim=1)
    assert torch.equal(tokens[:, len(prompt) :], alone(model, prompt, preference, do_sample=False))


def test_generation_equals_the_merged_model(model, prompts, five_preferences):
    prompt, preference = prompts[2], five_preferences[3]
    merged = model.merge(preference).generate(
        input_ids=prompt[None], attention_mask=torch.ones_like(prompt[None]), max_new_tokens=NEW, do_sample=False
    )
    assert torch.equal(merged[:, len(prompt) :], alone(model, prompt, preference, do_sample=False))


def test_one_preference_serves_all_rows(model, prompts, five_preferences):
    inputs = left_padded(prompts)
    one = model.generate(**inputs, preferences=five_preferences[1], max_new_tokens=NEW, do_sample=False)
    repeated = five_preferences[1].expand(5, -1)
    assert torch.equal(one, model.generate(**inputs, preferences=repeated, max_new_tokens=NEW, do_sample=False))


@pytest.mark.parametrize("returned", [1, 3])
def test_beams_equal_single_rows(model, prompts, five_preferences, returned):
    options = {"num_beams": 3, "num_return_sequences": returned, "do_sample": False}
    output = model.generate(**left_padded(prompts), preferences=five_preferences, max_new_tokens=NEW, **options)
    assert len(output) == 5 * returned
    new = output[:, -NEW:].reshape(5, returned, NEW)
    for row, (prompt, preference) in enumerate(zip(prompts, five_preferences, strict=True)):
        assert torch.equal(new[row], alone(model, prompt, preference, **options)), f"row {row}"


def test_sampled_sequences_follow_their_rows_preference(model, prompts, five_preferences):
    """Sampling from the single most likely token is greedy search, so each of three samples is known."""
    output = model.generate(
        **left_padded(prompts),
        preferences=five_preferences,
        max_new_tokens=NEW,
        do_sample=True,
        top_k=1,
        num_return_sequences=3,
    )
    new = output[:, -NEW:].reshape(5, 3, NEW)
    for row, (prompt, preference) in enumerate(zip(prompts, five_preferences, strict=True)):
        greedy = alone(model, prompt, preference, do_sample=False)
        assert torch.equal(new[row], greedy.expand(3, -1)), f"row {row}"


def test_sampling_draws_different_sequences(model, prompts, five_preferences):
    torch.manual_seed(0)
    inputs = left_padded(prompts)
    output = model.generate(
        **inputs, preferences=five_preferences, max_new_tokens=NEW, do_sample=True, temperature=3.0, top_k=0,
        num_return_sequences=4,
    )  # fmt: skip
    new = output[:, -NEW:].reshape(5, 4, NEW)
    assert all(len(torch.unique(row, dim=0)) > 1 for row in new)


@pytest.mark.parametrize("options", [{}, {"num_beams": 2}, {"do_sample": True, "num_return_sequences": 2}], ids=str)
@pytest.mark.parametrize("count", [2, 3, 8])
def test_another_number_of_preferences_than_prompts_raises(model, prompts, count, options):
    """Two preferences for four prompts also divide evenly, but nobody said which prompt has which."""
    preferences = torch.full((count, 2), 0.5)
    with pytest.raises(ValueError, match=f"{count} preferences were given for 4 prompts"):
        model.generate(**left_padded(prompts[:4]), preferences=preferences, max_new_tokens=NEW, **options)


def test_generation_needs_preferences_unless_disabled(model, prompts, make_lm):
    inputs = left_padded(prompts)
    with pytest.raises(ValueError, match=r"preferences are missing: .*disabled\(\)"):
        model.generate(**inputs, max_new_tokens=NEW, do_sample=False)
    with pytest.raises(ValueError, match="3 preferences were given for 5 prompts"):
        model.generate(**inputs, preferences=torch.full((3, 2), 0.5), max_new_tokens=NEW)
    with model.disabled():
        output = model.generate(**inputs, max_new_tokens=NEW, do_sample=False)
    expected = make_lm(eos_token_id=None).generate(**inputs, max_new_tokens=NEW, do_sample=False)
    assert torch.equal(output, expected)

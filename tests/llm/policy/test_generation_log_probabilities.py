"""The training forward gives a sampled response the log-probability that it had when it was sampled, to 1e-4."""

import copy
from typing import NamedTuple

import pytest
import torch

from mopref import PreferenceModel, SVDLoRAConfig
from mopref.llm.data.sequences import collate_sequences
from mopref.llm.policy import Policy

CONFIG = SVDLoRAConfig(objectives=("a", "b"), rank=4, preference_rank=2)
NEW = 7
SAMPLES = 3
ENDS = list(range(2, 12))
TOLERANCE = {"atol": 1e-4, "rtol": 0}


class Sampled(NamedTuple):
    """What a generation made: N prompts, N responses with their ends, λ ``(N, m)`` and log-probabilities ``(N, T)``."""

    prompts: list[list[int]]
    responses: list[list[int]]
    preferences: torch.Tensor
    log_probabilities: torch.Tensor

    def rows(self, order) -> "Sampled":
        order = list(order)
        texts = [[rows[i] for i in order] for rows in (self.prompts, self.responses)]
        return Sampled(*texts, self.preferences[order], self.log_probabilities[order])


def generate(model, prompts, preferences, ends=ENDS, new=NEW, samples=SAMPLES, seed=0, **options) -> Sampled:
    """Sample from left-padded prompts; log-probabilities come from the raw logits of every step of generation."""
    longest = max(map(len, prompts))
    input_ids = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    torch.manual_seed(seed)
    output = model.generate(
        input_ids=input_ids,
        attention_mask=mask,
        preferences=preferences,
        max_new_tokens=new,
        num_return_sequences=samples,
        eos_token_id=ends,
        pad_token_id=0,
        return_dict_in_generate=True,
        output_logits=True,
        **{"do_sample": True, "top_k": 0, **options},
    )
    tokens = output.sequences[:, longest:]
    every_step = torch.stack(output.logits, dim=1).log_softmax(dim=-1).gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
    responses, log_probabilities = [], torch.zeros_like(every_step)
    for row, ids in enumerate(tokens.tolist()):
        # The end token belongs to the response; what follows it was not sampled.
        length = next((position + 1 for position, token in enumerate(ids) if token in ends), len(ids))
        responses.append(ids[:length])
        log_probabilities[row, :length] = every_step[row, :length]
    repeated = [prompt for prompt in prompts for _ in range(samples)]
    return Sampled(repeated, responses, preferences.repeat_interleave(samples, dim=0), log_probabilities)


@torch.no_grad()
def recomputed(model, sampled: Sampled, preferences: torch.Tensor | None) -> torch.Tensor:
    """The same by the training forward, ``(N, longest response)``."""
    sequences = collate_sequences(sampled.prompts, sampled.responses)
    return Policy(model).token_log_probabilities(sequences, preferences)


def assert_agree(sampled: Sampled, values: torch.Tensor) -> None:
    columns = values.shape[1]
    torch.testing.assert_close(values, sampled.log_probabilities[:, :columns], **TOLERANCE)
    assert (sampled.log_probabilities[:, columns:] == 0).all()


@pytest.fixture
def sampled(model, prompts, five_preferences) -> Sampled:
    return generate(model, prompts, five_preferences)


@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize(
    "options", [{}, {"temperature": 2.0, "top_p": 0.9}, {"do_sample": False, "num_beams": 1}], ids=str
)
def test_training_forward_equals_generation(model, prompts, five_preferences, use_cache, options):
    samples = SAMPLES if options.get("do_sample", True) else 1
    sampled = generate(model, prompts, five_preferences, samples=samples, use_cache=use_cache, **options)
    assert_agree(sampled, recomputed(model, sampled, sampled.preferences))
    sequences = collate_sequences(sampled.prompts, sampled.responses)
    with torch.no_grad():
        totals = Policy(model).sequence_log_probabilities(sequences, sampled.preferences)
    torch.testing.assert_close(totals, sampled.log_probabilities.sum(dim=1), **TOLERANCE)


def test_the_case_is_not_an_easy_one(model, sampled, five_preferences):
    """Some responses end early and some do not; λ, its rows' order and the adapters all matter."""
    lengths = {len(response) for response in sampled.responses}
    assert {1, NEW} < lengths
    assert any(response[-1] not in ENDS for response in sampled.responses)
    assert len(sampled.responses) == 5 * SAMPLES
    values = recomputed(model, sampled, sampled.preferences)
    # As if samples followed one another prompt by prompt: repeat instead of repeat_interleave.
    for wrong in (sampled.preferences.flip(0), five_preferences.repeat(SAMPLES, 1), five_preferences[2:3]):
        assert (recomputed(model, sampled, wrong) - values).abs().max() > 0.1
    with model.disabled():
        assert (recomputed(model, sampled, None) - values).abs().max() > 0.1


def test_samples_of_a_prompt_share_its_preference_and_differ(sampled):
    for start in range(0, 5 * SAMPLES, SAMPLES):
        assert len({tuple(response) for response in sampled.responses[start : start + SAMPLES]}) > 1


def test_reloaded_from_an_adapter_folder(model, sampled, prompts, five_preferences, make_lm, tmp_path):
    model.save_pretrained(tmp_path)
    reloaded = PreferenceModel.load(make_lm(), tmp_path).eval()
    assert_agree(sampled, recomputed(reloaded, sampled, sampled.preferences))
    again = generate(reloaded, prompts, five_preferences)
    assert again.responses == sampled.responses
    torch.testing.assert_close(again.log_probabilities, sampled.log_probabilities, **TOLERANCE)


def test_after_training_steps(model, prompts, five_preferences):
    """Nothing of an earlier generation stays: parameters move, and both ways follow."""
    before = generate(model, prompts, five_preferences)
    optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.05)
    sequences = collate_sequences(before.prompts, before.responses)
    for _ in range(2):
        loss = -Policy(model).sequence_log_probabilities(sequences, before.preferences).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    moved = (
        recomputed(model, before, before.preferences) - before.log_probabilities[:, : max(map(len, before.responses))]
    )
    assert moved.abs().max() > 0.1
    after = generate(model, prompts, five_preferences)
    assert_agree(after, recomputed(model, after, after.preferences))


def test_rows_may_be_permuted(model, sampled, prompts, five_preferences):
    """f(P x) = P f(x): rows, each with its λ, may come in any order, in the training forward and in generation."""
    order = torch.randperm(len(sampled.prompts), generator=torch.Generator().manual_seed(1)).tolist()
    permuted = sampled.rows(order)
    assert_agree(permuted, recomputed(model, permuted, permuted.preferences))

    greedy = generate(model, prompts, five_preferences, samples=1, do_sample=False)
    order = [3, 0, 4, 1, 2]
    turned = generate(model, [prompts[i] for i in order], five_preferences[order], samples=1, do_sample=False)
    assert turned.responses == greedy.rows(order).responses
    torch.testing.assert_close(turned.log_probabilities, greedy.rows(order).log_probabilities, **TOLERANCE)
    assert turned.responses != greedy.responses


def test_objectives_may_be_permuted(model, sampled, prompts, five_preferences):
    """Swapping the objectives' directions in U and V swaps their weights: the same responses at the swapped λ."""
    k, p = CONFIG.rank, CONFIG.preference_rank
    columns = [*range(k), *range(k + p, k + 2 * p), *range(k, k + p)]
    swapped = copy.deepcopy(model)
    with torch.no_grad():
        for layer in swapped.adapters.values():
            layer.U.copy_(layer.U[:, columns].clone())
            layer.V.copy_(layer.V[:, columns].clone())
    assert_agree(sampled, recomputed(swapped, sampled, sampled.preferences.flip(1)))
    again = generate(swapped, prompts, five_preferences.flip(1))
    assert again.responses == sampled.responses
    torch.testing.assert_close(again.log_probabilities, sampled.log_probabilities, **TOLERANCE)


def test_merged_models_agree_row_by_row(model, sampled):
    """Each response, alone and unpadded, under the plain model W(λ) of its own preference."""
    for start in range(0, len(sampled.prompts), SAMPLES):
        merged = model.merge(sampled.preferences[start])
        for row in range(start, start + SAMPLES):
            one = sampled.rows([row])
            assert_agree(one, recomputed(merged, one, None))


@pytest.mark.network
def test_smollm2(randomise):
    """A real model, whose prompts come from its own tokenizer."""
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("gguf")
    from mopref.llm.demo.assets import smollm2

    folder = smollm2(progress=False)
    base = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    config = SVDLoRAConfig(objectives=("a", "b"), rank=4, preference_rank=2)
    model = randomise(PreferenceModel(base, config), std=0.05).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    texts = ["Name three fruits.", "Say yes or no: is the sea salty? Give a short reason for your answer.", "Hello"]
    prompts = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], add_generation_prompt=True, return_dict=True
        )["input_ids"]
        for text in texts
    ]
    preferences = torch.tensor([[1.0, 0.0], [0.3, 0.7], [0.0, 1.0]])
    # Full stops end a response too, so that some end early.
    ends = [base.generation_config.eos_token_id, *tokenizer(".", add_special_tokens=False)["input_ids"]]
    sampled = generate(model, prompts, preferences, ends=ends, new=24, samples=2)
    assert len({len(response) for response in sampled.responses}) > 1
    values = recomputed(model, sampled, sampled.preferences)
    assert_agree(sampled, values)
    assert (recomputed(model, sampled, sampled.preferences.flip(0)) - values).abs().max() > 0.01
    for row in range(0, len(sampled.prompts), 2):
        one = sampled.rows([row])
        assert_agree(one, recomputed(model.merge(one.preferences), one, None))

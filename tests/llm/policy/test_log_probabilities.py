"""Sequence log-probabilities: the naive number, whatever the padding and the neighbours."""

import copy

import pytest
import torch
from torch import nn

from mopref import PreferenceModel, SVDLoRAConfig
from mopref.llm.policy.log_probabilities import collate_sequences, sequence_log_probabilities

LENGTHS = [(1, 4), (6, 1), (3, 3), (9, 2), (2, 7)]


@pytest.fixture
def rows() -> tuple[list[list[int]], list[list[int]]]:
    generator = torch.Generator().manual_seed(2)

    def draw(n: int) -> list[int]:
        return torch.randint(3, 100, (n,), generator=generator).tolist()

    return [draw(p) for p, _ in LENGTHS], [draw(r) for _, r in LENGTHS]


def naive(model: nn.Module, prompt: list[int], response: list[int], **options) -> torch.Tensor:
    """One row, no padding: Σ log softmax(logits)[token] over the response, tokens predicted from their left."""
    tokens = torch.tensor([prompt + response])
    logits = model(tokens, **options).logits[0]
    total = logits.new_zeros(())
    for position in range(len(prompt), len(prompt) + len(response)):
        total = total + torch.log_softmax(logits[position - 1], dim=-1)[tokens[0, position]]
    return total


def test_layout():
    """Prompts are padded on the left and responses on the right, so that all responses start in one column."""
    batch = collate_sequences([[11, 12, 13], [21]], [[14], [22, 23]])
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1, 0], [0, 0, 1, 1, 1]]
    mask = batch["attention_mask"].bool()
    assert batch["input_ids"][0][mask[0]].tolist() == [11, 12, 13, 14]
    assert batch["input_ids"][1][mask[1]].tolist() == [21, 22, 23]
    assert batch["position_ids"][0][mask[0]].tolist() == [0, 1, 2, 3]
    assert batch["position_ids"][1][mask[1]].tolist() == [0, 1, 2]
    assert batch["response_mask"].tolist() == [[1, 0], [1, 1]]
    assert (batch["position_ids"] >= 0).all()


@torch.no_grad()
def test_equals_the_naive_computation(make_lm, rows):
    model = make_lm()
    values = sequence_log_probabilities(model, collate_sequences(*rows))
    assert values.shape == (5,)
    expected = torch.stack([naive(model, p, r) for p, r in zip(*rows, strict=True)])
    torch.testing.assert_close(values, expected, atol=1e-5, rtol=1e-5)
    assert (values < -1).all()


@torch.no_grad()
def test_float64(make_lm, rows):
    model = make_lm().double()
    values = sequence_log_probabilities(model, collate_sequences(*rows))
    expected = torch.stack([naive(model, p, r) for p, r in zip(*rows, strict=True)])
    torch.testing.assert_close(values.double(), expected, atol=1e-5, rtol=1e-6)


@torch.no_grad()
def test_neighbours_do_not_matter(make_lm, rows):
    model = make_lm()
    prompts, responses = rows
    whole = sequence_log_probabilities(model, collate_sequences(prompts, responses))
    for i in range(5):
        alone = sequence_log_probabilities(model, collate_sequences(prompts[i : i + 1], responses[i : i + 1]))
        torch.testing.assert_close(whole[i : i + 1], alone, atol=1e-5, rtol=1e-5)
    order = [3, 0, 4, 2, 1]
    permuted = collate_sequences([prompts[i] for i in order], [responses[i] for i in order])
    torch.testing.assert_close(sequence_log_probabilities(model, permuted), whole[order], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_padding_tokens_do_not_matter(make_lm, rows):
    model = make_lm()
    batch = collate_sequences(*rows)
    expected = sequence_log_probabilities(model, batch)
    other = dict(batch, input_ids=torch.where(batch["attention_mask"].bool(), batch["input_ids"], 57))
    assert not torch.equal(other["input_ids"], batch["input_ids"])
    torch.testing.assert_close(sequence_log_probabilities(model, other), expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_prompt_tokens_are_not_counted(make_llama, rows):
    """moving tokens from the response to the prompt takes their log-probability away, and nothing else."""
    model = make_llama()
    prompts, responses = rows
    prompt, response = prompts[4], responses[4]
    whole, tail = sequence_log_probabilities(
        model, collate_sequences([prompt, prompt + response[:3]], [response, response[3:]])
    )
    torch.testing.assert_close(whole - tail, naive(model, prompt, response[:3]), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_the_distribution_over_one_token_responses_sums_to_one(make_llama):
    model = make_llama()
    values = sequence_log_probabilities(model, collate_sequences([[5, 6, 7]] * 100, [[t] for t in range(100)]))
    assert values.exp().sum().item() == pytest.approx(1, abs=1e-5)


def test_gradient_equals_the_naive_one(make_lm, rows):
    model = make_lm()
    weights = torch.linspace(-1, 1, 5)
    (weights * sequence_log_probabilities(model, collate_sequences(*rows))).sum().backward()
    actual = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    torch.stack([w * naive(model, p, r) for w, p, r in zip(weights, *rows, strict=True)]).sum().backward()
    scale = max(p.grad.abs().max().item() for p in model.parameters())
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(actual[name], parameter.grad, atol=1e-5 * scale, rtol=1e-4)


@torch.no_grad()
def test_model_options_are_passed_on(make_lm, randomise, rows, five_preferences):
    model = randomise(PreferenceModel(make_lm(), SVDLoRAConfig(objectives=("a", "b"), rank=3))).eval()
    values = sequence_log_probabilities(model, collate_sequences(*rows), preferences=five_preferences)
    expected = [
        naive(model, p, r, preferences=preference) for p, r, preference in zip(*rows, five_preferences, strict=True)
    ]
    torch.testing.assert_close(values, torch.stack(expected), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_collating_does_not_change_its_input(make_llama, rows):
    before = copy.deepcopy(rows)
    collate_sequences(*rows)
    assert rows == before


@pytest.mark.parametrize(
    ("prompts", "responses"),
    [
        pytest.param([[1, 2]], [[3], [4]], id="different-lengths"),
        pytest.param([[1, 2], []], [[3], [4]], id="empty-prompt"),
        pytest.param([], [], id="no-rows"),
    ],
)
def test_what_has_no_log_probability_raises(prompts, responses):
    """A response without a prompt has no token to be predicted from: padding would be read in its place."""
    with pytest.raises(ValueError):
        collate_sequences(prompts, responses)


def test_no_logits_for_prompt_tokens(make_lm):
    """The head sees R + 1 columns however long the prompts are: no full-vocabulary tensor for them."""
    model = make_lm()
    seen = []
    model.get_output_embeddings().register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape[:2])))
    sequences = collate_sequences([[5] * 30, [6] * 3], [[7, 8, 9, 10], [11]])
    sequence_log_probabilities(model, sequences)
    assert seen == [(2, 5)]

"""mopref/conditioning/head_input.py: the head is shown a contiguous tensor of the same values, for a while."""

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from mopref import PreferenceModel, SVDLoRAConfig
from mopref.conditioning.head_input import contiguous_head_input

PROMPTS = torch.arange(3, 15).view(3, 4)


class BatchedProducts(TorchDispatchMode):
    """Counts products that take a weight once for each row."""

    def __init__(self, columns: int) -> None:
        super().__init__()
        self.columns, self.found = columns, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        output = function(*args, **(kwargs or {}))
        self.found += function is torch.ops.aten.bmm.default and output.shape[-1] == self.columns
        return output


@pytest.fixture
def model(make_lm, randomise):
    return randomise(PreferenceModel(make_lm(eos_token_id=None), SVDLoRAConfig(("a", "b"), rank=2))).eval()


def products(model: PreferenceModel, generate) -> tuple[torch.Tensor, int]:
    with BatchedProducts(model.config.vocab_size) as counted:
        output = generate(input_ids=PROMPTS, max_new_tokens=3, do_sample=False)
    return output, counted.found


def test_generation_reads_the_frozen_head_once_a_token(model, five_preferences):
    options = {"preferences": five_preferences[:3], "attention_mask": torch.ones_like(PROMPTS)}
    output, found = products(model, lambda **others: model.generate(**options, **others))
    assert found == 0
    # What it would do without, and the same tokens.
    with model.state.turn, model.state.generation():
        model._set_preferences(five_preferences[:3], 3)
        mask = options["attention_mask"]
        plain, found = products(model, lambda **others: model.base_model.generate(attention_mask=mask, **others))
    assert found == 1
    assert torch.equal(output, plain)


def test_a_view_with_gaps_comes_contiguous_and_everything_else_as_it_is(make_lm):
    base, seen = make_lm(), []
    head = base.get_output_embeddings()
    states = torch.randn(3, 4, head.in_features)
    with contiguous_head_input(base):
        head.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
        output = head(states[:, -1:])
        head(states)
    assert seen[0].is_contiguous()
    assert torch.equal(seen[0], states[:, -1:])
    assert torch.equal(output, head(states[:, -1:].contiguous()))
    assert seen[1].data_ptr() == states.data_ptr(), "not copied"


def test_nothing_stays_behind_after_an_error(make_lm):
    head = make_lm().get_output_embeddings()
    base = nn.Sequential(head)
    base.get_output_embeddings = lambda: head
    with pytest.raises(RuntimeError, match="cannot be multiplied"), contiguous_head_input(base):
        base(torch.ones(1, head.in_features + 1))
    assert not head._forward_pre_hooks


def test_a_model_without_a_head_is_let_be():
    class Headless(nn.Module):
        def get_output_embeddings(self):
            return None

    for model in (nn.Linear(2, 2), Headless()):
        with contiguous_head_input(model):
            pass

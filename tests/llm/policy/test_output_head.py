"""Log-probabilities without logits: the same values and gradients, whatever is done to logits, and less memory."""

import pytest
import torch
from torch import nn

from mopref import PreferenceModel, SVDLoRAConfig
from mopref.conditioning.preference_state import PreferenceState
from mopref.llm.policy import output_head
from mopref.llm.policy.output_head import Targets, known_changes, replaced_head, target_log_probabilities

T, H, V = 23, 6, 40


class Config:
    def __init__(self, **values):
        vars(self).update(values)


@pytest.fixture(autouse=True)
def few_at_a_time(monkeypatch):
    """Five tokens at a time, so that the last part is a short one."""
    monkeypatch.setitem(output_head._NUMBERS_AT_A_TIME, "cpu", 5 * V)


@pytest.fixture
def head() -> nn.Linear:
    torch.manual_seed(3)
    return nn.Linear(H, V, bias=True).requires_grad_(False)


def targets_of(**options) -> Targets:
    generator = torch.Generator().manual_seed(4)
    return Targets(torch.randint(0, V - 8, (T,), generator=generator), torch.arange(T) % 4, **options)


def states(dtype=torch.float32) -> torch.Tensor:
    return torch.randn(T, H, generator=torch.Generator().manual_seed(5)).to(dtype).requires_grad_()


def plain(hidden, targets, head, change):
    logits = change(head(hidden)).float()[:, : targets.vocabulary_end] / targets.temperature
    if targets.forbidden is not None:
        logits = logits.masked_fill(targets.forbidden[targets.columns], -torch.inf)
    return logits.log_softmax(dim=-1)[torch.arange(T), targets.ids]


def found(hidden, targets, head, change, preferences=None):
    return target_log_probabilities(hidden, targets, head, head.forward, change, PreferenceState(), preferences)


FORBIDDEN = torch.zeros(4, V - 4, dtype=torch.bool)
FORBIDDEN[:2, V - 6] = True
OPTIONS = [{}, {"temperature": 0.7}, {"vocabulary_end": V - 4}, {"vocabulary_end": V - 4, "forbidden": FORBIDDEN}]


@pytest.mark.parametrize("options", OPTIONS, ids=["plain", "temperature", "vocabulary", "forbidden"])
@pytest.mark.parametrize(
    "config",
    [{}, {"final_logit_softcapping": 3.0}, {"logits_soft_cap": 3.0}, {"logit_scale": 0.3}, {"logits_scaling": 7.0}],
    ids=str,
)
@pytest.mark.parametrize("is_trained", [False, True])
def test_values_and_gradients(options, config, is_trained, head):
    head.requires_grad_(is_trained)
    targets, change = targets_of(**options), known_changes(Config(**config))[0]
    outer = torch.randn(T, generator=torch.Generator().manual_seed(6))
    results = []
    for function in (plain, found):
        hidden = states()
        values = function(hidden, targets, head, change)
        (values * outer).sum().backward()
        results.append([values.detach(), hidden.grad, *([head.weight.grad, head.bias.grad] if is_trained else [])])
        head.zero_grad()
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(other, one, atol=1e-6, rtol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(found(states(), targets, head, change), results[0][0], atol=1e-6, rtol=1e-5)


def test_nothing_is_changed_where_a_configuration_says_nothing():
    (change,) = known_changes(Config())
    logits = torch.randn(3, 4)
    assert change(logits) is logits


def test_two_backward_passes_through_one_graph(head):
    """As weights of single objectives' gradients need them."""
    hidden, targets = states(), targets_of()
    values = found(hidden, targets, head, lambda logits: logits)
    first = torch.autograd.grad(values[:9].sum(), hidden, retain_graph=True)[0]
    second = torch.autograd.grad(values[9:].sum(), hidden)[0]
    whole = torch.autograd.grad(plain(hidden, targets, head, lambda logits: logits).sum(), hidden)[0]
    torch.testing.assert_close(first + second, whole)


def test_no_tensor_of_all_logits_is_kept(head):
    """Whatever autograd keeps of T tokens has H numbers for each, and never V."""
    sizes = []
    with torch.autograd.graph.saved_tensors_hooks(lambda kept: sizes.append(kept.numel()) or kept, lambda kept: kept):
        found(states(), targets_of(), head, lambda logits: logits)
    assert sizes
    assert max(sizes) <= max(5 * H, V * H)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_within_its_rounding(dtype, head):
    results = []
    for kind, function in ((torch.float32, plain), (dtype, found)):
        hidden = states(kind)
        own = nn.Linear(H, V).requires_grad_(False)
        own.load_state_dict(head.state_dict())
        values = function(hidden, targets_of(), own.to(kind), lambda logits: logits)
        assert values.dtype == torch.float32
        (gradient,) = torch.autograd.grad(values.sum(), hidden)
        results.append((values.detach(), gradient.float()))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(other, one, atol=4e-2, rtol=4e-2)


def test_small_probabilities_of_float16_are_no_zeros():
    """4,096 equal tokens of 2.4e-4 each: unscaled, their products with small weights would lose most digits."""
    torch.manual_seed(0)
    head = nn.Linear(H, 4096, bias=False).requires_grad_(False)
    hidden, targets = 1e-2 * torch.randn(4, H), Targets(torch.arange(4), torch.arange(4))
    gradients = []
    for kind in (torch.float32, torch.float16):
        leaf, own = hidden.to(kind).requires_grad_(), nn.Linear(H, 4096, bias=False).requires_grad_(False)
        own.load_state_dict(head.state_dict())
        values = found(leaf, targets, own.to(kind), lambda logits: logits)
        gradients.append(torch.autograd.grad(values.sum(), leaf)[0].float())
    torch.testing.assert_close(gradients[1], gradients[0], atol=2e-3, rtol=1e-2)


def test_a_head_with_an_adapter_has_each_tokens_preference():
    torch.manual_seed(0)
    model = PreferenceModel(nn.Sequential(nn.Linear(H, V)), SVDLoRAConfig(("a", "b"), rank=2))
    for parameter in model.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter)
    head = model.base_model[0]
    preferences = torch.rand(T, 1, generator=torch.Generator().manual_seed(7))
    preferences = torch.cat([preferences, 1 - preferences], dim=1)
    targets = targets_of()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    logits = model(states().detach(), preferences=preferences)
    expected = logits.log_softmax(dim=-1)[torch.arange(T), targets.ids]
    gradients = torch.autograd.grad(expected.sum(), trained)
    values = target_log_probabilities(
        states(), targets, head, head.forward, lambda each: each, model.state, preferences
    )
    torch.testing.assert_close(values, expected)
    for one, other in zip(gradients, torch.autograd.grad(values.sum(), trained), strict=True):
        torch.testing.assert_close(other, one, atol=1e-5, rtol=1e-4)


def test_a_replaced_head_is_put_back_also_after_an_error(head):
    own, seen = head.forward, []
    with replaced_head(head, lambda hidden, forward: seen.append((hidden, forward))):
        assert head(torch.zeros(2, 3, H)).shape == (2, 3, 1)
    assert seen[0][0].shape == (2, 3, H)
    assert seen[0][1](torch.zeros(1, H)).shape == (1, V)
    assert "forward" not in vars(head)
    with pytest.raises(ZeroDivisionError), replaced_head(head, lambda hidden, forward: 1 / 0):
        head(torch.zeros(1, H))
    assert head.forward == own
    # What something else put there stays.
    head.forward = lambda hidden: hidden
    mine = head.forward
    with replaced_head(head, lambda hidden, forward: None):
        pass
    assert head.forward is mine

"""Log-probabilities of tokens, from logits alone: by hand, against loops, and in every precision."""

import math

import pytest
import torch
from _tensors import DTYPE, randn, tensor, tolerance

from mopref.llm.policy.log_probabilities import selected_log_probabilities

N, R, V = 3, 4, 7


def make_case(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return 3 * randn((N, R, V), generator), tensor(torch.randint(V, (N, R), generator=generator), torch.int64)


def test_by_hand():
    """Logits 0, log 2, log 5: probabilities 1/8, 2/8, 5/8; at temperature ½ their squares, 1, 4 and 25 of 30."""
    logits = tensor([[[0.0, math.log(2), math.log(5)]]])
    targets = tensor([[2]], torch.int64)
    assert selected_log_probabilities(logits, targets).exp().item() == pytest.approx(5 / 8, rel=tolerance(1e-9))
    tempered = selected_log_probabilities(logits, targets, temperature=0.5)
    assert tempered.exp().item() == pytest.approx(25 / 30, rel=tolerance(1e-9))


@pytest.mark.parametrize("temperature", [1.0, 0.3, 2.5])
def test_equals_the_loop(temperature):
    logits, targets = make_case()
    values = selected_log_probabilities(logits, targets, temperature)
    assert values.shape == (N, R)
    for n in range(N):
        for r in range(R):
            scaled = [value / temperature for value in logits[n, r].tolist()]
            expected = scaled[targets[n, r]] - math.log(sum(math.exp(value) for value in scaled))
            assert values[n, r].item() == pytest.approx(expected, abs=tolerance(1e-9))


def test_what_is_forbidden_leaves_its_probability_to_the_rest():
    logits, targets = make_case()
    forbidden = torch.zeros(R, V, dtype=torch.bool, device=logits.device)
    forbidden[:2, [1, 4]] = True
    targets[:, :2] = 2
    values = selected_log_probabilities(logits, targets, 0.7, forbidden)
    rest = [token for token in range(V) if token not in (1, 4)]
    expected = (logits[:, :2, rest] / 0.7).log_softmax(-1)[..., rest.index(2)]
    torch.testing.assert_close(values[:, :2], expected)
    torch.testing.assert_close(values[:, 2:], selected_log_probabilities(logits, targets, 0.7)[:, 2:])
    targets[0, 0] = 4
    assert selected_log_probabilities(logits, targets, 0.7, forbidden)[0, 0] == -math.inf


def test_one_column_at_a_time_is_the_same():
    """As samples are recorded: logits ``(N, V)`` and targets ``(N,)``."""
    logits, targets = make_case()
    columns = selected_log_probabilities(logits, targets, 0.8)
    for column in range(R):
        values = selected_log_probabilities(logits[:, column], targets[:, column], 0.8)
        torch.testing.assert_close(values, columns[:, column])


def test_all_targets_together_have_probability_one():
    logits, _ = make_case()
    columns = [selected_log_probabilities(logits, torch.full_like(logits[..., 0], v).long()) for v in range(V)]
    torch.testing.assert_close(torch.stack(columns).exp().sum(dim=0), torch.ones_like(columns[0]))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_brought_to_float32_first(dtype):
    """A sum of 50,000 exponentials in bfloat16 would be off by columns units."""
    logits = tensor(torch.zeros(1, 1, 50_000), dtype)
    value = selected_log_probabilities(logits, tensor([[7]], torch.int64))
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(-math.log(50_000), rel=1e-5)


def test_float64_stays():
    logits, targets = make_case()
    assert selected_log_probabilities(logits.double(), targets).dtype == torch.float64
    assert selected_log_probabilities(logits, targets).dtype == torch.promote_types(DTYPE, torch.float32)


def test_gradient():
    logits, targets = make_case()
    forbidden = torch.zeros(R, V, dtype=torch.bool, device=logits.device)
    forbidden[0, 3] = True
    targets[:, 0] = 1
    assert torch.autograd.gradcheck(
        lambda x: selected_log_probabilities(x, targets, 1.3, forbidden), logits.double().requires_grad_()
    )


def test_inputs_stay_as_they_are():
    logits, targets = make_case()
    before = logits.clone(), targets.clone()
    selected_log_probabilities(logits, targets, 0.5, torch.eye(R, V, dtype=torch.bool, device=logits.device))
    assert torch.equal(logits, before[0])
    assert torch.equal(targets, before[1])

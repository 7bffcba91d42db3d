"""Norms before clipping, and the steps that fp16's scaler skips: by PyTorch's own one, which works on a CPU too."""

import math
import warnings
from types import SimpleNamespace

import pytest
import torch
from _faulty_runs import Faulty, faulty_trainer
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from torch import nn

from mopref import ParetoTrainer
from mopref.mixed_precision import autocast
from mopref.scalarizers import Linear
from mopref.training import process_state
from mopref.training.gradient_norm import SkippedSteps, clip_gradients


def parameters(*gradients) -> list[nn.Parameter]:
    """Of one entry each; ``None`` for one without a gradient."""
    parts = [nn.Parameter(torch.zeros(1)) for _ in gradients]
    for part, gradient in zip(parts, gradients, strict=True):
        part.grad = None if gradient is None else torch.tensor([gradient])
    return parts


@pytest.mark.parametrize(("limit", "scale"), [(1.0, 0.2), (10.0, 1.0), (math.inf, 1.0), (None, 1.0)])
def test_gradients_are_scaled_as_torch_does(limit, scale):
    parts, seen = parameters(3.0, None, 4.0), []
    norm = clip_gradients(Accelerator(cpu=True), parts, limit, lambda norm: not seen.append(norm.item()))
    assert norm.item() == 5.0
    assert seen == [5.0]
    torch.testing.assert_close(torch.cat([parts[0].grad, parts[2].grad]), scale * torch.tensor([3.0, 4.0]))
    theirs = parameters(3.0, None, 4.0)
    torch.nn.utils.clip_grad_norm_(theirs, math.inf if limit is None else limit)
    assert all(torch.equal(p.grad, q.grad) for p, q in zip(parts, theirs, strict=True) if p.grad is not None)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("limit", [1e-6, 0.1, 1.0, 3.0])
def test_near_the_limit_gradients_are_torchs_bit_for_bit(dtype, limit):
    """Where the norm is as large as the limit, its rounding and the 1e-6 in the factor decide."""
    generator = torch.Generator().manual_seed(0)
    for share in (0.3, 0.9, 0.985, 0.99, 0.995, 1.0, 1.005, 1.02, 1.5):
        direction = torch.randn(5, generator=generator, dtype=torch.float64)
        gradient = (direction / direction.norm() * share * limit).to(dtype)
        ours, theirs = nn.Parameter(torch.zeros(5, dtype=dtype)), nn.Parameter(torch.zeros(5, dtype=dtype))
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        clip_gradients(Accelerator(cpu=True), [ours], limit, lambda norm: True)
        torch.nn.utils.clip_grad_norm_([theirs], limit)
        assert torch.equal(ours.grad, theirs.grad)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_the_norm_is_torchs_bit_for_bit(dtype):
    generator = torch.Generator().manual_seed(0)
    sizes = [1, 3, 17, 64, 1000, 4097]
    for other in (dtype, torch.float32):
        parts = [nn.Parameter(torch.zeros(size, dtype=other if size == 17 else dtype)) for size in sizes]
        for part in parts:
            part.grad = torch.randn(part.shape, generator=generator).to(part.dtype)
        norm = clip_gradients(Accelerator(cpu=True), parts, None, lambda norm: True)
        assert torch.equal(norm, torch.nn.utils.clip_grad_norm_(parts, math.inf))


def test_gradients_within_the_limit_are_not_touched(monkeypatch):
    monkeypatch.setattr(torch.nn.utils, "clip_grads_with_norm_", None)
    clip_gradients(Accelerator(cpu=True), parameters(3.0, 4.0), 6.0, lambda norm: True)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_gradients_are_whole_when_their_norm_is_shown(bad):
    parts, seen = parameters(3.0, bad), []

    def is_finite(norm):
        seen.extend(part.grad.item() for part in parts)
        return bool(norm.isfinite())

    assert not clip_gradients(Accelerator(cpu=True), parts, 1.0, is_finite).isfinite()
    assert seen[0] == parts[0].grad.item() == 3.0


def test_without_gradients_the_norm_is_0():
    assert clip_gradients(Accelerator(cpu=True), parameters(None), 1.0, lambda norm: True).item() == 0.0


@pytest.fixture(autouse=True)
def _without_autocast(monkeypatch):
    monkeypatch.setattr(process_state, "autocast", lambda device, mixed_precision: autocast(device, None))


def with_scaler(trainer: ParetoTrainer, scale: float) -> ParetoTrainer:
    """The trainer as it would be with fp16 on a GPU, but for the autocast: steps by a scaler."""
    accelerator = trainer.accelerator
    scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    accelerator.scaler, accelerator.native_amp = scaler, True
    accelerator.state.__dict__["_mixed_precision"] = "fp16"
    with trainer._process.in_force():
        trainer.optimizer = AcceleratedOptimizer(trainer.optimizer.optimizer, device_placement=False, scaler=scaler)
    accelerator._optimizers = [trainer.optimizer]
    return trainer


def all_parameters(trainer: ParetoTrainer) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in trainer.model.parameters()])


class Large(Faulty):
    """Losses of about 10, which a scale of 2^127 makes infinite."""

    def losses(self, model, batch, preferences):
        return 100 * super().losses(model, batch, preferences)


def test_the_first_scales_are_too_large_and_steps_are_skipped_and_counted():
    trainer = with_scaler(faulty_trainer(Large(), Linear(), steps=8, log_every=1), 2.0**127)
    before = all_parameters(trainer)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        history = trainer.train()
    assert [entry["step"] for entry in history] == list(range(1, 9)), "the step counter rises"
    skipped = [entry.get("skipped_steps", 0.0) for entry in history]
    assert skipped == sorted(skipped, reverse=True)
    assert 0 < sum(skipped) < 8
    assert all((entry["gradient_norm"] == 0) == (count == 1) for entry, count in zip(history, skipped, strict=True))
    assert not torch.equal(before, all_parameters(trainer))


def test_the_log_counts_the_skipped_steps_of_its_interval():
    trainer = with_scaler(faulty_trainer(Large(), Linear(), steps=8, log_every=8), 2.0**127)
    (entry,) = trainer.train()
    assert 0 < entry["skipped_steps"] < 8
    assert 1 < entry["gradient_norm"] < 1000


def test_norms_are_those_without_a_scale():
    plain = faulty_trainer(Faulty(), Linear(), steps=4, log_every=1).train()
    scaled = with_scaler(faulty_trainer(Faulty(), Linear(), steps=4, log_every=1), 2.0**10).train()
    for entry, other in zip(scaled, plain, strict=True):
        assert entry == pytest.approx(other, rel=1e-5)
    assert all("skipped_steps" not in entry for entry in scaled)


def test_steps_that_are_skipped_in_a_row_are_told_once_with_what_to_do():
    class Always(Faulty):
        def losses(self, model, batch, preferences):
            return super().losses(model, batch + 1000, preferences)

    trainer = with_scaler(faulty_trainer(Always("gradient"), Linear(), steps=25), 2.0**16)
    before = all_parameters(trainer)
    with pytest.warns(UserWarning, match=r"^10 steps in a row were skipped.* scale .* 64 now.*bf16") as told:
        history = trainer.train()
    assert len([w for w in told if "skipped" in str(w.message)]) == 1
    assert sum(entry["skipped_steps"] for entry in history) == 25
    assert torch.equal(before, all_parameters(trainer))


def test_a_scale_below_1_is_told_at_once():
    trainer = with_scaler(faulty_trainer(Faulty("gradient"), Linear()), 1.0)
    with pytest.warns(UserWarning, match=r"^1 steps in a row were skipped.*\(the scale of the loss is 0\.5 now\)"):
        trainer.train()


def test_what_is_not_finite_at_any_scale_stops_the_run():
    trainer = with_scaler(faulty_trainer(Faulty("gradient"), Linear()), 2.0**-15)
    with pytest.raises(FloatingPointError, match="the gradient of the loss 'right' for preference"):
        trainer.train()


@pytest.mark.parametrize("fault", ["loss", "auxiliary"])
def test_a_loss_that_is_not_finite_is_no_matter_of_the_scale(fault):
    trainer = with_scaler(faulty_trainer(Faulty(fault), Linear()), 2.0**16)
    with pytest.raises(FloatingPointError, match=r"^the (loss 'right'|auxiliary loss) is nan"):
        trainer.train()


def test_a_norm_that_overflows_is_no_matter_of_the_scale():
    """No entry is infinite, so that the scaler would take a step of nothing."""
    trainer = with_scaler(faulty_trainer(Faulty("gradient", 1e25), Linear()), 1.0)
    with pytest.raises(FloatingPointError, match="the norm of the gradient of the loss 'right'"):
        trainer.train()


def test_a_step_that_was_taken_begins_the_count_anew():
    skipped = SkippedSteps()
    accelerator = SimpleNamespace(optimizer_step_was_skipped=True, scaler=SimpleNamespace(get_scale=lambda: 2.0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for step in range(40):
            accelerator.optimizer_step_was_skipped = step % 10 != 9
            norm = skipped.known_norm(accelerator, torch.tensor(3.0))
            assert norm.shape == (1,)
            assert bool(norm.isnan()) == accelerator.optimizer_step_was_skipped

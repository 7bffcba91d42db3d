"""Accelerate's state of the process: each trainer has its own, whoever was there before and comes after."""

import os
import subprocess
import sys
import warnings
from contextlib import nullcontext

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState

from mopref import TrainerConfig
from mopref.training.process_state import ProcessState, add_gradients, own_autocast, plain_optimizer


@pytest.fixture(autouse=True)
def fresh_process(monkeypatch):
    """No accelerator before the test, and the one of other tests afterwards."""
    kinds = (PartialState, AcceleratorState, GradientState)
    contents = [dict(kind._shared_state) for kind in kinds]
    for kind in kinds:
        kind._shared_state.clear()
    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION", raising=False)
    yield
    for kind, content in zip(kinds, contents, strict=True):
        kind._shared_state.clear()
        kind._shared_state.update(content)


def made(**settings):
    process = ProcessState()
    return process, process.make_accelerator(TrainerConfig(**{"cpu": True} | settings))


def product_dtype(process, accelerator) -> torch.dtype:
    with process.in_force(), own_autocast(accelerator):
        return (torch.ones(2, 2) @ torch.ones(2, 2)).dtype


@pytest.mark.parametrize("first", [None, "no", "bf16"])
@pytest.mark.parametrize("second", [None, "no", "bf16"])
def test_each_has_the_precision_of_its_config(first, second):
    dtypes = {None: torch.float32, "no": torch.float32, "bf16": torch.bfloat16}
    pairs = [(made(mixed_precision=precision), precision) for precision in (first, second)]
    # In turn, and each more than once.
    for (process, accelerator), precision in (*pairs, *reversed(pairs), *pairs):
        assert product_dtype(process, accelerator) == dtypes[precision]
        assert accelerator.mixed_precision == (precision or "no")


@pytest.mark.parametrize("mixed_precision", [None, "bf16"])
@pytest.mark.parametrize("around", [False, True])
def test_after_an_error_the_precision_around_it_is_in_force_again(around, mixed_precision):
    _, accelerator = made(mixed_precision=mixed_precision)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=around):
        with own_autocast(accelerator):
            assert torch.is_autocast_enabled("cpu") is (mixed_precision == "bf16")
        with pytest.raises(KeyError), own_autocast(accelerator):
            raise KeyError
        assert torch.is_autocast_enabled("cpu") is around


def test_an_accelerator_of_the_users_own_is_left_alone():
    own = Accelerator(mixed_precision="bf16", cpu=True, gradient_accumulation_steps=4)
    own.gradient_state._set_sync_gradients(False)
    process, accelerator = made()
    assert accelerator.mixed_precision == "no"
    assert product_dtype(process, accelerator) == torch.float32
    with process.in_force():
        # Else an optimiser prepared here would skip its steps.
        assert accelerator.gradient_state.sync_gradients
    assert own.mixed_precision == "bf16"
    assert not own.gradient_state.sync_gradients
    with own.autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16


def test_the_state_is_put_back_after_an_error():
    own = Accelerator(mixed_precision="bf16", cpu=True)
    process, accelerator = made()
    with process.in_force():
        # Within the block it is entered again, and stays in force.
        assert product_dtype(process, accelerator) == torch.float32
        assert AcceleratorState().mixed_precision == "no"
        accelerator.gradient_state._set_sync_gradients(False)
        with process.in_force():
            assert not accelerator.gradient_state.sync_gradients
        accelerator.gradient_state._set_sync_gradients(True)
    with pytest.raises(KeyError), process.in_force():
        raise KeyError
    assert own.mixed_precision == "bf16"


def test_the_environment_does_not_decide_but_is_heard(monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    with pytest.warns(
        UserWarning, match="ACCELERATE_MIXED_PRECISION is 'bf16', but the config says mixed_precision=None"
    ):
        process, accelerator = made()
    assert product_dtype(process, accelerator) == torch.float32
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert made(mixed_precision="bf16")[1].mixed_precision == "bf16"
        # As accelerate launch writes it.
        monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
        assert made(mixed_precision="bf16")[1].mixed_precision == "bf16"


def test_half_precision_that_would_not_be_is_refused():
    with pytest.raises(
        ValueError, match="mixed_precision is 'fp16', which needs a GPU: on the CPU choose 'bf16' or None"
    ):
        made(mixed_precision="fp16")


def test_accelerates_own_tools_find_a_state_afterwards():
    made()
    assert PartialState._shared_state
    assert AcceleratorState._shared_state


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_device_is_the_configs_too():
    assert made()[1].device.type == "cpu"
    assert made(cpu=False)[1].device.type == "cuda"
    assert made()[1].device.type == "cpu"


SCRIPT = """
import torch
from mopref import ParetoSetModel, ParetoTrainer, TrainerConfig
from mopref.objectives import ZDT1
from mopref.scalarizers import Linear

def trainer_of(precision):
    problem = ZDT1(4)
    settings = {"steps": 3, "preferences_per_step": 4, "log_every": 1, "progress": False, "cpu": True}
    config = TrainerConfig(mixed_precision=precision, **settings)
    return ParetoTrainer(ParetoSetModel.for_problem(problem, hidden=(8,)), problem, Linear(), config=config)

alone = {precision: trainer_of(precision).train() for precision in (None, "bf16")}
both = {precision: trainer_of(precision) for precision in ("bf16", None)}
for precision in (None, "bf16"):
    assert both[precision].train() == alone[precision], precision
assert alone[None] != alone["bf16"]
"""


def test_trainers_side_by_side_train_as_alone():
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", SCRIPT], env=environment, check=True, timeout=120)


def test_the_optimiser_is_stepped_by_itself_where_accelerate_has_nothing_to_add():
    accelerator = Accelerator(cpu=True)
    inner = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))])
    wrapped = accelerator.prepare(inner)
    assert plain_optimizer(accelerator, wrapped) is inner
    assert plain_optimizer(accelerator, inner) is inner
    accelerator.scaler = torch.amp.GradScaler("cpu")
    assert plain_optimizer(accelerator, wrapped) is wrapped


def test_a_backward_pass_is_accelerates_where_it_has_a_part_in_it():
    accelerator, weight = Accelerator(cpu=True), torch.nn.Parameter(torch.tensor(2.0))
    add_gradients(accelerator, weight.square())
    assert weight.grad == 4.0
    accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    add_gradients(accelerator, weight.square())
    assert weight.grad == 4.0 + 8 * 4.0


def test_without_mixed_precision_an_autocast_around_it_is_off_and_none_is_entered_in_vain():
    accelerator = Accelerator(cpu=True)
    assert isinstance(own_autocast(accelerator), nullcontext)
    with torch.autocast("cpu", dtype=torch.bfloat16), own_autocast(accelerator):
        assert not torch.is_autocast_enabled("cpu")

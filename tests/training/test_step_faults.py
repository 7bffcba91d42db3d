"""Numbers that are not finite stop a run before the step, with where they come from, and nothing of the step stays."""

import math
import re

import pytest
import torch
from _faulty_runs import BAD_ROW, Faulty, assert_same, faulty_trainer
from accelerate import Accelerator

from mopref import ParetoSetModel, ParetoTrainer, Scalarizer, TrainerConfig
from mopref.gradients import MGDA, gramians
from mopref.objective import Update
from mopref.objectives import ZDT1
from mopref.samplers.adaptive import AdaptiveSampler
from mopref.scalarizers import Linear, Normalized, Tchebycheff
from mopref.training.step_faults import (
    Forward,
    check_finite_gramians,
    check_finite_losses,
    check_finite_step,
    place,
    taken_back_on_error,
    told_where,
)

PREFERENCES = torch.tensor([[0.25, 0.75], [0.5, 0.5]])
UPDATE = Update(None, PREFERENCES, rows=(7, 3, 0, 2))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_losses_that_are_not_finite(bad):
    losses = torch.tensor([[1.0, 1.0], [1.0, bad]])
    with pytest.raises(FloatingPointError, match=rf"the loss 'f2' is {bad} at step 7 for .* \(rows 0, 2 of the tr"):
        check_finite_losses(losses, losses, UPDATE, ZDT1(), step=7)


def test_the_remedy_speaks_of_rows_only_where_there_are_some():
    losses = torch.tensor([[1.0, math.nan]])
    for rows, remedy in (((7, 3), "bad rows in the data"), ((), "it in what the objective computes")):
        update = Update(None, PREFERENCES[:1], rows=rows)
        with pytest.raises(FloatingPointError, match=rf"or look for {remedy}\.$"):
            check_finite_losses(losses, losses, update, ZDT1(), step=7)


def test_losses_of_another_process():
    losses = torch.ones(2, 2)
    others = torch.tensor([[math.nan, 1.0], [1.0, 1.0]])
    with pytest.raises(FloatingPointError, match="the loss 'f1' is not finite on another process at step 7"):
        check_finite_losses(losses, torch.cat([losses, others]), UPDATE, ZDT1(), step=7)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_a_step_whose_numbers_overflow_in_sum_only_goes_on(dtype):
    largest = torch.finfo(dtype).max
    forward = Forward.of(UPDATE, torch.ones(2, 2), torch.full((2,), largest, dtype=dtype), None)
    parts = {"model": torch.nn.Linear(1, 1), "objective": ZDT1(), "scalarizer": Linear(), "step": 0}
    norm, forward = torch.tensor(largest, dtype=dtype), forward._replace(mean=torch.tensor([largest], dtype=dtype))
    assert check_finite_step(norm, [forward], accelerator=Accelerator(cpu=True), **parts)


def test_gramians_name_the_loss():
    weight = torch.nn.Parameter(torch.tensor([[1.0, 2.0], [3.0, 0.0]]))
    losses = weight.sqrt()
    with pytest.raises(FloatingPointError, match=r"gradient of the loss 'f2' for preference \[0.5, 0.5\] \(rows 0, 2"):
        check_finite_gramians(gramians(losses, [weight]), losses, [weight], UPDATE, ZDT1(), step=3)
    check_finite_gramians(torch.ones(2, 2, 2), losses, [weight], UPDATE, ZDT1(), step=3)


@pytest.mark.parametrize(
    ("rows", "group", "words"),
    [
        ([], 0, "for preference [0.25, 0.75]"),
        ([4, 1], 1, "for preference [0.5, 0.5] (row 1 of the training data)"),
        ([4, 1], None, "for preferences [0.25, 0.75], [0.5, 0.5] (rows 4, 1 of the training data)"),
        ([4, 1, 9], 1, "for preference [0.5, 0.5] (rows 4, 1, 9 of the training data)"),
        (range(20), 1, "for preference [0.5, 0.5] (rows 10, 11, 12, 13, 14, 15, 16, 17, … of the training data)"),
    ],
)
def test_places_in_words(rows, group, words):
    assert place(PREFERENCES, rows, group) == words


def test_an_objectives_own_error_says_where_too():
    words = r"^a hole \(At step 4 for preferences .* \(rows 7, 3, 0, 2 of"
    with pytest.raises(FloatingPointError, match=words), told_where(4, PREFERENCES, UPDATE.rows):
        raise FloatingPointError("a hole")


def test_an_error_that_knows_its_prompt_says_that_row():
    error = FloatingPointError("a hole")
    error.prompt = 2
    words = r"At step 4 for preference \[0.5, 0.5\] \(row 0 of"
    with pytest.raises(FloatingPointError, match=words), told_where(4, PREFERENCES, UPDATE.rows):
        raise error


def test_other_errors_are_left_as_they_are():
    with pytest.raises(ValueError, match=r"^no number$"), told_where(4, PREFERENCES, ()):
        raise ValueError("no number")


@pytest.mark.parametrize("error", [FloatingPointError, KeyboardInterrupt])
def test_parts_are_taken_back(error):
    sampler, scalarizer = AdaptiveSampler(2, num_cells=4, refresh_every=1), Normalized(Tchebycheff())
    scalarizer.observe(torch.ones(1, 2))
    before = [sampler.state_dict(), scalarizer.state_dict()]

    def step():
        losses = torch.tensor([[0.1, 5.0], [7.0, 0.1]])
        scalarizer.observe(losses)
        sampler.observe(sampler.sample(2), losses, Linear())
        assert sampler._observed == 1
        raise error

    with pytest.raises(error), taken_back_on_error((sampler, scalarizer), None):
        step()
    assert_same(before, [sampler.state_dict(), scalarizer.state_dict()])


def test_a_state_is_taken_back_however_deep_it_is():
    class Part:
        def __init__(self) -> None:
            self.state = {"seen": {"rows": [1, 2], "table": torch.zeros(2)}, "number": 3, "nothing": None}

        def state_dict(self):
            return self.state

        def load_state_dict(self, state) -> None:
            self.state = state

    def step(part):
        part.state["seen"]["rows"].append(3)
        part.state["seen"]["table"] += 1
        part.state["number"] = 4
        raise KeyError

    part = Part()
    with pytest.raises(KeyError), taken_back_on_error([part], None):
        step(part)
    assert_same(part.state, Part().state)


# Whole runs.


def stopped(trainer: ParetoTrainer) -> str:
    """The message of a training that stops, after a check that nothing of its last step has stayed."""
    with pytest.raises(FloatingPointError) as caught:
        trainer.train()
    state = trainer._state()
    assert trainer.step == state["step"] < trainer.config.steps
    for key in state.keys() - {"random"}:
        assert_same(state[key], trainer.callbacks[0].state[key])
    assert all(parameter.grad is None for parameter in trainer.model.parameters())
    message = str(caught.value)
    assert f"step {trainer.step}" in message
    assert "nothing was updated" in message.lower()
    rows = re.search(r"\(rows? (.*) of the training data\)", message)
    assert rows
    assert str(BAD_ROW) in rows[1].split(", ")
    return message


@pytest.mark.parametrize("accumulation", [1, 3])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("loss", "^the loss 'right' is {value} at step"),
        ("gradient", r"^the gradient of the loss 'right' for preference \[.*\] \(rows .* is not finite at step"),
        ("auxiliary", "^the auxiliary loss is {value} at step"),
        ("auxiliary gradient", "^the gradient of the auxiliary loss for preferences .* is not finite at step"),
        ("raised", r"^a table has a hole\. \(At step"),
    ],
)
def test_it_stops_before_the_step(fault, words, value, accumulation):
    message = stopped(faulty_trainer(Faulty(fault, value), gradient_accumulation_steps=accumulation))
    assert re.search(words.format(value=value), message), message
    if "gradient" in fault:
        assert re.search(r"that of (first|second)\.(weight|bias) holds -?(nan|inf)", message)


@pytest.mark.parametrize("limit", [1.0, math.inf, None])
@pytest.mark.parametrize(
    ("value", "words"), [(math.nan, "is not finite"), (1e30, "norm of the gradient of the loss 'right'")]
)
def test_whatever_the_limit_of_the_norm_is(limit, value, words):
    """A norm that overflows would make all gradients 0, and go on for ever."""
    assert words in stopped(faulty_trainer(Faulty("gradient", value), Linear(), max_grad_norm=limit))


def test_the_largest_entry_of_an_overflow_is_named():
    message = stopped(faulty_trainer(Faulty("gradient", 1e30), Linear()))
    assert re.search(r"overflows at step \d: the largest entry is \S*e\+\d+, of (first|second)\.(weight|bias)", message)


def test_the_last_step_is_looked_at_too():
    first = faulty_trainer(Faulty("gradient"), steps=6)
    stopped(first)
    stopped(faulty_trainer(Faulty("gradient"), steps=first.step + 1))


class Overflowing(Scalarizer):
    """Linear, but for losses that are not small."""

    def __init__(self, slope: bool) -> None:
        self.slope = slope

    def scalarize(self, losses, preferences):
        total = (losses * preferences).sum(dim=-1)
        if self.slope:
            return total + (total - total.detach()).abs().sqrt()
        return total / (total - total)


@pytest.mark.parametrize(
    ("slope", "words"),
    [
        (False, r"^the scalarized loss of Overflowing\(slope=False\) is inf"),
        (True, r"^the gradient of Overflowing\(slope=True\)"),
    ],
)
def test_a_scalarizer_is_named(slope, words):
    trainer = faulty_trainer(Faulty(), Overflowing(slope))
    with pytest.raises(
        FloatingPointError, match=words + ".* for preference .* at step 0|" + words + " at step 0 for pre"
    ):
        trainer.train()
    assert trainer.step == 0


def test_a_gradient_weighting_names_the_loss():
    assert stopped(faulty_trainer(Faulty("gradient"), MGDA())).startswith("the gradient of the loss 'right' for pref")


def test_a_fault_that_cannot_be_repeated_names_the_parameter():
    """Nothing is made up of whose gradient it is."""

    class Once(Faulty):
        def training_losses(self, model, batch, preferences):
            losses = super().training_losses(model, batch, preferences)
            self.fault = ""
            return losses

    class Later(Once):
        def losses(self, model, batch, preferences):
            bad = self.fault and bool((batch >= 1000).any())
            losses = super().losses(model, batch, preferences)
            self.fault = self.fault if not bad else ""
            return losses

        training_losses = Faulty.training_losses

    message = stopped(faulty_trainer(Later("gradient")))
    assert re.search(r"^the gradient of the losses for preferences .*: that of \S+ holds nan \(4 of 4", message)


def test_finding_the_cause_leaves_the_random_numbers_alone():
    states = []

    class Noisy(Faulty):
        def losses(self, model, batch, preferences):
            states.append(torch.get_rng_state())
            torch.rand(3)
            return super().losses(model, batch, preferences)

    trainer = faulty_trainer(Noisy("gradient"))
    stopped(trainer)
    assert torch.equal(states[-1], torch.get_rng_state()), "the last call was the one that looked for the cause"


def test_after_the_fault_is_mended_the_run_goes_on_as_if_it_had_not_been():
    objective = Faulty("gradient")
    trainer = faulty_trainer(objective, Linear())
    stopped(trainer)
    objective.fault = ""
    history = trainer.train()
    whole = faulty_trainer(Faulty(), Linear())
    assert history == whole.train()
    assert_same(trainer._state()["model"], whole._state()["model"])


def test_the_numbers_of_a_forward():
    losses, scalarized = torch.tensor([[1.0, 2.0], [3.0, 6.0]], requires_grad=True), torch.tensor([1.0, 2.0])
    forward = Forward.of(UPDATE, losses, scalarized, torch.tensor(10.0, requires_grad=True))
    assert forward.mean.tolist() == [1.5]
    assert forward.total.tolist() == [11.5]
    assert forward._replace(auxiliary=None).total.tolist() == [1.5]
    assert not forward.losses.requires_grad
    assert forward.auxiliary is not None
    assert not forward.auxiliary.requires_grad


def test_without_data_there_are_no_rows_to_name():
    class Bad(ZDT1):
        def evaluate(self, x):
            return super().evaluate(x) * math.nan

    problem = Bad(4)
    config = TrainerConfig(steps=2, preferences_per_step=2, progress=False, cpu=True)
    with pytest.raises(FloatingPointError, match=r"at step 0 for preference \[[^)]*\]\. Nothing was updated"):
        ParetoTrainer(ParetoSetModel.for_problem(problem), problem, Linear(), config=config).train()

"""Objectives: what the defaults do; and of rows, group means and means over data where labels are missing."""

import pytest
import torch
from torch import nn

from mopref import Objective, RowObjective
from mopref.mixed_precision import autocast
from mopref.objective import Losses, Metric, RowLosses, Update


class Scale(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(2.0))


class Plain(Objective):
    """The preferences times the model's factor."""

    names = ("a", "b")

    def losses(self, model, batch, preferences):
        return preferences * model.factor


class Weighted(RowObjective):
    """Row value × the model's factor × the row's preference; NaN stands where there is no label."""

    names = ("a", "b")

    def num_rows(self, batch):
        return len(batch)

    def row_losses(self, model, batch, preferences):
        return RowLosses(batch * model.factor * preferences, ~batch.isnan())


NAN = float("nan")
ROWS = [torch.tensor(row) for row in ([1.0, 10.0], [2.0, NAN], [NAN, 30.0], [4.0, 40.0], [6.0, NAN])]
PREFERENCES = torch.tensor([[1.0, 0.0], [0.25, 0.75]])


# What every objective does unless it says otherwise.


def test_a_draw_is_one_update():
    (update,) = Plain().updates(Scale(), "batch", PREFERENCES)
    assert update == Update("batch", PREFERENCES)
    assert dict(update.metrics) == {}


def test_updates_do_not_share_metrics_that_change():
    with pytest.raises(TypeError, match="does not support item assignment"):
        Update(None, PREFERENCES).metrics["kl"] = Metric(1.0)


def test_training_losses_are_the_losses_and_nothing_else():
    losses = Plain().training_losses(Scale(), None, PREFERENCES)
    assert type(losses) is Losses
    assert losses.auxiliary is None
    assert torch.equal(losses.values, 2 * PREFERENCES)


def test_mean_losses_without_data_have_no_graph():
    values = Plain().mean_losses(Scale(), None, PREFERENCES, 4)
    assert torch.equal(values, 2 * PREFERENCES)
    assert not values.requires_grad


def test_evaluation_on_data_must_be_said():
    with pytest.raises(NotImplementedError, match=r"Plain does not say how to evaluate on data: implement mean_losses"):
        Plain().mean_losses(Scale(), ROWS, PREFERENCES, 4)


def test_the_rest_of_the_defaults():
    objective = Plain()
    assert objective.num_objectives == 2
    assert objective.labelled(ROWS) is None
    assert objective.prepare_model(Scale()) is None
    assert objective.state_dict() == {}
    objective.load_state_dict({})
    assert objective.record_types == ()
    assert torch.equal(objective.collate(ROWS[:1]), ROWS[0].unsqueeze(0))


# Rows.


@pytest.mark.parametrize("batch_size", [1, 2, 5, 8])
def test_mean_losses_by_hand(batch_size):
    """Means over all labelled rows, not means of batch means."""
    values = Weighted().mean_losses(Scale(), ROWS, PREFERENCES, batch_size)
    means = torch.tensor([(1 + 2 + 4 + 6) / 4, (10 + 30 + 40) / 3])
    assert not values.requires_grad
    torch.testing.assert_close(values, (2 * PREFERENCES * means).double())


def test_group_means_by_hand():
    losses = Weighted().losses(Scale(), torch.stack(ROWS[:4]), PREFERENCES)
    torch.testing.assert_close(losses, torch.tensor([[2 * 1.5, 0.0], [2 * 0.25 * 4.0, 2 * 0.75 * 35.0]]))


@pytest.mark.parametrize(
    ("batch_size", "expected"), [(2, [[0, 1], [2, 3], [4]]), (5, [[0, 1, 2, 3, 4]]), (9, [[0, 1, 2, 3, 4]])]
)
def test_evaluation_batches_are_in_order_unless_the_objective_says_otherwise(batch_size, expected):
    assert Weighted().evaluation_batches(ROWS, batch_size) == expected


def test_an_objective_may_choose_its_batches_and_complete_each_once():
    """What is the same at every preference is computed once a batch."""

    class Completed(Weighted):
        def __init__(self) -> None:
            self.completed = []

        def evaluation_batches(self, data, batch_size):
            return [[4, 2], [3, 1, 0]]

        def complete(self, model, batch):
            self.completed.append(batch)
            return batch * 10

    objective = Completed()
    values = objective.mean_losses(Scale(), ROWS, PREFERENCES, 2)
    torch.testing.assert_close(values, 10 * Weighted().mean_losses(Scale(), ROWS, PREFERENCES, 2))
    assert [len(batch) for batch in objective.completed] == [2, 3]
    assert objective.completed[0][0, 0] == 6.0


def test_a_group_without_a_label_is_named():
    with pytest.raises(ValueError, match="group 1 has no row labelled on 'b'"):
        Weighted().losses(Scale(), torch.stack([ROWS[0], ROWS[1]]), PREFERENCES)


def test_rows_that_cannot_be_shared_evenly():
    with pytest.raises(ValueError, match="3 rows cannot be shared evenly among 2"):
        Weighted().losses(Scale(), torch.stack(ROWS[:3]), PREFERENCES)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "Weighted has nothing to evaluate on: give data with at least one row"),
        ([], "Weighted has nothing to evaluate on"),
        ([ROWS[1]], r"no row is labelled on 'b'\."),
    ],
)
def test_what_cannot_be_evaluated(data, message):
    with pytest.raises(ValueError, match=message):
        Weighted().mean_losses(Scale(), data, PREFERENCES, 2)


def test_where_labels_are_known_before_nothing_is_evaluated_in_vain():
    class Known(Weighted):
        def labelled(self, data):
            return torch.stack([~row.isnan() for row in data])

        def row_losses(self, model, batch, preferences):
            raise AssertionError("it is refused before")

    with pytest.raises(ValueError, match="no row is labelled on 'b'"):
        Known().mean_losses(Scale(), [ROWS[1], ROWS[4]], PREFERENCES, 2)


# Rows of the wrong shape, or none.


@pytest.mark.parametrize("kind", ["values", "labelled"])
@pytest.mark.parametrize("shape", [(4,), (4, 1), (1, 4, 2), (2, 2), (8,), (4, 3)])
def test_row_losses_of_another_shape_are_refused_by_name(kind, shape):
    """Viewed as groups, many of them would be taken without a word."""

    class Wrong(Weighted):
        def row_losses(self, model, batch, preferences):
            parts = {"values": torch.ones(4, 2), "labelled": torch.ones(4, 2, dtype=torch.bool)}
            parts[kind] = torch.ones(shape, dtype=parts[kind].dtype)
            return RowLosses(**parts)

    batch = torch.ones(4, 2)
    message = rf"Wrong\.row_losses returned {kind} of shape .*, not \(4, 2\): one row for each row of the batch"
    with pytest.raises(ValueError, match=message):
        Wrong().losses(Scale(), batch, PREFERENCES)
    with pytest.raises(ValueError, match=message):
        Wrong().mean_losses(Scale(), list(batch), PREFERENCES, batch_size=4)


@pytest.mark.parametrize("kind", ["values", "labelled"])
def test_row_losses_that_are_no_tensors_are_refused_by_name(kind):
    class Wrong(Weighted):
        def row_losses(self, model, batch, preferences):
            parts = {"values": torch.ones(4, 2), "labelled": torch.ones(4, 2, dtype=torch.bool)}
            return RowLosses(**{**parts, kind: None})

    with pytest.raises(TypeError, match=rf"Wrong\.row_losses returned {kind} of type NoneType"):
        Wrong().losses(Scale(), torch.ones(4, 2), PREFERENCES)


def test_labels_that_are_no_bools_are_refused():
    class Wrong(Weighted):
        def row_losses(self, model, batch, preferences):
            return RowLosses(torch.ones(4, 2), torch.ones(4, 2))

    with pytest.raises(ValueError, match=r"returned labelled of type torch\.float32: give bools"):
        Wrong().losses(Scale(), torch.ones(4, 2), PREFERENCES)


def test_data_without_numbers_are_refused():
    with pytest.raises(TypeError, match="data is a generator, whose rows cannot be had by their number"):
        Weighted().mean_losses(Scale(), (row for row in ROWS), PREFERENCES, batch_size=2)


@pytest.mark.parametrize("mixed_precision", [None, "bf16"])
def test_rows_that_the_model_does_not_go_with_are_refused_before_an_evaluation(mixed_precision):
    class Wary(Weighted):
        def check_data(self, model, data, precision):
            raise ValueError(f"{type(model).__name__} in {precision} does not go with {len(data)} rows.")

        def row_losses(self, model, batch, preferences):
            raise AssertionError("it is refused before")

    message = f"Scale in {mixed_precision or 'float32'} does not go with {len(ROWS)} rows"
    with autocast(torch.device("cpu"), mixed_precision), pytest.raises(ValueError, match=message):
        Wary().mean_losses(Scale(), ROWS, PREFERENCES, batch_size=2)


def test_rows_of_any_precision_pass_where_nothing_was_computed_before():
    assert Plain().check_data(Scale(), [{"reference_precision": "bf16"}], "float32") is None


@pytest.mark.parametrize("kind", ["values", "labelled"])
@pytest.mark.parametrize("spoil", [lambda part: part.to("meta"), torch.Tensor.to_sparse])
def test_row_losses_that_hold_no_numbers_are_refused_by_name(kind, spoil):
    class Wrong(Weighted):
        def row_losses(self, model, batch, preferences):
            parts = {"values": torch.ones(4, 2), "labelled": torch.ones(4, 2, dtype=torch.bool)}
            return RowLosses(**{**parts, kind: spoil(parts[kind])})

    with pytest.raises(ValueError, match=rf"what Wrong\.row_losses returned as {kind} is a .*(meta|sparse)"):
        Wrong().losses(Scale(), torch.ones(4, 2), PREFERENCES)
    with pytest.raises(ValueError, match=rf"what Wrong\.row_losses returned as {kind} is a .*(meta|sparse)"):
        Wrong().mean_losses(Scale(), list(torch.ones(4, 2)), PREFERENCES, batch_size=4)

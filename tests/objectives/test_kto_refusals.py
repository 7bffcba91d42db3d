"""KTO at its doors: rows that cannot be right are refused before the work, by their number."""

import math

import pytest
import torch

from mopref import ParetoTrainer, PreferenceModel, SVDLoRAConfig, TrainerConfig
from mopref.objectives import KTO
from mopref.scalarizers import Linear

NAMES = ("length", "even")


@pytest.fixture
def rows() -> list[dict]:
    return [
        {"prompt_ids": [5, 6], "response_ids": [7], "mismatched_response_ids": [8, 9], "labels": labels}
        for labels in [[0, 1], [1, 0], [1, -1], [0, 1]] * 2
    ]


def refusals(model, rows, with_precompute=True) -> list[str]:
    """What each door says of the rows."""
    kto, config = KTO(NAMES), TrainerConfig(steps=1, batch_size=8, preferences_per_step=2, progress=False, cpu=True)
    uses = [
        lambda: ParetoTrainer(model, kto, Linear(), train_data=rows, config=config),
        lambda: kto.mean_losses(model, rows, torch.tensor([[0.5, 0.5]]), 4),
    ]
    texts = []
    for use in uses + [lambda: kto.precompute(model, rows)] * with_precompute:
        with pytest.raises(ValueError, match="row 3 ") as error:
            use()
        texts.append(str(error.value))
    return texts


@pytest.mark.parametrize("column", ["prompt_ids", "response_ids", "mismatched_response_ids"])
@pytest.mark.parametrize(("ids", "message"), [([100], "the token 100 in"), ([1.9], "a float in"), ([], "no token in")])
def test_rows_of_other_tokens_than_the_models_are_refused_everywhere(ids, message, column, model, rows):
    rows[3][column] = ids
    assert all(text.startswith(f"row 3 has {message} {column}") for text in refusals(model, rows))


@pytest.mark.parametrize("labels", [[True, 0], [1.0, 0], ["1", 0], [2, 0], [1], None], ids=repr)
def test_labels_that_are_no_whole_numbers_are_refused_everywhere(labels, model, rows):
    rows[3]["labels"] = labels
    assert all("give one for each of length, even, 1 for a good answer" in text for text in refusals(model, rows))


def test_references_that_are_no_two_finite_numbers_are_refused_before_the_work(model, rows):
    kept = KTO(NAMES).precompute(model, rows)
    kept[3]["reference_log_probabilities"] = [-1.0, math.nan]
    assert all("reference_log_probabilities of shape (2,)" in text for text in refusals(model, kept, False))


def test_a_trainer_needs_rows(make_llama):
    model = PreferenceModel(make_llama(), SVDLoRAConfig(objectives=NAMES))
    with pytest.raises(ValueError, match="train_data is None, but KTO is trained on data rows"):
        ParetoTrainer(model, KTO(NAMES), Linear(), config=TrainerConfig(steps=1, preferences_per_step=2, cpu=True))


def test_groups_that_are_too_small_are_refused_when_the_trainer_is_made(model, rows):
    config = TrainerConfig(steps=1, batch_size=6, preferences_per_step=2, progress=False, cpu=True)
    with pytest.raises(ValueError, match=r"batch_size is 6 and preferences_per_step 2, which is 3 rows .* KTO needs 4"):
        ParetoTrainer(model, KTO(NAMES), Linear(), train_data=rows, config=config)


def test_too_few_rows_are_not_evaluated(model, rows):
    with pytest.raises(ValueError, match=r"a preference has 3 rows, too few .* give it 4 at least, by more data"):
        KTO(NAMES).mean_losses(model, rows[:3], torch.tensor([[0.5, 0.5]]), 8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beta": "0.1"}, "beta is '0.1', of type str: give a number"),
        ({"beta": True}, "beta is True"),
        ({"undesirable_weight": True}, "undesirable_weight is True"),
        ({"disable_dropout": "no"}, "disable_dropout is 'no', of type str: give True or False"),
    ],
)
def test_settings_of_another_type_are_named(options, message):
    with pytest.raises(TypeError, match=message):
        KTO(NAMES, **options)


def test_a_batch_size_below_1_is_refused_where_rows_are_evaluated(model, rows):
    for use in (
        lambda: KTO(NAMES).mean_losses(model, rows, torch.tensor([[0.5, 0.5]]), -4),
        lambda: KTO(NAMES).precompute(model, rows, batch_size=-4),
    ):
        with pytest.raises(ValueError, match="batch_size is -4: it must be at least 1"):
            use()

"""DPO at its doors: what is refused before the work, and what a trainer does to the model."""

import copy
import math

import numpy as np
import pytest
import torch
from datasets import Dataset

from mopref import ParetoTrainer, PreferenceModel, SVDLoRAConfig, TrainerConfig
from mopref.llm.evaluation import preference_front
from mopref.llm.policy import Policy
from mopref.objectives import DPO
from mopref.scalarizers import Linear

NAMES = ("helpful", "harmless", "brief")
CONFIG = SVDLoRAConfig(objectives=NAMES, rank=3, preference_rank=2)
LABELS = [[0, 1, 0], [1, -1, 0], [-1, 1, 1], [0, 0, -1], [1, 0, 1], [0, 1, -1], [-1, 0, 1], [1, 1, 0]]


@pytest.fixture
def rows(make_pairs) -> list[dict]:
    return make_pairs(LABELS)


@pytest.fixture
def model(make_lm, randomise):
    return randomise(PreferenceModel(copy.deepcopy(make_lm()), CONFIG), std=0.15).eval()


@pytest.fixture
def row_preferences() -> torch.Tensor:
    raw = torch.rand(8, 3, generator=torch.Generator().manual_seed(9))
    raw[2] = torch.tensor([0.0, 1.0, 0.0])
    return raw / raw.sum(-1, keepdim=True)


@pytest.mark.parametrize("names", [[], ("a", "a"), "ab", (1, 2), None], ids=repr)
def test_names_that_are_none_are_refused(names):
    with pytest.raises(ValueError, match="names is "):
        DPO(names)


@pytest.mark.parametrize("beta", [math.inf, math.nan, 0.0, -1.0])
def test_a_beta_out_of_range_is_refused(beta):
    with pytest.raises(ValueError, match=f"beta is {beta}"):
        DPO(NAMES, beta=beta)


RECORD = {"prompt": "Tell me a secret.", "response_0": "No.", "response_1": "Yes.", "helpful": 1, "harmless": 0}


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (
            [RECORD],
            ValueError,
            r"row 0 has prompt, response_0, .*, but no prompt_ids, .*: use tokenize_records",
        ),
        ([[1, 2]], ValueError, "row 0 is a list, not a dict with prompt_ids"),
        (iter([RECORD]), TypeError, "data is a list_iterator, whose rows cannot be had by their number"),
    ],
    ids=["records", "lists", "iterator"],
)
def test_data_that_are_no_rows_are_refused_everywhere(model, data, error, message):
    dpo, preferences = DPO(NAMES), torch.full((1, 3), 1 / 3)
    for use in (
        lambda: dpo.labelled(data),
        lambda: dpo.labels(data),
        lambda: dpo.precompute(model, data),
        lambda: dpo.mean_losses(model, data, preferences, 4),
    ):
        with pytest.raises(error, match=message) as refusal:
            use()
        assert "secret" not in str(refusal.value)


def test_rows_that_name_their_labels_in_another_order_are_refused_everywhere(model, rows):
    dpo, preferences = DPO(NAMES), torch.full((1, 3), 1 / 3)
    named = [{**row, "objectives": NAMES} for row in rows]
    assert torch.equal(dpo.labels(named), dpo.labels(rows))
    named[5]["objectives"] = NAMES[::-1]
    for use in (
        lambda: dpo.labelled(named),
        lambda: dpo.precompute(model, named),
        lambda: dpo.mean_losses(model, named, preferences, 4),
    ):
        with pytest.raises(ValueError, match=r"row 5 \(brief, harmless, helpful\): the same in another order"):
            use()


def test_precompute_refuses_a_model_of_other_names(model, rows):
    with pytest.raises(ValueError, match=r"the model \(helpful, harmless, brief\): the same in another order"):
        DPO(NAMES[::-1]).precompute(model, rows)


@pytest.mark.parametrize("mixed_precision", [None, "bf16"])
def test_precomputed_references_are_in_the_precision_asked_for(model, rows, mixed_precision):
    """Also within an autocast of the caller's."""
    dpo = DPO(NAMES)
    sequences = dpo.collate(rows).sequences
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=mixed_precision == "bf16"):
        expected = Policy(model).reference_log_probabilities(sequences).sum(dim=1).view(2, -1).T.tolist()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        complete = dpo.precompute(model, rows, mixed_precision=mixed_precision)
    for row, pair in zip(complete, expected, strict=True):
        assert row["reference_log_probabilities"] == pytest.approx(pair, abs=2e-2 if mixed_precision else 1e-4)
        assert row["reference_precision"] == (mixed_precision or "float32")
    assert all("reference_precision" not in row for row in rows)


@pytest.mark.parametrize("disables", [True, False])
def test_a_trainer_turns_dropout_off_unless_it_is_to_stay(make_gpt2, rows, disables):
    base = make_gpt2(resid_pdrop=0.3, embd_pdrop=0.3, attn_pdrop=0.3)
    model = PreferenceModel(base, CONFIG)
    config = TrainerConfig(steps=1, batch_size=8, preferences_per_step=2, progress=False, cpu=True)
    trainer = ParetoTrainer(model, DPO(NAMES, disable_dropout=disables), Linear(), train_data=rows, config=config)
    loss = trainer.train()[0]["loss"]
    assert (abs(loss - math.log(2)) < 1e-5) is disables


def test_the_reference_comes_before_the_policys_forward(make_llama, randomise, rows, row_preferences):
    """Some models change their weights in place on entering evaluation mode, as RWKV does."""
    model = randomise(PreferenceModel(make_llama(), CONFIG)).train()
    weight = model.base_model.model.layers[1].self_attn.q_proj.base_layer.weight

    def rescale(base, _):
        if not base.training:
            with torch.no_grad():
                weight.mul_(1.0)

    model.base_model.register_forward_pre_hook(rescale)
    values, labelled = DPO(NAMES).row_losses(model, DPO(NAMES).collate(rows), row_preferences)
    values[labelled].sum().backward()


@pytest.mark.parametrize("frozen_layers", [False, True])
def test_rows_of_another_model_are_refused_everywhere(frozen_layers, make_llama, rows):
    """Of another base, or with activations that enter another block; the reference alone is of any adapters."""

    def model_of(layers, **options) -> PreferenceModel:
        return PreferenceModel(make_llama(num_hidden_layers=3, **options), SVDLoRAConfig(NAMES, layers=layers))

    dpo = DPO(NAMES)
    kept = dpo.precompute(model_of((2,)), rows, frozen_layers=frozen_layers)
    config = TrainerConfig(steps=1, batch_size=8, preferences_per_step=2, progress=False, cpu=True)
    preferences = torch.full((1, 3), 1 / 3)

    def uses(model):
        yield lambda: ParetoTrainer(model, dpo, Linear(), train_data=kept, config=config)
        yield lambda: preference_front(model, dpo, kept, preferences)
        yield lambda: dpo.mean_losses(model, kept, preferences, 4)
        yield lambda: ParetoTrainer(model, dpo, Linear(), train_data=rows, config=config).front(preferences, kept)

    for use in uses(model_of((2,))):
        use()
    for model, refuses in ((model_of((2,), seed=1), True), (model_of((1, 2)), frozen_layers)):
        for use in uses(model):
            if refuses:
                with pytest.raises(ValueError, match=r"row 0 has a \w+ that was computed with the base of weights"):
                    use()
            else:
                use()


def test_auto_keeps_nothing_where_the_layers_cannot_be_computed_apart(model, rows, monkeypatch):
    """The first block adapted, or a comparison that fails."""
    dpo = DPO(NAMES)
    expected = dpo.precompute(model, rows)
    assert dpo.precompute(model, rows, frozen_layers="auto") == expected
    with pytest.raises(ValueError, match="the first block is adapted"):
        dpo.precompute(model, rows, frozen_layers=True)
    monkeypatch.setattr(Policy, "keeps_lower_layers", lambda policy, tokens: True)
    assert dpo.precompute(model, rows, frozen_layers="auto") == expected
    with pytest.raises(ValueError, match="frozen_layers is 'always': choose True, False or 'auto'"):
        dpo.precompute(model, rows, frozen_layers="always")


def test_rows_too_long_for_the_model_are_refused_everywhere(make_gpt2, rows):
    model, dpo = PreferenceModel(make_gpt2(n_positions=16), CONFIG), DPO(NAMES)
    rows[3]["response_1_ids"] = [7] * 16
    tokens = 16 + len(rows[3]["prompt_ids"])
    config = TrainerConfig(steps=1, batch_size=8, preferences_per_step=2, progress=False, cpu=True)
    for use in (
        lambda: ParetoTrainer(model, dpo, Linear(), train_data=rows, config=config),
        lambda: dpo.precompute(model, rows),
        lambda: dpo.mean_losses(model, rows, torch.full((1, 3), 1 / 3), 4),
        lambda: preference_front(model, dpo, rows, torch.full((1, 3), 1 / 3)),
    ):
        with pytest.raises(ValueError, match=f"row 3 has {tokens} tokens, but GPT2LMHeadModel has 16 positions"):
            use()


@pytest.mark.parametrize("kind", [None, "torch", "numpy"])
@pytest.mark.parametrize("frozen_layers", [False, True])
def test_rows_out_of_a_data_set_are_the_same(frozen_layers, kind, make_llama, rows, row_preferences):
    """Which hands out lists, tensors or arrays of what was put in."""
    model, dpo = PreferenceModel(make_llama(), SVDLoRAConfig(NAMES, layers=(1,))), DPO(NAMES)
    kept = dpo.precompute(model, rows, frozen_layers=frozen_layers)
    plain = [{key: value.tolist() if torch.is_tensor(value) else value for key, value in row.items()} for row in kept]
    data = Dataset.from_list(plain).with_format(kind)
    batch, expected = dpo.collate([data[i] for i in range(8)]), dpo.collate(kept)
    for first, second in zip((*batch.sequences, *batch[1:]), (*expected.sequences, *expected[1:]), strict=True):
        if second is None:
            assert first is None
        else:
            torch.testing.assert_close(first, second)
    losses = [dpo.mean_losses(model, rows, row_preferences[:2], 3) for rows in (data, kept)]
    torch.testing.assert_close(losses[0], losses[1])
    again = dpo.precompute(model, data, frozen_layers=frozen_layers)
    pairs = [[row["reference_log_probabilities"] for row in rows] for rows in (again, kept)]
    torch.testing.assert_close(*(torch.stack([torch.as_tensor(pair).float() for pair in part]) for part in pairs))


def doors(model, dpo, data):
    """Wherever rows enter."""
    config = TrainerConfig(steps=1, batch_size=8, preferences_per_step=2, progress=False, cpu=True)
    preferences = torch.full((1, 3), 1 / 3)
    return {
        "trainer": lambda: ParetoTrainer(model, dpo, Linear(), train_data=data, config=config),
        "precompute": lambda: dpo.precompute(model, data),
        "losses": lambda: dpo.mean_losses(model, data, preferences, 4),
        "front": lambda: preference_front(model, dpo, data, preferences),
    }


@pytest.mark.parametrize("column", ["prompt_ids", "response_0_ids", "response_1_ids"])
@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([7, 100], "row 3 has the token 100 in {}, but "),
        ([-1], "row 3 has the token -1 in {}, but "),
        ([1.9], "row 3 has a float in {}: give a list of whole numbers"),
        ([], "row 3 has no token in {}: the log-probability"),
        ("secret", "row 3 has a str as {}: give a list of whole numbers"),
    ],
    ids=str,
)
def test_rows_of_other_tokens_than_the_models_are_refused_everywhere(ids, message, column, model, rows):
    rows[3][column] = ids
    for use in doors(model, DPO(NAMES), rows).values():
        with pytest.raises(ValueError, match=message.format(column)) as error:
            use()
        assert "secret" not in str(error.value)


@pytest.mark.parametrize("labels", [[True, 0, 1], [0, 1.0, 1], [0, "1", 1], [0, 1, 2], [0, 1], None], ids=repr)
def test_labels_that_are_no_whole_numbers_are_refused_everywhere(labels, model, rows):
    rows[5]["labels"] = labels
    message = r"row 5 has labels \[.*\]: give one for each of helpful, harmless, brief, 0 or 1 for the preferred resp"
    for use in doors(model, DPO(NAMES), rows).values():
        with pytest.raises(ValueError, match=message):
            use()


def test_labels_of_numpy_and_torch_are_labels(rows):
    expected = DPO(NAMES).labels(rows)
    for make in (np.array, torch.tensor, lambda labels: [np.int64(label) for label in labels]):
        assert torch.equal(DPO(NAMES).labels([{**row, "labels": make(row["labels"])} for row in rows]), expected)


def test_references_that_are_no_two_finite_numbers_are_refused_before_the_work(model, rows):
    dpo = DPO(NAMES)
    kept = dpo.precompute(model, rows)
    kept[2]["reference_log_probabilities"] = [-1.0, math.nan]
    uses = doors(model, dpo, kept)
    # Which makes them anew.
    uses.pop("precompute")()
    for use in uses.values():
        with pytest.raises(ValueError, match="row 2 has reference_log_probabilities of shape"):
            use()


@pytest.mark.parametrize(("data", "message"), [(None, "train_data is None, but DPO"), ([], "train_data has no row")])
def test_a_trainer_needs_rows(data, message, model):
    with pytest.raises(ValueError, match=message):
        doors(model, DPO(NAMES), data)["trainer"]()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beta": "0.1"}, "beta is '0.1', of type str: give a number"),
        ({"beta": None}, "beta is None"),
        ({"loss": 3}, "loss is 3, of type int: give a text"),
        ({"loss": ["ipo"]}, r"loss is \['ipo'\]"),
        ({"length_normalized": "no"}, "length_normalized is 'no', of type str: give True or False"),
        ({"disable_dropout": None}, "disable_dropout is None"),
        ({"loss": "robust", "label_smoothing": "0.1"}, "label_smoothing is '0.1'"),
    ],
)
def test_settings_of_another_type_are_named(options, message):
    with pytest.raises(TypeError, match=message):
        DPO(NAMES, **options)

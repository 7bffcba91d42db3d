"""KTO in use: what is precomputed and evaluated, a training and its checkpoint, and what is refused at the doors."""

import copy
import math

import pytest
import torch
from datasets import Dataset
from kto_inputs import BETA, CONFIG, LABELS, NAMES, WEIGHTS, expected_values, log_ratio, make_rows
from torch import Tensor, nn

from mopref import ParetoTrainer, PreferenceModel, SVDLoRAConfig, TrainerConfig
from mopref.llm.policy import Policy
from mopref.llm.policy.forward_traits import forward_traits
from mopref.objectives import KTO
from mopref.scalarizers import Linear

MISMATCHED = "mismatched_response_ids"
CENTRE = torch.full((1, 3), 1 / 3)


@pytest.fixture
def rows() -> list[dict]:
    return make_rows()


@pytest.fixture
def base(make_lm):
    return make_lm()


@pytest.fixture
def model(base, randomise):
    return randomise(PreferenceModel(copy.deepcopy(base), CONFIG), std=0.15).eval()


@pytest.fixture
def preferences() -> Tensor:
    raw = torch.rand(3, 3, generator=torch.Generator().manual_seed(9))
    raw[1] = torch.tensor([0.0, 1.0, 0.0])
    return raw / raw.sum(-1, keepdim=True)


def config_of(**options) -> TrainerConfig:
    options = {"steps": 1, "batch_size": 12, "preferences_per_step": 3, "log_every": 1} | options
    return TrainerConfig(**options, cpu=True, progress=False)


# What is precomputed.


def test_precomputed_rows_give_the_same_losses_and_gradients(model, rows, preferences):
    kto, model, before = KTO(NAMES, BETA, **WEIGHTS), model.train(), copy.deepcopy(rows)
    cached = kto.precompute(model, rows, batch_size=5)
    assert rows == before, "the given rows stay as they are"
    assert model.training
    assert [row["response_ids"] for row in cached] == [row["response_ids"] for row in rows], "and keep their order"
    results = []
    for data in (rows, cached):
        model.zero_grad()
        losses = kto.losses(model, kto.collate(data), preferences)
        losses.sum().backward()
        results.append((losses.detach(), [p.grad.clone() for p in model.parameters() if p.requires_grad]))
    torch.testing.assert_close(results[1][0], results[0][0], atol=1e-5, rtol=1e-5)
    scale = max(g.abs().max().item() for g in results[0][1])
    assert scale > 0
    for actual, expected in zip(results[1][1], results[0][1], strict=True):
        torch.testing.assert_close(actual, expected, atol=1e-5 * scale, rtol=1e-4)


@torch.no_grad()
def test_precomputed_references_are_those_of_the_base(base, model, rows):
    """log π_ref of the answer and of the mismatched one, in this order; again on rows that have other ones."""

    def zero(prompt_and_response: dict, name: str) -> float:
        class Flat(nn.Module):
            def forward(self, tokens):
                return type("Output", (), {"logits": torch.zeros(*tokens.shape, 100)})

        uniform = log_ratio(base, Flat(), prompt_and_response, name).item()
        return uniform - len(prompt_and_response[name]) * math.log(100)

    stale = [{**row, "reference_log_probabilities": [0.0, 0.0], "reference_precision": "bf16"} for row in rows]
    for data in (rows, stale):
        for row in KTO(NAMES).precompute(model, data, batch_size=5):
            expected = [zero(row, "response_ids"), zero(row, MISMATCHED)]
            assert row["reference_log_probabilities"] == pytest.approx(expected, abs=1e-4)
            assert row["reference_precision"] == "float32"


def test_the_notes_of_precomputed_rows_are_checked_everywhere(make_llama, rows):
    """Against another base, and against another precision; other adapters of the same base do no harm."""
    kto = KTO(NAMES)
    kept = kto.precompute(PreferenceModel(make_llama(), CONFIG), rows)
    halved = kto.precompute(PreferenceModel(make_llama(), CONFIG), rows, mixed_precision="bf16")
    assert {row["reference_precision"] for row in halved} == {"bf16"}

    def uses(model, data):
        yield lambda: ParetoTrainer(model, kto, Linear(), train_data=data, config=config_of())
        yield lambda: kto.mean_losses(model, data, CENTRE, 4)
        yield lambda: ParetoTrainer(model, kto, Linear(), train_data=rows, config=config_of()).front(CENTRE, data)

    for use in uses(PreferenceModel(make_llama(), SVDLoRAConfig(NAMES, rank=1)), kept):
        use()
    for use in uses(PreferenceModel(make_llama(seed=1), CONFIG), kept):
        with pytest.raises(ValueError, match="row 0 has a reference that was computed with the base of weights"):
            use()
    for use in uses(PreferenceModel(make_llama(), CONFIG), halved):
        with pytest.raises(ValueError, match=r"row 0 .*bf16"):
            use()


@pytest.mark.parametrize("mixed_precision", [None, "bf16"])
def test_precomputed_references_are_in_the_precision_asked_for(model, rows, mixed_precision):
    """Also within an autocast of the caller's."""
    batch = KTO(NAMES).collate(rows)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=mixed_precision == "bf16"):
        expected = Policy(model).reference_log_probabilities(batch.sequences).sum(dim=1).tolist()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        complete = KTO(NAMES).precompute(model, rows, mixed_precision=mixed_precision)
    # Another batch has other shapes, for which a processor may choose kernels that round otherwise.
    near = {"rel": 4e-3} if mixed_precision else {"abs": 1e-4}
    for row, value in zip(complete, expected, strict=True):
        assert row["reference_log_probabilities"][0] == pytest.approx(value, **near)
        assert row["reference_precision"] == (mixed_precision or "float32")


@torch.no_grad()
def test_the_reference_is_computed_without_dropout(make_gpt2, randomise, rows, preferences):
    """In training mode the policy drops units, the reference does not, cached or not."""
    base = make_gpt2(resid_pdrop=0.3, embd_pdrop=0.3)
    model = randomise(PreferenceModel(copy.deepcopy(base), CONFIG), std=0.15).train()
    kto, batches = KTO(NAMES, BETA), []
    batches = [kto.collate(rows), kto.collate(kto.precompute(model, rows))]
    losses = []
    for batch, seed in ((batches[0], 0), (batches[1], 0), (batches[0], 1)):
        torch.manual_seed(seed)
        losses.append(kto.losses(model, batch, preferences))
    assert (losses[2] - losses[0]).abs().max() > 1e-3, "the policy must drop units in training mode"
    torch.testing.assert_close(losses[1], losses[0], atol=1e-5, rtol=1e-5)
    assert model.base_model.training, "the reference forward must restore the mode"


# Evaluation.


@torch.no_grad()
@pytest.mark.parametrize("batch_size", [1, 3, 5, 12, 100])
def test_an_evaluation_is_that_of_all_rows_at_any_batch_size(batch_size, base, model, rows, preferences, merge_by_hand):
    """z from all rows, and a mean over all labelled rows: a mean of batch means would weigh labels unequally."""
    kto = KTO(NAMES, BETA, **WEIGHTS)
    values = kto.mean_losses(model, rows, preferences, batch_size)
    ratios = kto.all_log_ratios(model, rows, preferences, batch_size)
    assert ratios.shape == (3, 12, 2)
    for index, preference in enumerate(preferences):
        policy = merge_by_hand(base, model, preference)
        expected = expected_values([policy], base, rows, [range(12)], **WEIGHTS).nanmean(dim=0)
        torch.testing.assert_close(values[index], expected, atol=1e-5, rtol=1e-5, check_dtype=False)
        h = [[log_ratio(policy, base, row, name).item() for name in ("response_ids", MISMATCHED)] for row in rows]
        torch.testing.assert_close(ratios[index], torch.tensor(h), atol=1e-4, rtol=1e-5, check_dtype=False)
    torch.testing.assert_close(kto.losses_of_log_ratios(ratios, kto.labels(rows)), values)


def test_an_evaluation_has_no_gradients_and_runs_the_reference_once_a_batch(make_llama, randomise, rows, preferences):
    """Not once a preference: three batches, three preferences each, answers and mismatched ones."""
    model = randomise(PreferenceModel(make_llama(), CONFIG))
    forward_traits(model)  # Tried once a model, on a few tokens.
    seen = []
    model.base_model.register_forward_hook(lambda _model, _inputs, output: seen.append(output.logits.shape[0]))
    assert not KTO(NAMES).mean_losses(model, rows, preferences, batch_size=5).requires_grad
    assert len(seen) == 2 * 3 * (1 + 3)
    cached = KTO(NAMES).precompute(model, rows)
    seen.clear()
    KTO(NAMES).mean_losses(model, cached, preferences, batch_size=5)
    assert len(seen) == 2 * 3 * 3


def test_a_trainers_front_is_the_mean_losses(model, rows, preferences):
    kto = KTO(NAMES, BETA)
    expected = kto.mean_losses(model, rows, preferences, 12)
    front = ParetoTrainer(model, kto, Linear(), train_data=rows, config=config_of()).front(preferences)
    torch.testing.assert_close(torch.as_tensor(front.values), expected, atol=1e-6, rtol=1e-6, check_dtype=False)


def test_data_without_labels_of_an_objective_have_no_loss(model, rows, preferences):
    for row in rows:
        row["labels"][1] = -1
    kto = KTO(NAMES)
    with pytest.raises(ValueError, match=r"no row is labelled on 'harmless'\."):
        kto.mean_losses(model, rows, preferences, 4)
    with pytest.raises(ValueError, match=r"no row is labelled on 'harmless'\."):
        kto.losses_of_log_ratios(torch.zeros(1, 12, 2), kto.labels(rows))
    with pytest.raises(ValueError, match="group 0 has no row labelled on 'harmless'"):
        kto.losses(model, kto.collate(rows), preferences)
    with pytest.raises(ValueError, match="KTO has nothing to evaluate on"):
        kto.mean_losses(model, [], preferences, 4)


@pytest.mark.parametrize("kind", [None, "torch", "numpy"])
def test_rows_out_of_a_data_set_are_the_same(kind, make_llama, randomise, rows, preferences):
    """Which hands out lists, tensors or arrays of what was put in."""
    model, kto = randomise(PreferenceModel(make_llama(), CONFIG)), KTO(NAMES)
    kept = kto.precompute(model, rows)
    data = Dataset.from_list(kept).with_format(kind)
    assert torch.equal(kto.labels(data), torch.tensor(LABELS))
    torch.testing.assert_close(
        kto.mean_losses(model, data, preferences, 5), kto.mean_losses(model, rows, preferences, 5)
    )
    again = kto.precompute(model, data)
    pairs = [[row["reference_log_probabilities"] for row in rows] for rows in (again, kept)]
    torch.testing.assert_close(*(torch.stack([torch.as_tensor(pair).float() for pair in part]) for part in pairs))


# Training.


def test_a_training_lowers_the_losses(make_llama, rows):
    """From ½, at the centre; every answer is labelled alike on all objectives, so that all can fall."""
    for index, row in enumerate(rows):
        row["labels"] = [index % 2] * 3
    model = PreferenceModel(make_llama(), CONFIG)
    kto = KTO(NAMES, BETA)
    rows = kto.precompute(model, rows)
    config = config_of(steps=30, learning_rate=5e-3, preferences_per_step=2)
    trainer = ParetoTrainer(model, kto, Linear(), train_data=rows, config=config)
    history = trainer.train()
    assert history[0]["loss"] == pytest.approx(0.5, abs=1e-5)
    losses = kto.mean_losses(model, rows, torch.cat([CENTRE, torch.eye(3)]), 12)
    assert (losses < 0.35).all()


def test_a_checkpoint_resumes_bit_for_bit(make_llama, rows, tmp_path):
    kto = KTO(NAMES, BETA)

    def trainer_of(seed: int, folder: str) -> tuple[PreferenceModel, ParetoTrainer]:
        torch.manual_seed(seed)
        model = PreferenceModel(make_llama(), CONFIG)
        config = config_of(steps=6, checkpoint_every=1, output_dir=tmp_path / folder, learning_rate=5e-3)
        return model, ParetoTrainer(model, kto, Linear(), train_data=rows + make_rows(seed=5), config=config)

    whole, trainer = trainer_of(1, "whole")
    history = trainer.train()
    resumed, trainer = trainer_of(2, "resumed")
    assert trainer.train(resume_from=tmp_path / "whole" / "checkpoint-3")[-3:] == history[-3:]
    for (name, tensor), expected in zip(resumed.state_dict().items(), whole.state_dict().values(), strict=True):
        assert torch.equal(tensor, expected), name
    assert len({entry["loss"] for entry in history}) == 6


@pytest.mark.parametrize("disables", [True, False])
def test_a_trainer_turns_dropout_off_unless_it_is_to_stay(make_gpt2, rows, disables):
    model = PreferenceModel(make_gpt2(resid_pdrop=0.3, embd_pdrop=0.3, attn_pdrop=0.3), CONFIG)
    kto = KTO(NAMES, disable_dropout=disables)
    loss = ParetoTrainer(model, kto, Linear(), train_data=rows, config=config_of()).train()[0]["loss"]
    assert (abs(loss - 0.5) < 1e-5) is disables


# Refusals.


@pytest.mark.parametrize("per_preference", [1, 2, 3])
def test_fewer_than_four_rows_under_a_preference_are_refused(per_preference, model, preferences):
    """Before anything is computed. Two groups of two under one preference are four."""
    rows = make_rows([[1, 0, 1], [0, 1, 0]] * 4)[: 2 * per_preference]
    kto, calls = KTO(NAMES), []
    handle = model.base_model.register_forward_pre_hook(lambda *_: calls.append(1))
    with pytest.raises(ValueError, match=f"a preference has {per_preference} rows, too few .*: give it 4 at least"):
        kto.losses(model, kto.collate(rows), preferences[:2])
    assert not calls
    handle.remove()
    if per_preference > 1:
        assert torch.isfinite(kto.losses(model, kto.collate(rows), preferences[[0, 0]])).all()


@pytest.mark.parametrize("shares", [(8, 3), (3, 8)])
def test_the_smallest_group_decides(shares, model, rows, preferences):
    row_preferences = torch.cat([preferences[i : i + 1].expand(count, 3) for i, count in enumerate(shares)])
    with pytest.raises(ValueError, match="a preference has 3 rows, too few"):
        KTO(NAMES).row_losses(model, KTO(NAMES).collate(rows[:11]), row_preferences)


@torch.no_grad()
def test_groups_must_share_the_rows_evenly(model, rows, preferences):
    with pytest.raises(ValueError, match="a batch of 11 rows cannot be shared evenly among 3 preferences"):
        KTO(NAMES).losses(model, KTO(NAMES).collate(rows[:11]), preferences)


@pytest.mark.parametrize("labels", [[0, 1], [0, 1, 2], [0, 1, -2], [0, 1, 0, 1], [0, 1, None], [0, 0.5, 1]], ids=str)
def test_invalid_labels_are_refused_by_row_and_value(labels, model, rows):
    rows[3]["labels"] = labels
    kto, calls = KTO(NAMES), []
    model.base_model.register_forward_pre_hook(lambda *_: calls.append(1))
    for use in (
        lambda: kto.labelled(rows),
        lambda: kto.labels(rows),
        lambda: kto.mean_losses(model, rows, CENTRE, 4),
        lambda: ParetoTrainer(model, kto, Linear(), train_data=rows, config=config_of()),
    ):
        with pytest.raises(
            ValueError, match=r"row 3 has labels \[0, .*\]: give one for each of helpful, harmless, brief"
        ):
            use()
    assert not calls


RECORD = {"prompt": "Tell me a secret.", "response": "No.", "helpful": 1}


@pytest.mark.parametrize("column", ["prompt_ids", "response_ids", MISMATCHED, "labels"])
def test_rows_that_lack_a_column_are_refused_everywhere(column, model, rows):
    del rows[3][column]
    assert_refused_everywhere(model, rows, ValueError, rf"row 3 has .*, but no {column}")


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        ([RECORD], ValueError, "row 0 has prompt, response, .*, but no prompt_ids"),
        ([[1, 2]], ValueError, "row 0 is a list, not a dict with prompt_ids"),
        (iter([RECORD]), TypeError, "data is a list_iterator, whose rows cannot be had by their number"),
    ],
    ids=["records", "lists", "iterator"],
)
def test_data_that_are_no_rows_are_refused_everywhere(data, error, message, model):
    assert_refused_everywhere(model, data, error, message)


def assert_refused_everywhere(model: nn.Module, data, error: type[Exception], message: str) -> None:
    kto = KTO(NAMES)
    for use in (
        lambda: kto.labelled(data),
        lambda: kto.labels(data),
        lambda: kto.precompute(model, data),
        lambda: kto.mean_losses(model, data, CENTRE, 4),
    ):
        with pytest.raises(error, match=message) as refusal:
            use()
        assert "secret" not in str(refusal.value)


def test_rows_and_models_with_other_names_are_refused(model, rows):
    named = [{**row, "objectives": NAMES} for row in rows]
    assert torch.equal(KTO(NAMES).labels(named), torch.tensor(LABELS))
    named[5]["objectives"] = NAMES[::-1]
    message = r"KTO has .*, row 5 \(brief, harmless, helpful\): the same in another order"
    assert_refused_everywhere(model, named, ValueError, message)
    with pytest.raises(ValueError, match=r"the model \(helpful, harmless, brief\): the same in another order"):
        KTO(NAMES[::-1]).precompute(model, rows)


@pytest.mark.parametrize("column", ["response_ids", MISMATCHED])
def test_rows_too_long_for_the_model_are_refused_everywhere(column, make_gpt2, rows):
    model, kto = PreferenceModel(make_gpt2(n_positions=16), CONFIG), KTO(NAMES)
    rows[3][column] = [7] * 16
    tokens = 16 + len(rows[3]["prompt_ids"])
    for use in (
        lambda: ParetoTrainer(model, kto, Linear(), train_data=rows, config=config_of()),
        lambda: kto.precompute(model, rows),
        lambda: kto.mean_losses(model, rows, CENTRE, 4),
    ):
        with pytest.raises(ValueError, match=f"row 3 has {tokens} tokens, but GPT2LMHeadModel has 16 positions"):
            use()


@pytest.mark.parametrize("names", [[], ("a", "a"), "ab", (1, 2), None], ids=repr)
def test_names_that_are_none_are_refused(names):
    with pytest.raises(ValueError, match="names is "):
        KTO(names)


@pytest.mark.parametrize("name", ["beta", "desirable_weight", "undesirable_weight"])
@pytest.mark.parametrize("value", [math.inf, math.nan, 0.0, -1.0])
def test_options_out_of_range_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} is {value}: it must be positive and finite"):
        KTO(NAMES, **{name: value})


def test_precompute_needs_adapters_and_a_known_precision(base, model, rows):
    with pytest.raises(TypeError, match="need a PreferenceModel"):
        KTO(NAMES).precompute(base, rows)
    with pytest.raises(ValueError, match="mixed_precision is 'fp8': choose None, 'bf16' or 'fp16'"):
        KTO(NAMES).precompute(model, rows, mixed_precision="fp8")
    assert KTO(NAMES).precompute(model, []) == []

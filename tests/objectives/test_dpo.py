"""DPO: m losses from one policy and one reference forward, against a per-pair re-computation."""

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import nn
from torch.nn.functional import logsigmoid

from mopref import ParetoTrainer, PreferenceModel, SVDLoRAConfig, TrainerConfig
from mopref.llm.policy import Policy
from mopref.llm.policy.forward_traits import forward_traits
from mopref.objectives import DPO
from mopref.objectives.dpo import LOSSES, PairBatch, preference_signs
from mopref.registry import OBJECTIVES
from mopref.scalarizers import Linear

NAMES = ("helpful", "harmless", "brief")
CONFIG = SVDLoRAConfig(objectives=NAMES, rank=3, preference_rank=2)
LABELS = [[0, 1, 0], [1, -1, 0], [-1, 1, 1], [0, 0, -1], [1, 0, 1], [0, 1, -1], [-1, 0, 1], [1, 1, 0]]
BETA = 0.3
VARIANTS = [
    {},
    {"loss": "ipo"},
    {"loss": "ipo", "length_normalized": True},
    {"loss": "hinge"},
    {"loss": "robust", "label_smoothing": 0.2},
    {"length_normalized": True},
]


@pytest.fixture
def rows(make_pairs) -> list[dict]:
    return make_pairs(LABELS)


@pytest.fixture
def base(make_lm):
    return make_lm()


@pytest.fixture
def model(base, randomise):
    return randomise(PreferenceModel(copy.deepcopy(base), CONFIG), std=0.15).eval()


@pytest.fixture
def row_preferences() -> torch.Tensor:
    raw = torch.rand(8, 3, generator=torch.Generator().manual_seed(9))
    raw[2] = torch.tensor([0.0, 1.0, 0.0])
    return raw / raw.sum(-1, keepdim=True)


def log_probability(model: nn.Module, prompt: list[int], response: list[int], **options) -> torch.Tensor:
    """One unpadded row, full logits."""
    logits = model(torch.tensor([prompt + response]), **options).logits[0]
    return torch.log_softmax(logits, -1)[range(len(prompt) - 1, len(prompt) + len(response) - 1), response].sum()


def pair_loss(margin: torch.Tensor, loss: str = "sigmoid", label_smoothing: float = 0.1) -> torch.Tensor:
    """The loss of one signed margin c·d, written out."""
    if loss == "sigmoid":
        return -logsigmoid(BETA * margin)
    if loss == "ipo":
        return (margin - 1 / (2 * BETA)) ** 2
    if loss == "hinge":
        return torch.relu(1 - BETA * margin)
    clean, flipped = -logsigmoid(BETA * margin), -logsigmoid(-BETA * margin)
    return ((1 - label_smoothing) * clean - label_smoothing * flipped) / (1 - 2 * label_smoothing)


def expected_values(
    base: nn.Module, model: nn.Module, rows: list[dict], preferences: torch.Tensor, variant: dict
) -> torch.Tensor:
    """Row by row, pair by pair, objective by objective; NaN where a row has no label."""
    options = {key: value for key, value in variant.items() if key != "length_normalized"}
    values = torch.full((len(rows), 3), math.nan)
    for i, row in enumerate(rows):
        h = []
        for response in (row["response_0_ids"], row["response_1_ids"]):
            policy = log_probability(model, row["prompt_ids"], response, preferences=preferences[i])
            reference = log_probability(base, row["prompt_ids"], response)
            length = len(response) if variant.get("length_normalized") else 1
            h.append((policy - reference) / length)
        for j, label in enumerate(row["labels"]):
            if label >= 0:
                values[i, j] = pair_loss((h[0] - h[1]) * (1 if label == 0 else -1), **options)
    return values


@torch.no_grad()
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_row_losses_equal_the_per_pair_computation(variant, base, model, rows, row_preferences):
    dpo = DPO(NAMES, beta=BETA, **variant)
    values, labelled = dpo.row_losses(model, dpo.collate(rows), row_preferences)
    expected = expected_values(base, model, rows, row_preferences, variant)
    assert torch.equal(labelled, ~expected.isnan())
    assert torch.equal(labelled, torch.tensor(LABELS) >= 0)
    torch.testing.assert_close(values[labelled], expected[labelled], atol=1e-4, rtol=1e-5)
    assert expected[labelled].std() > 0.05, "the test would be vacuous if all margins were zero"
    assert torch.isfinite(values).all(), "entries without a label must not be NaN: 0 · NaN is NaN in a mean"


@torch.no_grad()
@pytest.mark.parametrize("groups", [1, 2])
def test_losses_are_group_means_over_labelled_rows(groups, base, model, rows, row_preferences):
    dpo = DPO(NAMES, beta=BETA)
    preferences = row_preferences[:groups]
    losses = dpo.losses(model, dpo.collate(rows), preferences)
    assert losses.shape == (groups, 3)
    values = expected_values(base, model, rows, preferences.repeat_interleave(8 // groups, dim=0), {})
    expected = values.reshape(groups, 8 // groups, 3).nanmean(dim=1)
    torch.testing.assert_close(losses, expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_group_without_a_label_of_some_objective_raises(model, rows, row_preferences):
    """A mean over nothing is not 0."""
    for row in rows[:4]:
        row["labels"] = [0, -1, 1]
    dpo = DPO(NAMES)
    with pytest.raises(ValueError, match="group 0 has no row labelled on 'harmless'"):
        dpo.losses(model, dpo.collate(rows), row_preferences[:2])


@torch.no_grad()
def test_groups_must_share_the_rows_evenly(model, rows, row_preferences):
    dpo = DPO(NAMES)
    with pytest.raises(ValueError, match="a batch of 8 rows cannot be shared evenly among 3 preferences"):
        dpo.losses(model, dpo.collate(rows), row_preferences[:3])


def test_at_the_start_every_loss_is_log_2(base, rows, row_preferences):
    """π = π_ref: margins vanish and −log σ(0) = log 2, for every λ. The reference has no adapters."""
    model = PreferenceModel(copy.deepcopy(base), CONFIG).train()
    dpo = DPO(NAMES)
    losses = dpo.losses(model, dpo.collate(rows), row_preferences[:2])
    torch.testing.assert_close(losses, torch.full((2, 3), math.log(2)), atol=1e-5, rtol=0)


def test_an_extreme_unlabelled_row_changes_nothing(model, rows, row_preferences):
    """A margin that overflows in a masked entry must leave values and gradients of the others alone."""
    dpo = DPO(NAMES, beta=1e30, loss="ipo")
    for row in rows:
        row["labels"] = [0, 0, -1]
    batch = dpo.collate(rows)
    values, labelled = dpo.row_losses(model, batch, row_preferences)
    assert not labelled[:, 2].any()
    values[labelled].sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_gradients_are_finite_and_reach_every_adapter(variant, model, rows, row_preferences):
    dpo = DPO(NAMES, beta=BETA, **variant)
    dpo.losses(model, dpo.collate(rows), row_preferences[:2]).sum().backward()
    gradients = [p.grad for p in model.parameters() if p.requires_grad]
    assert all(g is not None and torch.isfinite(g).all() for g in gradients)
    assert all(p.grad is None for p in model.parameters() if not p.requires_grad)
    assert sum(g.abs().max() > 0 for g in gradients) == len(gradients)


@torch.no_grad()
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_swapped_responses_with_flipped_labels_are_the_same_data(variant, model, rows, row_preferences):
    dpo = DPO(NAMES, beta=BETA, **variant)
    swapped = [
        {
            "prompt_ids": row["prompt_ids"],
            "response_0_ids": row["response_1_ids"],
            "response_1_ids": row["response_0_ids"],
            "labels": [label if label < 0 else 1 - label for label in row["labels"]],
        }
        for row in rows
    ]
    values, labelled = dpo.row_losses(model, dpo.collate(rows), row_preferences)
    other, other_labelled = dpo.row_losses(model, dpo.collate(swapped), row_preferences)
    assert torch.equal(labelled, other_labelled)
    torch.testing.assert_close(other[labelled], values[labelled], atol=1e-4, rtol=1e-5)


@torch.no_grad()
def test_rows_do_not_depend_on_their_neighbours(model, rows, row_preferences):
    dpo = DPO(NAMES, beta=BETA)
    together, _ = dpo.row_losses(model, dpo.collate(rows), row_preferences)
    for i in range(8):
        alone, labelled = dpo.row_losses(model, dpo.collate(rows[i : i + 1]), row_preferences[i : i + 1])
        torch.testing.assert_close(alone[labelled], together[i : i + 1][labelled], atol=1e-5, rtol=1e-5)


@contextmanager
def counted_rows(module: nn.Module) -> Iterator[list[int]]:
    """How many rows of tokens each forward of a module sees."""
    seen: list[int] = []
    handle = module.register_forward_hook(lambda _module, _inputs, output: seen.append(output.logits.shape[0]))
    yield seen
    handle.remove()


@pytest.mark.parametrize("m", [1, 2, 6])
def test_cost_does_not_grow_with_the_number_of_objectives(m, make_llama, randomise, rows):
    """One policy and one reference forward over both responses of each pair, for all m objectives."""
    names = tuple("abcdef"[:m])
    for row in rows:
        row["labels"] = [0] * m
    model = randomise(PreferenceModel(make_llama(), SVDLoRAConfig(objectives=names, rank=2)))
    forward_traits(model)  # Tried once a model, on a few tokens.
    dpo = DPO(names)
    with counted_rows(model.base_model) as seen:
        dpo.losses(model, dpo.collate(rows), torch.full((2, m), 1 / m))
    assert len(seen) == 2
    batch = dpo.collate(dpo.precompute(model, rows))
    with counted_rows(model.base_model) as seen:
        dpo.losses(model, batch, torch.full((2, m), 1 / m))
    assert len(seen) == 1, "with cached references only the policy runs"


@pytest.mark.parametrize(("layers", "frozen_layers"), [(None, False), (None, "auto"), ([1], False), ([1], True)])
@pytest.mark.parametrize("variant", [{}, {"loss": "ipo", "length_normalized": True}], ids=str)
def test_precomputed_rows_give_the_same_losses_and_gradients(
    variant, layers, frozen_layers, make_llama, randomise, rows, row_preferences
):
    config = SVDLoRAConfig(objectives=NAMES, rank=3, preference_rank=2, layers=layers)
    model = randomise(PreferenceModel(make_llama(), config), std=0.15).train()
    dpo = DPO(NAMES, beta=BETA, **variant)
    before = copy.deepcopy(rows)
    cached = dpo.precompute(model, rows, batch_size=3, frozen_layers=frozen_layers)
    assert rows == before, "the given rows stay as they are"
    assert model.training
    results = []
    for data in (rows, cached):
        model.zero_grad()
        values, labelled = dpo.row_losses(model, dpo.collate(data), row_preferences)
        values[labelled].sum().backward()
        results.append((values[labelled].detach(), [p.grad.clone() for p in model.parameters() if p.requires_grad]))
    torch.testing.assert_close(results[1][0], results[0][0], atol=1e-5, rtol=1e-5)
    scale = max(g.abs().max().item() for g in results[0][1])
    assert scale > 0
    for actual, expected in zip(results[1][1], results[0][1], strict=True):
        torch.testing.assert_close(actual, expected, atol=1e-5 * scale, rtol=1e-4)


def test_precomputed_references_on_gpt2(make_gpt2, randomise, rows, row_preferences):
    """Where the lower layers cannot be run apart, asking for it is an error and not a silent no."""
    model = randomise(PreferenceModel(make_gpt2(), CONFIG), std=0.15).eval()
    dpo = DPO(NAMES, beta=BETA)
    values, labelled = dpo.row_losses(model, dpo.collate(rows), row_preferences)
    cached, _ = dpo.row_losses(model, dpo.collate(dpo.precompute(model, rows)), row_preferences)
    torch.testing.assert_close(cached[labelled], values[labelled], atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="frozen_layers"):
        dpo.precompute(model, rows, frozen_layers=True)


def test_frozen_layers_are_not_run_again(make_llama, randomise, rows, row_preferences):
    """Guards the test above: with the second block adapted only, the first must not run on cached rows."""
    config = SVDLoRAConfig(objectives=NAMES, rank=3, layers=[1])
    model = randomise(PreferenceModel(make_llama(), config))
    dpo = DPO(NAMES)
    batch = dpo.collate(dpo.precompute(model, rows, frozen_layers=True))
    calls = []
    blocks = [model.base_model.get_submodule(f"model.layers.{i}.self_attn") for i in (0, 1)]
    handles = [block.register_forward_pre_hook(lambda module, _: calls.append(module)) for block in blocks]
    dpo.row_losses(model, batch, row_preferences)
    assert calls == [blocks[1]]
    for handle in handles:
        handle.remove()
    assert model(torch.tensor([[5, 6]]), preferences=row_preferences[0]).logits.shape == (1, 2, 100), "still whole"


@torch.no_grad()
def test_the_reference_is_computed_without_dropout(make_gpt2, randomise, rows, row_preferences):
    """in training mode the policy drops units, the reference does not (eval mode), cached or not."""
    base = make_gpt2(resid_pdrop=0.3, embd_pdrop=0.3)
    model = randomise(PreferenceModel(copy.deepcopy(base), CONFIG), std=0.15).train()
    dpo = DPO(NAMES, beta=BETA)
    batches = [dpo.collate(rows), dpo.collate(dpo.precompute(model, rows))]
    assert model.training
    assert model.base_model.training
    values = []
    for batch in (*batches, batches[0]):
        torch.manual_seed(len(values) // 2)
        row_values, labelled = dpo.row_losses(model, batch, row_preferences)
        values.append(row_values[labelled])
    assert (values[2] - values[0]).abs().max() > 0.01, "the policy must drop units in training mode"
    torch.testing.assert_close(values[1], values[0], atol=1e-5, rtol=1e-5)
    assert model.base_model.training, "the reference forward must restore the mode"
    model.eval()
    row_values, labelled = dpo.row_losses(model, batches[1], row_preferences)
    expected = expected_values(base, model, rows, row_preferences, {})
    torch.testing.assert_close(row_values[labelled], expected[labelled], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_evaluate_is_the_mean_over_all_labelled_rows(base, model, rows, row_preferences):
    """A mean of batch means would weigh labels unequally: batches of 3 out of 8 rows have other label counts."""
    dpo = DPO(NAMES, beta=BETA)
    values = dpo.mean_losses(model, rows, row_preferences[:2], batch_size=3)
    assert values.shape == (2, 3)
    for i in range(2):
        expected = expected_values(base, model, rows, row_preferences[i].expand(8, 3), {}).nanmean(dim=0)
        torch.testing.assert_close(values[i], expected, atol=1e-5, rtol=1e-5, check_dtype=False)


@torch.no_grad()
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_mean_losses_are_those_of_the_margins(variant, model, rows, row_preferences):
    """Two ways to the same numbers: sums of losses batch by batch, and the losses of all margins."""
    dpo = DPO(NAMES, beta=BETA, **variant)
    values = dpo.mean_losses(model, rows, row_preferences[:3], batch_size=3)
    scores = dpo.all_scores(model, rows, row_preferences[:3], batch_size=5)
    margins = scores[..., 0] - scores[..., 1]
    assert margins.shape == (3, 8)
    torch.testing.assert_close(values, dpo.losses_of_scores(scores, dpo.labels(rows)), atol=1e-5, rtol=1e-5)
    for index in range(3):
        preferences = row_preferences[index].expand(8, 3)
        expected = dpo.margins(model, dpo.collate(rows), preferences)
        torch.testing.assert_close(margins[index], expected.double(), atol=1e-5, rtol=1e-5)


def test_evaluation_runs_the_reference_once_a_batch(make_llama, randomise, rows, row_preferences):
    """Not once a preference: three batches, five preferences each."""
    model = randomise(PreferenceModel(make_llama(), CONFIG))
    forward_traits(model)  # Tried once a model, on a few tokens.
    dpo = DPO(NAMES)
    for evaluate in (
        lambda: dpo.mean_losses(model, rows, row_preferences[:5], batch_size=3),
        lambda: dpo.all_scores(model, rows, row_preferences[:5], batch_size=3),
    ):
        with counted_rows(model.base_model) as seen:
            evaluate()
        assert len(seen) == 3 * (1 + 5)
    with counted_rows(model.base_model) as seen:
        dpo.mean_losses(model, dpo.precompute(model, rows), row_preferences[:5], batch_size=3)
    assert len(seen) == 1 + 3 * 5, "precomputed in one batch of eight"


def test_margins_without_a_label_of_some_objective(rows):
    labels = torch.tensor([[0, -1, 1], [1, -1, 0]])
    with pytest.raises(ValueError, match=r"no row is labelled on 'harmless'\."):
        DPO(NAMES).losses_of_scores(torch.zeros(1, 2, 2), labels)


def test_a_batch(make_llama, rows):
    dpo, model = DPO(NAMES), PreferenceModel(make_llama(), CONFIG)
    batch = dpo.collate(rows)
    assert type(batch) is PairBatch
    assert {PairBatch, type(batch.sequences)} == set(dpo.record_types)
    assert dpo.num_rows(batch) == 8
    assert batch.labels.tolist() == LABELS
    assert batch.reference_log_probabilities is None
    for half, name in ((slice(0, 8), "response_0_ids"), (slice(8, 16), "response_1_ids")):
        for row, ids, mask in zip(
            rows, batch.sequences.targets[half], batch.sequences.response_mask[half], strict=True
        ):
            assert ids[mask].tolist() == row[name]
    complete = dpo.complete(model, batch)
    expected = Policy(model).reference_log_probabilities(batch.sequences).sum(dim=1)
    torch.testing.assert_close(complete.reference_log_probabilities, expected)
    assert dpo.complete(model, complete) is complete


def test_precompute_compares_the_longest_row(make_llama, rows, monkeypatch):
    """Where the lower layers cannot be run apart it is seen there, if anywhere."""
    model = PreferenceModel(make_llama(), SVDLoRAConfig(objectives=NAMES, layers=[1]))
    seen = []
    monkeypatch.setattr(Policy, "check_frozen_layers", lambda self, sequences: seen.append(sequences))
    DPO(NAMES).precompute(model, rows, batch_size=3, frozen_layers=True)
    (sequences,) = seen
    lengths = [len(row["prompt_ids"] + max(row["response_0_ids"], row["response_1_ids"], key=len)) for row in rows]
    assert int(sequences.attention_mask.sum(dim=1).max()) == max(lengths)
    assert DPO(NAMES).precompute(model, [], frozen_layers=True) == []
    DPO(NAMES).precompute(model, rows)
    assert len(seen) == 1, "only where it matters"


def test_implicit_rewards_are_beta_times_the_log_ratios():
    scores = torch.tensor([[2.0, -4.0], [0.0, 1.0]])
    assert DPO(NAMES, beta=0.25).implicit_rewards(scores).tolist() == [[0.5, -1.0], [0.0, 0.25]]


def test_it_is_known_by_its_name():
    assert OBJECTIVES.find("dpo") is DPO


def test_the_defaults_stay():
    """Runs of recipes that leave them out depend on them."""
    dpo = DPO(NAMES)
    assert (dpo.beta, dpo.loss, dpo.label_smoothing) == (0.1, "sigmoid", None)
    assert (dpo.length_normalized, dpo.disable_dropout) == (False, True)


def test_pure_losses():
    """Pinned at signed margin 2, β = ½: β·margin = 1."""
    margin = torch.tensor([2.0], dtype=torch.float64)
    softplus = math.log1p(math.exp(-1))
    assert set(LOSSES) == {"sigmoid", "ipo", "hinge", "robust"}
    assert LOSSES["sigmoid"](margin, 0.5).item() == pytest.approx(softplus, rel=1e-12)
    assert LOSSES["ipo"](margin, 0.5).item() == pytest.approx(1.0, rel=1e-12)
    assert LOSSES["hinge"](margin, 0.25).item() == pytest.approx(0.5, rel=1e-12)
    assert LOSSES["hinge"](2 * margin, 0.5).item() == 0
    robust = (0.8 * softplus - 0.2 * (softplus + 1)) / 0.6
    assert LOSSES["robust"](margin, 0.5, 0.2).item() == pytest.approx(robust, rel=1e-12)
    assert torch.isfinite(LOSSES["sigmoid"](torch.tensor([-1e5, 1e5]), 1.0)).all()


def test_robust_without_smoothing_is_sigmoid_and_flipped_labels_average_out():
    """The point of robust DPO: its mean over labels flipped with probability ε is the clean loss."""
    margin = torch.linspace(-3, 3, 7, dtype=torch.float64)
    clean = LOSSES["sigmoid"](margin, 0.7)
    torch.testing.assert_close(LOSSES["robust"](margin, 0.7, 0.0), clean)
    mean = 0.7 * LOSSES["robust"](margin, 0.7, 0.3) + 0.3 * LOSSES["robust"](-margin, 0.7, 0.3)
    torch.testing.assert_close(mean, clean)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beta": 0.0}, r"beta is 0\.0: it must be positive"),
        ({"beta": -0.1}, r"beta is -0\.1"),
        ({"beta": math.nan}, "beta is nan"),
        ({"loss": "no-such-loss"}, "unknown DPO loss 'no-such-loss': choose one of sigmoid, ipo, hinge, robust"),
        ({"loss": "robust", "label_smoothing": 0.5}, r"label_smoothing is 0\.5: the fraction of flipped labels is in"),
        ({"loss": "robust", "label_smoothing": -0.1}, r"label_smoothing is -0\.1"),
        ({"loss": "sigmoid", "label_smoothing": 0.1}, "label_smoothing belongs to the robust loss, not to 'sigmoid'"),
    ],
    ids=str,
)
def test_invalid_options_raise(options, message):
    """Smoothing without the robust loss would be accepted and ignored."""
    with pytest.raises(ValueError, match=message):
        DPO(NAMES, **options)


@pytest.mark.parametrize("labels", [[0, 1], [0, 1, 2], [0, 1, -2], [0, 1, 0, 1], [0, 1, None]])
def test_invalid_labels_raise(labels, make_llama, rows):
    """Where data enter: for training when the trainer is made, for evaluation before anything is computed."""
    rows[3]["labels"] = labels
    model, dpo = PreferenceModel(make_llama(), CONFIG), DPO(NAMES)
    calls = []
    model.base_model.register_forward_pre_hook(lambda *_: calls.append(1))
    message = r"row 3 has labels \[.*\]: give one for each of helpful, harmless, brief, 0 or 1 for the preferred"
    with pytest.raises(ValueError, match=message):
        dpo.labelled(rows)
    with pytest.raises(ValueError, match=message):
        dpo.labels(rows)
    with pytest.raises(ValueError, match=message):
        dpo.mean_losses(model, rows, torch.full((1, 3), 1 / 3), batch_size=4)
    with pytest.raises(ValueError, match=message):
        ParetoTrainer(model, dpo, Linear(), train_data=rows, config=TrainerConfig(steps=1, progress=False))
    assert not calls


def test_labels(rows):
    assert DPO(NAMES).labels(rows).tolist() == LABELS
    assert preference_signs(torch.tensor([0, 1, -1])).tolist() == [1, -1, 0]


def test_repr_tells_the_options():
    expected = "DPO(names=('a', 'b'), beta=0.2, loss='robust', length_normalized=False, label_smoothing=0.2)"
    expected = expected.removesuffix(")") + ", disable_dropout=False)"
    dpo = DPO(("a", "b"), beta=0.2, loss="robust", label_smoothing=0.2, disable_dropout=False)
    assert repr(dpo) == expected


def test_labelled(rows):
    assert torch.equal(DPO(NAMES).labelled(rows), torch.tensor(LABELS) >= 0)

"""SFT: m losses from one forward, against a per-row re-computation."""

import copy

import numpy as np
import pytest
import torch
from datasets import Dataset
from torch import nn

from mopref import ParetoTrainer, PreferenceModel, SVDLoRAConfig, TrainerConfig
from mopref.llm.policy import Policy, forward_traits as forward_traits_module
from mopref.llm.policy.forward_traits import forward_traits
from mopref.objectives import SFT
from mopref.objectives.sft import ResponseBatch

NAMES = ("brief", "list", "loud")
CONFIG = SVDLoRAConfig(objectives=NAMES, rank=3, preference_rank=2)
# Every group of four has data of every dimension; some rows are data of several.
DIMENSIONS = [
    [True, False, False],
    [False, True, False],
    [False, True, True],
    [True, False, False],
    [True, True, True],
    [False, False, True],
    [True, False, True],
    [False, False, True],
]


@pytest.fixture
def rows() -> list[dict]:
    generator = torch.Generator().manual_seed(4)

    def draw(low: int, high: int) -> list[int]:
        length = int(torch.randint(low, high, (), generator=generator))
        return torch.randint(3, 100, (length,), generator=generator).tolist()

    return [{"prompt_ids": draw(1, 7), "response_ids": draw(1, 7), "dimensions": flags} for flags in DIMENSIONS]


@pytest.fixture
def model(make_lm, randomise):
    return randomise(PreferenceModel(make_lm(), CONFIG), std=0.15).eval()


@pytest.fixture
def row_preferences() -> torch.Tensor:
    raw = torch.rand(8, 3, generator=torch.Generator().manual_seed(9))
    raw[2] = torch.tensor([0.0, 1.0, 0.0])
    return raw / raw.sum(-1, keepdim=True)


def expected_losses(
    model: nn.Module, rows: list[dict], preferences: torch.Tensor, length_normalized: bool = False
) -> torch.Tensor:
    """Row by row, unpadded, from the full logits: ``(rows,)``."""
    losses = []
    for row, preference in zip(rows, preferences, strict=True):
        prompt, response = row["prompt_ids"], row["response_ids"]
        logits = model(torch.tensor([prompt + response]), preferences=preference).logits[0]
        places = range(len(prompt) - 1, len(prompt) + len(response) - 1)
        loss = -torch.log_softmax(logits, -1)[places, response].sum()
        losses.append(loss / len(response) if length_normalized else loss)
    return torch.stack(losses)


@torch.no_grad()
@pytest.mark.parametrize("length_normalized", [False, True])
def test_row_losses_equal_the_per_row_computation(length_normalized, model, rows, row_preferences):
    sft = SFT(NAMES, length_normalized)
    values, labelled = sft.row_losses(model, sft.collate(rows), row_preferences)
    expected = expected_losses(model, rows, row_preferences, length_normalized)
    assert labelled.tolist() == DIMENSIONS
    torch.testing.assert_close(values, expected[:, None].repeat(1, 3), atol=1e-4, rtol=1e-5)
    at_the_corner = expected_losses(model, rows, torch.eye(3)[:1].repeat(8, 1), length_normalized)
    assert (at_the_corner - expected).abs().max() > 0.05, "the test would be vacuous if preferences changed nothing"


@torch.no_grad()
@pytest.mark.parametrize("groups", [1, 2])
def test_losses_are_group_means_over_the_rows_of_each_dimension(groups, model, rows, row_preferences):
    sft = SFT(NAMES)
    preferences = row_preferences[:groups]
    losses = sft.losses(model, sft.collate(rows), preferences)
    expected = expected_losses(model, rows, preferences.repeat_interleave(8 // groups, dim=0))
    assert losses.shape == (groups, 3)
    for group in range(groups):
        for dimension in range(3):
            members = [
                i for i in range(group * 8 // groups, (group + 1) * 8 // groups) if rows[i]["dimensions"][dimension]
            ]
            torch.testing.assert_close(losses[group, dimension], expected[members].mean(), atol=1e-4, rtol=1e-5)


def test_one_forward_for_all_dimensions(model, rows, row_preferences):
    """The cost must not grow with m."""
    forward_traits(model)  # Tried once a model, on a few tokens.
    calls = []
    model.base_model.register_forward_pre_hook(lambda *_: calls.append(1))
    sft = SFT(NAMES)
    sft.losses(model, sft.collate(rows), row_preferences[:2])
    assert len(calls) == 1


def test_a_rows_loss_reaches_its_own_dimensions_only(model, rows):
    """∂SFT_i of a batch in which one dimension's rows change: the other losses and their gradients stay."""
    sft = SFT(NAMES)
    other = copy.deepcopy(rows)
    for row in other:
        if row["dimensions"] == [False, False, True]:
            row["response_ids"] = [5, 6, 7]
    gradients, losses = [], []
    for batch in (sft.collate(rows), sft.collate(other)):
        loss = sft.losses(model, batch, torch.full((1, 3), 1 / 3))[0]
        losses.append(loss.detach())
        parameters = [p for p in model.parameters() if p.requires_grad]
        gradients.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss[0] + loss[1], parameters)]))
    assert gradients[0].abs().max() > 1e-3
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(losses[0][:2], losses[1][:2], atol=1e-5, rtol=1e-5)
    assert (losses[0][2] - losses[1][2]).abs() > 0.1


@torch.no_grad()
def test_the_prompts_tokens_are_not_in_the_loss(model, row_preferences):
    """log π(y|x) by the chain rule: moving tokens from the response to the prompt takes away exactly their share."""
    tokens, sft = [7, 21, 33, 45, 57], SFT(NAMES)
    pairs = [(tokens[:1], tokens[1:]), (tokens[:3], tokens[3:]), (tokens[:1], tokens[1:3])]
    rows = [{"prompt_ids": prompt, "response_ids": response, "dimensions": [1, 0, 0]} for prompt, response in pairs]
    losses = sft.row_losses(model, sft.collate(rows), row_preferences[:1].expand(3, -1)).values[:, 0]
    assert losses[0].item() == pytest.approx((losses[1] + losses[2]).item(), abs=1e-4)


@torch.no_grad()
def test_evaluation_is_the_mean_over_all_rows_of_a_dimension(model, rows, row_preferences):
    """A mean of batch means would weigh rows unequally: batches of 3 out of 8 rows have other counts."""
    sft = SFT(NAMES)
    values = sft.mean_losses(model, rows, row_preferences[:2], batch_size=3)
    members = torch.tensor(DIMENSIONS)
    for i in range(2):
        losses = expected_losses(model, rows, row_preferences[i].expand(8, 3))
        expected = torch.stack([losses[members[:, j]].mean() for j in range(3)])
        torch.testing.assert_close(values[i], expected, atol=1e-4, rtol=1e-5, check_dtype=False)


def test_a_batch(rows):
    sft = SFT(NAMES)
    batch = sft.collate(rows)
    assert type(batch) is ResponseBatch
    assert {ResponseBatch, type(batch.sequences)} == set(sft.record_types)
    assert sft.num_rows(batch) == 8
    assert batch.dimensions.tolist() == DIMENSIONS
    assert batch.sequences.lower_hidden_states is None


def test_evaluation_batches_rows_of_like_length(model, rows, row_preferences, monkeypatch):
    """Padding is computed for nothing: where rows are padded, no other order into batches of two has fewer columns."""
    traits = forward_traits(model)  # Tried once a model, on a few tokens.
    monkeypatch.setitem(forward_traits_module._traits, model, traits._replace(packs=False))
    widths = []
    model.base_model.register_forward_pre_hook(
        lambda module, arguments, options: widths.append(options["input_ids"].shape[1]), with_kwargs=True
    )
    fixed = [{**row, "prompt_ids": [4, 5]} for row in rows]
    SFT(NAMES).mean_losses(model, fixed, row_preferences[:1], batch_size=2)
    lengths = sorted(2 + len(row["response_ids"]) for row in rows)
    assert widths == lengths[1::2]


@torch.no_grad()
def test_kept_activations_change_nothing_and_the_block_below_is_not_run(make_llama, randomise, rows, row_preferences):
    config = SVDLoRAConfig(objectives=NAMES, rank=3, layers=[1])
    model = randomise(PreferenceModel(make_llama(), config), std=0.15).eval()
    sft = SFT(NAMES)
    before = copy.deepcopy(rows)
    complete = sft.precompute(model, rows, batch_size=3)
    assert [row["response_ids"] for row in complete] == [row["response_ids"] for row in rows], (
        "the rows keep their order"
    )
    assert rows == before, "the given rows stay as they are"
    again = sft.precompute(model, [{**row, "hidden_states": None} for row in rows])
    for row, expected in zip(again, complete, strict=True):
        torch.testing.assert_close(row["hidden_states"], expected["hidden_states"], atol=1e-5, rtol=1e-5)
    expected = sft.row_losses(model, sft.collate(rows), row_preferences).values
    calls = []
    # The block itself is called, since models ask its attributes, but nothing inside it is run.
    for part in (model.base_model.model.layers[0].self_attn, model.base_model.model.layers[0].mlp):
        part.register_forward_pre_hook(lambda *_: calls.append(1))
    torch.testing.assert_close(
        sft.row_losses(model, sft.collate(complete), row_preferences).values, expected, atol=1e-4, rtol=1e-5
    )
    assert not calls
    sft.row_losses(model, sft.collate(rows), row_preferences)
    assert len(calls) == 2, "they are run where nothing was kept"


def test_precompute_compares_the_longest_row(make_llama, randomise, rows, monkeypatch):
    """Where the lower layers cannot be run apart it is seen there, if anywhere."""
    config = SVDLoRAConfig(objectives=NAMES, rank=3, layers=[1])
    model = randomise(PreferenceModel(make_llama(), config)).train()
    seen = []
    monkeypatch.setattr(Policy, "check_frozen_layers", lambda self, sequences: seen.append(sequences))
    SFT(NAMES).precompute(model, rows, batch_size=3)
    assert model.training
    (sequences,) = seen
    assert int(sequences.attention_mask.sum()) == max(len(row["prompt_ids"] + row["response_ids"]) for row in rows)
    assert SFT(NAMES).precompute(model, []) == []


def test_precompute_needs_adapters(make_llama, rows):
    with pytest.raises(TypeError, match="PreferenceModel"):
        SFT(NAMES).precompute(make_llama(), rows)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([True, False], "give one bool for each of brief, list, loud"),
        ([True, False, 2], "give one bool"),
        ([1, 0, -1], "give one bool"),
        (["brief", "", ""], "give one bool"),
        ([False, False, False], "belongs to none of brief, list, loud"),
    ],
    ids=str,
)
def test_invalid_dimensions_raise_and_name_the_row(flags, message, model, rows, row_preferences):
    """Where data enter: for training through ``labelled``, for evaluation through ``mean_losses``."""
    rows[3]["dimensions"] = flags
    with pytest.raises(ValueError, match=f"row 3 .*{message}"):
        SFT(NAMES).labelled(rows)
    with pytest.raises(ValueError, match=f"row 3 .*{message}"):
        SFT(NAMES).mean_losses(model, rows, row_preferences[:1], batch_size=2)


def test_a_dimension_without_rows_has_no_loss(model, rows, row_preferences):
    only = [row for row in rows if not row["dimensions"][1]]
    sft = SFT(NAMES)
    with pytest.raises(ValueError, match=r"no row is labelled on 'list'\."):
        sft.mean_losses(model, only, row_preferences[:1], batch_size=4)
    with pytest.raises(ValueError, match="group 0 has no row labelled on 'list'"):
        sft.losses(model, sft.collate(only), row_preferences[:1])
    with pytest.raises(ValueError, match="SFT has nothing to evaluate on"):
        sft.mean_losses(model, [], row_preferences[:1], batch_size=4)


def test_zeros_and_ones_are_bools_too(rows):
    numbers = [{**row, "dimensions": [int(flag) for flag in row["dimensions"]]} for row in rows]
    assert torch.equal(SFT(NAMES).labelled(numbers), torch.tensor(DIMENSIONS))


def test_data_without_a_dimension_are_refused_before_anything_is_computed(model, rows, row_preferences):
    calls = []
    model.base_model.register_forward_pre_hook(lambda *_: calls.append(1))
    with pytest.raises(ValueError, match="'list'"):
        SFT(NAMES).mean_losses(model, [row for row in rows if not row["dimensions"][1]], row_preferences, batch_size=2)
    assert not calls


def test_repr_tells_the_options():
    assert repr(SFT(NAMES, length_normalized=True)) == "SFT(names=('brief', 'list', 'loud'), length_normalized=True)"


@pytest.mark.parametrize("names", [[], ("a", "a"), "ab", (1, 2), None], ids=repr)
def test_names_that_are_none_are_refused(names):
    with pytest.raises(ValueError, match="names is "):
        SFT(names)


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (
            [{"prompt": "A secret.", "response": "x"}],
            ValueError,
            r"row 0 has prompt, response, but no prompt_ids",
        ),
        (iter([{}]), TypeError, "data is a list_iterator, whose rows cannot be had by their number"),
    ],
    ids=["records", "iterator"],
)
def test_data_that_are_no_rows_are_refused_everywhere(model, data, error, message):
    sft = SFT(NAMES)
    for use in (lambda: sft.labelled(data), lambda: sft.precompute(model, data)):
        with pytest.raises(error, match=message) as refusal:
            use()
        assert "secret" not in str(refusal.value)


def test_rows_and_models_with_other_names_are_refused(model, rows):
    sft = SFT(NAMES)
    named = [{**row, "objectives": NAMES} for row in rows]
    sft.labelled(named)
    named[-1]["objectives"] = NAMES[::-1]
    for use in (lambda: sft.labelled(named), lambda: sft.precompute(model, named)):
        with pytest.raises(ValueError, match=rf"SFT has .*, row {len(rows) - 1} \(.*\): the same in another order"):
            use()
    with pytest.raises(ValueError, match=r"the model .* in another order"):
        SFT(NAMES[::-1]).precompute(model, rows)


def test_kept_activations_record_their_precision(make_llama, rows):
    model = PreferenceModel(make_llama(), SVDLoRAConfig(objectives=NAMES, rank=3, layers=[1]))
    for mixed_precision, name in ((None, "float32"), ("bf16", "bf16")):
        kept = SFT(NAMES).precompute(model, rows, mixed_precision=mixed_precision)
        assert {row["hidden_states_precision"] for row in kept} == {name}
        plain = SFT(NAMES).precompute(model, kept, frozen_layers=False)
        assert not any(key.startswith("hidden_states") for row in plain for key in row)


def test_activations_of_another_model_or_block_are_refused(make_llama, rows, row_preferences):
    def model_of(layers, **options) -> PreferenceModel:
        return PreferenceModel(make_llama(num_hidden_layers=3, **options), SVDLoRAConfig(NAMES, layers=layers))

    sft = SFT(NAMES)
    kept = sft.precompute(model_of((2,)), rows)
    sft.mean_losses(model_of((2,)), kept, row_preferences[:1], 4)
    config = TrainerConfig(steps=1, batch_size=8, preferences_per_step=1, progress=False, cpu=True)
    for model in (model_of((2,), seed=1), model_of((1, 2)), model_of(None)):
        for use in (
            lambda model=model: sft.mean_losses(model, kept, row_preferences[:1], 4),
            lambda model=model: ParetoTrainer(model, sft, "linear", train_data=kept, config=config),
        ):
            with pytest.raises(
                ValueError, match="row 0 has a hidden_states that was computed with the base of weights"
            ):
                use()


def test_auto_keeps_nothing_where_the_layers_cannot_be_computed_apart(model, rows, monkeypatch):
    """The first block adapted, or a comparison that fails."""
    sft = SFT(NAMES)
    assert sft.precompute(model, rows, frozen_layers="auto") == rows
    with pytest.raises(ValueError, match="the first block is adapted"):
        sft.precompute(model, rows, frozen_layers=True)
    monkeypatch.setattr(Policy, "keeps_lower_layers", lambda policy, tokens: True)
    assert sft.precompute(model, rows, frozen_layers="auto") == rows


def test_rows_too_long_for_the_model_are_refused_everywhere(make_gpt2, rows, row_preferences):
    model, sft = PreferenceModel(make_gpt2(n_positions=16), CONFIG), SFT(NAMES)
    rows[3]["response_ids"] = [7] * 16
    tokens = 16 + len(rows[3]["prompt_ids"])
    config = TrainerConfig(steps=1, batch_size=8, preferences_per_step=1, progress=False, cpu=True)
    for use in (
        lambda: ParetoTrainer(model, sft, "linear", train_data=rows, config=config),
        lambda: sft.precompute(model, rows, frozen_layers=False),
        lambda: sft.mean_losses(model, rows, row_preferences[:1], 4),
    ):
        with pytest.raises(ValueError, match=f"row 3 has {tokens} tokens, but GPT2LMHeadModel has 16 positions"):
            use()


@pytest.mark.parametrize("kind", [None, "torch", "numpy"])
@pytest.mark.parametrize("frozen_layers", [False, True])
def test_rows_out_of_a_data_set_are_the_same(frozen_layers, kind, make_llama, rows, row_preferences):
    """Which hands out lists, tensors or arrays of what was put in."""
    model, sft = PreferenceModel(make_llama(), SVDLoRAConfig(NAMES, layers=(1,))), SFT(NAMES)
    kept = sft.precompute(model, rows, frozen_layers=frozen_layers)
    plain = [{key: value.tolist() if torch.is_tensor(value) else value for key, value in row.items()} for row in kept]
    data = Dataset.from_list(plain).with_format(kind)
    batch, expected = sft.collate([data[i] for i in range(8)]), sft.collate(kept)
    for first, second in zip(
        (*batch.sequences, batch.dimensions), (*expected.sequences, expected.dimensions), strict=True
    ):
        if second is None:
            assert first is None
        else:
            torch.testing.assert_close(first, second)
    losses = [sft.mean_losses(model, rows, row_preferences[:2], 3) for rows in (data, kept)]
    torch.testing.assert_close(losses[0], losses[1])


@pytest.mark.parametrize("column", ["prompt_ids", "response_ids"])
def test_rows_of_other_tokens_than_the_models_are_refused_everywhere(column, model, rows, row_preferences):
    rows[3][column] = [7, 100]
    config = TrainerConfig(steps=1, batch_size=8, preferences_per_step=2, progress=False, cpu=True)
    for use in (
        lambda: ParetoTrainer(model, SFT(NAMES), "linear", train_data=rows, config=config),
        lambda: SFT(NAMES).precompute(model, rows, frozen_layers="auto"),
        lambda: SFT(NAMES).mean_losses(model, rows, row_preferences[:1], 4),
    ):
        with pytest.raises(ValueError, match=f"row 3 has the token 100 in {column}, but "):
            use()


@pytest.mark.parametrize("flags", [[0.5, 1, 1], ["1", 1, 1], [1.0, 0, 0], [2, 0, 0], None, True], ids=repr)
def test_dimensions_that_are_no_bools_are_refused_everywhere(flags, model, rows, row_preferences):
    rows[3]["dimensions"] = flags
    for use in (
        lambda: SFT(NAMES).labelled(rows),
        lambda: SFT(NAMES).precompute(model, rows, frozen_layers="auto"),
        lambda: SFT(NAMES).mean_losses(model, rows, row_preferences[:1], 4),
    ):
        with pytest.raises(
            ValueError, match=r"row 3 has dimensions \[.*\]: give one bool for each of brief, list, loud"
        ):
            use()


@pytest.mark.parametrize("make", [torch.tensor, np.array, lambda flags: [int(flag) for flag in flags]])
def test_dimensions_of_numpy_and_torch_are_bools(make, rows):
    expected = torch.tensor([row["dimensions"] for row in rows])
    assert torch.equal(SFT(NAMES).labelled([{**row, "dimensions": make(row["dimensions"])} for row in rows]), expected)


def test_length_normalized_is_true_or_false():
    with pytest.raises(TypeError, match="length_normalized is 'no', of type str: give True or False"):
        SFT(("a", "b"), length_normalized="no")

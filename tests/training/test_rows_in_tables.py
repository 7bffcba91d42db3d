"""Training on a ``datasets.Dataset`` is training on the list of its rows; what is wrong is told in the same words."""

import copy
import time

import numpy as np
import pytest
import torch
from datasets import Dataset, Features, List, Value

from mopref import ParetoTrainer, PreferenceModel, SVDLoRAConfig, TrainerConfig
from mopref._tables import Chunk
from mopref.llm.data import with_mismatches
from mopref.llm.policy import Policy, Sampling
from mopref.llm.rewards import token_reward
from mopref.objectives import DPO, KTO, ORPO, RLHF, SFT, OnlineDPO, SimPO
from mopref.scalarizers import Linear
from mopref.training.batching import GroupBatchSampler, labelled_rows

NAMES = ("a", "b")


def adapted(make_llama) -> PreferenceModel:
    return PreferenceModel(make_llama(), SVDLoRAConfig(objectives=NAMES, rank=2))


@token_reward
def even(prompt_ids, response_ids):
    return [float(np.mean([token % 2 == 0 for token in ids] or [0])) for ids in response_ids]


@token_reward
def short(prompt_ids, response_ids):
    return [-float(len(ids)) for ids in response_ids]


REWARDS = {"a": even, "b": short}
SAMPLING = Sampling(max_new_tokens=3, stop_token_ids=(1,))
OBJECTIVES = {
    "dpo": lambda: DPO(NAMES),
    "simpo": lambda: SimPO(NAMES),
    "orpo": lambda: ORPO(NAMES),
    "kto": lambda: KTO(NAMES),
    "sft": lambda: SFT(NAMES),
    "rlhf": lambda: RLHF(REWARDS, samples_per_prompt=2, sampling=SAMPLING),
    "online dpo": lambda: OnlineDPO(REWARDS, sampling=SAMPLING),
}


@pytest.fixture
def rows(make_pairs) -> list[dict]:
    """Rows that every objective can read."""
    labels = [[0, 1], [1, -1], [0, 0], [1, 1], [-1, 0], [0, 1], [1, 0], [0, -1]] * 2
    pairs = [{**row, "response_ids": row["response_0_ids"], "objectives": NAMES} for row in make_pairs(labels)]
    return [
        {**row, "dimensions": [place % 2 == 0, place % 3 > 0 or place % 2 == 1]}
        for place, row in enumerate(with_mismatches(pairs))
    ]


def trainer(name, make_llama, data, folder=None, steps=4, **options) -> ParetoTrainer:
    options |= {"batch_size": 8, "preferences_per_step": 2, "log_every": 1, "cpu": True, "progress": False}
    config = TrainerConfig(steps=steps, output_dir=folder, **options)
    return ParetoTrainer(adapted(make_llama), OBJECTIVES[name](), Linear(), train_data=data, config=config)


def trained(*arguments, **options) -> list[dict]:
    made = trainer(*arguments, **options)
    made.train()
    return made.history


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_learns_the_same_of_a_table(name, make_llama, rows):
    expected = trained(name, make_llama, rows)
    for kind in (None, "numpy", "torch"):
        data = Dataset.from_list(rows).with_format(kind)
        assert trained(name, make_llama, data) == expected
    half = Dataset.from_list(rows + rows[::-1]).select(range(len(rows)))
    assert trained(name, make_llama, half) == expected


@pytest.mark.parametrize("kinds", [(None, "numpy"), ("torch", None), ("numpy", "list"), ("list", "torch")])
def test_a_run_on_a_table_is_resumed_bit_for_bit_in_whatever_format(kinds, make_llama, rows, tmp_path):
    def data(kind):
        return rows if kind == "list" else Dataset.from_list(rows).with_format(kind)

    whole = trainer("dpo", make_llama, rows)
    whole.train()
    first, second = map(data, kinds)
    trainer("dpo", make_llama, first, tmp_path, checkpoint_every=3).train()
    made = trainer("dpo", make_llama, second, tmp_path, checkpoint_every=3)
    made.train(resume_from=tmp_path / "checkpoint-3")
    assert made.history == whole.history
    for one, other in zip(made.unwrapped_model.parameters(), whole.unwrapped_model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_run_on_another_table_is_not_resumed(make_llama, rows, tmp_path):
    trainer("dpo", make_llama, Dataset.from_list(rows), tmp_path, checkpoint_every=3).train()
    other = copy.deepcopy(rows)
    other[5]["response_1_ids"][0] += 1
    with pytest.raises(ValueError, match="content of the rows"):
        trainer("dpo", make_llama, Dataset.from_list(other), tmp_path).train(resume_from=tmp_path / "checkpoint-3")


WRONG = {
    "a label": ("dpo", {"labels": [0, 2]}),
    "a label too few": ("kto", {"labels": [0]}),
    "no labels": ("dpo", {"labels": None}),
    "names in another order": ("dpo", {"objectives": ["b", "a"]}),
    "other names": ("sft", {"objectives": ["a", "c"]}),
    "no dimension": ("sft", {"dimensions": [False, False]}),
    "a token beyond": ("simpo", {"response_1_ids": [100]}),
    "a token below": ("dpo", {"prompt_ids": [-1]}),
    "no token": ("orpo", {"response_0_ids": []}),
    "no tokens": ("kto", {"response_ids": None}),
    "a prompt of other tokens": ("rlhf", {"prompt_ids": [100]}),
    "a reference that is not finite": ("dpo", {"reference_log_probabilities": [-1.0, float("nan")]}),
    "one reference": ("kto", {"reference_log_probabilities": [-1.0]}),
    "no reference": ("dpo", {"reference_log_probabilities": None}),
    "a reference in another precision": ("dpo", {"reference_precision": "bf16"}),
    "a reference of another model": ("kto", {"reference_model": "another one"}),
}


@pytest.mark.parametrize("kind", [None, "torch"])
@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_in_a_row_is_told_as_of_a_list(case, kind, make_llama, rows):
    name, columns = WRONG[case]
    if any(column.startswith("reference") for column in columns):
        origin = Policy(adapted(make_llama)).origin()
        noted = {"reference_precision": "float32", "reference_model": origin}
        rows = [{**row, "reference_log_probabilities": [-1.0, -2.0], **noted} for row in rows]
    # Beyond the first chunk.
    rows = rows * 80
    rows[1100] = {**rows[1100], **columns}
    missing = [column for column, value in columns.items() if value is None]
    messages = []
    for data in (
        [{k: v for k, v in row.items() if v is not None or k not in missing} for row in rows],
        Dataset.from_list(rows).with_format(kind),
    ):
        with pytest.raises(ValueError) as caught:
            labelled_rows(adapted(make_llama), OBJECTIVES[name](), data, None)
        messages.append(str(caught.value))
    assert "row 1100" in messages[1] or "prompt 1100" in messages[1]
    if "reference_log_probabilities" in missing or not missing:
        assert messages[0] == messages[1]


def test_a_column_of_another_type_is_told(make_llama, rows):
    data = Dataset.from_list(rows)
    for column, message in (
        ("labels", r"row 0 has labels \[0.0, 1.0\]"),
        ("prompt_ids", "row 0 has a float in prompt_ids"),
    ):
        with pytest.raises(ValueError, match=message):
            trainer("dpo", make_llama, data.cast_column(column, List(Value("float32"))))
    halves = Dataset.from_list([{**row, "reference_log_probabilities": [-1.0, -2.0]} for row in rows])
    halves = halves.cast_column("reference_log_probabilities", List(Value("float16")))
    with pytest.raises(ValueError, match=r"row 0 has reference_log_probabilities in torch\.float16, whose rounding"):
        trainer("dpo", make_llama, halves)
    with pytest.raises(ValueError, match=r"row 0 has .*, but no labels: use tokenize_records"):
        trainer("dpo", make_llama, data.remove_columns("labels"))
    with pytest.raises(ValueError, match=r"row 0 has .*, but no labels: use tokenize_records"):
        trainer(
            "dpo", make_llama, data.with_format("numpy", columns=["prompt_ids", "response_0_ids", "response_1_ids"])
        )
    with pytest.raises(ValueError, match="row 0 is a Table, not a dict"):
        trainer("dpo", make_llama, data.with_format("arrow"))


def test_no_row_is_made_to_check_a_right_table_and_labels_are_known_without_texts(make_llama, rows, monkeypatch):
    kept = OBJECTIVES["dpo"]().precompute(adapted(make_llama), Dataset.from_list(rows))
    monkeypatch.setattr(Chunk, "rows", None)
    read = []
    original = Chunk.lists
    monkeypatch.setattr(Chunk, "lists", lambda self, name: read.append(name) or original(self, name))
    assert OBJECTIVES["dpo"]().labels(kept).tolist() == [row["labels"] for row in rows]
    assert set(read) == {"labels"}
    labelled_rows(adapted(make_llama), OBJECTIVES["dpo"](), kept, None)


def test_two_hundred_thousand_rows_are_checked_and_drawn_from_in_little_time(make_llama):
    count = 200_000
    features = Features({name: List(Value("int32")) for name in ("prompt_ids", "response_0_ids", "response_1_ids")})
    columns = {name: [[5, 6, 7, 8]] * count for name in features}
    labels = [[0, 1 if row % 100 == 0 else -1] for row in range(count)]
    data = Dataset.from_dict({**columns, "labels": labels, "objectives": [NAMES] * count})
    start = time.process_time()
    labelled = labelled_rows(adapted(make_llama), DPO(NAMES), data, None)
    # Measured: 0.8 s. Rows of Python's own take 20 times that.
    assert time.process_time() - start < 6
    sampler = GroupBatchSampler(labelled, 16, 4)
    next(sampler)
    start = time.process_time()
    for _ in range(200):
        next(sampler)
    # Measured: 0.2 ms each. What looks at all rows takes 1 ms and more.
    assert (time.process_time() - start) / 200 < 2e-3

"""References on the disk: found under all they depend on, a miss where anything differs, and never in the way."""

import copy
import errno
import os
from inspect import signature

import numpy as np
import pytest
import torch
from datasets import Dataset
from torch import nn

from mopref import ParetoTrainer, PreferenceModel, SVDLoRAConfig, TrainerConfig
from mopref.llm.data import with_mismatches
from mopref.llm.policy.forward_traits import forward_traits
from mopref.llm.policy.reference_cache import ReferenceCache, base_digest, base_key
from mopref.objectives import DPO, KTO, SimPO
from mopref.scalarizers import Linear

NAMES = ("a", "b")
COLUMN = "reference_log_probabilities"


def wrapped(base: nn.Module, **options) -> PreferenceModel:
    return PreferenceModel(base, SVDLoRAConfig(objectives=NAMES, rank=2, **options)).eval()


@pytest.fixture
def rows() -> list[dict]:
    generator = torch.Generator().manual_seed(3)

    def ids(length: int) -> list[int]:
        return torch.randint(3, 100, (length,), generator=generator).tolist()

    return [
        {
            "prompt_ids": ids(2 + row % 4),
            "response_0_ids": ids(1 + row % 5),
            "response_1_ids": ids(3),
            "labels": [row % 2, -1 if row % 3 else 1],
            "objectives": NAMES,
        }
        for row in range(11)
    ]


@pytest.fixture
def forwards(monkeypatch) -> list[int]:
    """How many forwards of a base model there were."""
    from transformers import LlamaForCausalLM

    count: list[int] = []
    original = LlamaForCausalLM.forward

    def counting(self, *arguments, **options):
        count.append(1)
        return original(self, *arguments, **options)

    # What the model's own signature says is asked for.
    counting.__signature__ = signature(original)
    monkeypatch.setattr(LlamaForCausalLM, "forward", counting)
    return count


def plain(rows) -> list[dict]:
    return [{name: list(value) if isinstance(value, tuple) else value for name, value in row.items()} for row in rows]


@pytest.mark.parametrize("in_table", [False, True])
@pytest.mark.parametrize("kind", ["pairs", "answers"])
def test_a_second_run_finds_the_same_numbers_and_runs_no_forward(kind, in_table, make_llama, rows, tmp_path, forwards):
    objective = DPO(NAMES)
    if kind == "answers":
        objective = KTO(NAMES)
        rows = with_mismatches([{**row, "response_ids": row["response_0_ids"]} for row in rows])
    expected = objective.precompute(wrapped(make_llama()), rows)
    data = Dataset.from_list(rows) if in_table else rows
    for is_there in (False, True):
        model, cache = wrapped(make_llama()), ReferenceCache(tmp_path)
        forward_traits(model)  # Tried once a model, on a few tokens.
        forwards.clear()
        found = objective.precompute(model, data, cache=cache)
        assert cache.found is is_there
        assert (len(forwards) == 0) == is_there
        assert isinstance(found, Dataset if in_table else list)
        assert plain(found) == plain(expected)
    assert len(os.listdir(tmp_path / "references")) == 1


def test_activations_and_references_from_them_are_the_same_with_a_cache(make_llama, rows, tmp_path, forwards):
    model = wrapped(make_llama(), layers=[1])
    expected = DPO(NAMES).precompute(model, rows, frozen_layers=True)
    for _ in range(2):
        found = DPO(NAMES).precompute(model, Dataset.from_list(rows), frozen_layers=True, cache=tmp_path)
        assert [row[COLUMN] for row in found] == [row[COLUMN] for row in expected]
        assert all(
            torch.equal(one["hidden_states_1"], other["hidden_states_1"])
            for one, other in zip(found, expected, strict=True)
        )


@pytest.mark.parametrize("count", [0, 1])
def test_few_rows_and_none(count, make_llama, rows, tmp_path):
    model, table = wrapped(make_llama()), Dataset.from_list(rows).select(range(count))
    for data in (rows[:count], table):
        for cache in (False, tmp_path, tmp_path):
            found = DPO(NAMES).precompute(model, data, cache=cache)
            assert plain(found) == plain(DPO(NAMES).precompute(model, rows[:count]))


def test_the_format_of_a_table_and_its_order_stay(make_llama, rows, tmp_path):
    model = wrapped(make_llama())
    turned = Dataset.from_list(rows).select(range(10, -1, -1)).with_format("numpy")
    for cache in (False, tmp_path, tmp_path):
        found = DPO(NAMES).precompute(model, turned, cache=cache)
        assert found.format["type"] == "numpy"
        assert plain(found.with_format(None)) == plain(DPO(NAMES).precompute(model, rows[::-1]))


def test_rows_and_model_are_a_key(make_llama, rows, tmp_path):
    """Whatever else a reference depends on is a miss, one weight and one token among it."""

    def with_changed(name, place, change):
        base = make_llama()
        with torch.no_grad():
            base.get_parameter(name).view(-1)[place] += change
        return base

    token, other_row = copy.deepcopy(rows), copy.deepcopy(rows)
    token[7]["response_1_ids"][1] += 1
    other_row[4]["prompt_ids"] = [*other_row[4]["prompt_ids"], 5]
    labels = [{**row, "labels": [0, 0]} for row in rows]
    buffers = make_llama()
    buffers.model.rotary_emb.inv_freq[1] *= 1.5
    uses = {
        "the first": (make_llama(), rows, {}),
        "a weight": (with_changed("model.layers.1.mlp.up_proj.weight", 1234, 1e-3), rows, {}),
        "the last bit of a weight": (with_changed("model.norm.weight", 3, 2e-7), rows, {}),
        "a buffer": (buffers, rows, {}),
        "a setting": (make_llama(rms_norm_eps=1e-3), rows, {}),
        "the type": (make_llama().double(), rows, {}),
        "mixed precision": (make_llama(), rows, {"mixed_precision": "bf16"}),
        "a token": (make_llama(), token, {}),
        "a longer prompt": (make_llama(), other_row, {}),
        "the order of rows": (make_llama(), rows[::-1], {}),
        "fewer rows": (make_llama(), rows[:-1], {}),
        "the batches": (make_llama(), rows, {"batch_size": 3}),
    }
    for place, (name, (base, data, options)) in enumerate(uses.items()):
        cache = ReferenceCache(tmp_path)
        found = DPO(NAMES).precompute(wrapped(copy.deepcopy(base)), data, cache=cache, **options)
        assert cache.found is False, f"{name} was found, and is not there"
        assert len(os.listdir(tmp_path / "references")) == place + 1
        assert plain(found) == plain(DPO(NAMES).precompute(wrapped(base), data, **options))
    for data in (labels, [{**row, "text": "x"} for row in rows]):
        cache = ReferenceCache(tmp_path)
        assert DPO(NAMES, beta=0.7).precompute(wrapped(make_llama()), data, cache=cache)
        assert cache.found, "labels have no say in it"


def test_attention_is_part_of_the_key(make_llama, rows, tmp_path):
    base = make_llama()
    for attention in ("eager", "sdpa"):
        base.set_attn_implementation(attention)
        cache = ReferenceCache(tmp_path)
        DPO(NAMES).precompute(wrapped(copy.deepcopy(base)), rows, cache=cache)
        assert cache.found is False


def test_a_base_is_told_by_its_own_weights_whatever_is_beside_them(make_llama, randomise):
    plain_base = base_digest(make_llama())
    assert plain_base == base_digest(randomise(wrapped(make_llama())).base_model)
    assert plain_base == base_digest(wrapped(make_llama(), layers=[1]).base_model)
    assert plain_base != base_digest(make_llama(seed=1))
    # The same numbers of another type, or in another shape.
    assert plain_base != base_digest(make_llama().double())
    one, other = nn.Linear(2, 3, bias=False), nn.Linear(3, 2, bias=False)
    other.weight.data = one.weight.data.reshape(2, 3)
    assert base_digest(one) != base_digest(other)


def test_weights_that_are_not_here_are_not_told(make_llama, rows, tmp_path):
    with torch.device("meta"):
        assert base_digest(nn.Linear(2, 2)) is None


def test_bases_in_fewer_bits_are_others_than_in_float_and_the_same_after_a_forward(make_llama, tmp_path):
    pytest.importorskip("bitsandbytes")
    from transformers import BitsAndBytesConfig

    plain = make_llama()
    plain.save_pretrained(tmp_path)
    kinds = [
        {"load_in_8bit": True},
        {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
        {"load_in_4bit": True, "bnb_4bit_quant_type": "fp4"},
        {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True},
    ]
    keys = [base_key(plain)]
    for kind in kinds:
        settings = BitsAndBytesConfig(**kind)
        base = type(plain).from_pretrained(tmp_path, quantization_config=settings, device_map="cpu").eval()
        before = base_digest(base)
        model = PreferenceModel(base, SVDLoRAConfig(("a", "b"), rank=2))
        with torch.no_grad():
            model(input_ids=torch.tensor([[5, 6, 7]]), preferences=[0.5, 0.5])
        assert base_digest(model.base_model) == before
        keys.append(base_key(model.base_model))
    assert None not in keys
    assert len({key["weights"] for key in keys}) == len({key["config"] for key in keys}) == len(keys)


def test_quantised_weights_are_told_by_what_they_hold(make_llama):
    quantization = pytest.importorskip("torchao.quantization")

    def quantised(seed=0):
        base = make_llama(seed)
        quantization.quantize_(base, quantization.Int8WeightOnlyConfig())
        return base

    assert base_digest(quantised()) == base_digest(quantised())
    assert base_digest(quantised()) not in (None, base_digest(make_llama()), base_digest(quantised(1)))


def test_a_damaged_entry_is_told_and_computed_anew(make_llama, rows, tmp_path, forwards):
    model = wrapped(make_llama())
    expected = DPO(NAMES).precompute(model, rows, cache=tmp_path)
    (place,) = (tmp_path / "references").iterdir()
    content = bytearray((place / "rows.arrow").read_bytes())
    content[len(content) // 2] ^= 64
    (place / "rows.arrow").write_bytes(bytes(content))
    forwards.clear()
    with pytest.warns(UserWarning, match="is damaged"):
        assert DPO(NAMES).precompute(model, rows, cache=tmp_path) == expected
    assert forwards
    forwards.clear()
    assert DPO(NAMES).precompute(model, rows, cache=tmp_path) == expected
    assert not forwards


@pytest.mark.parametrize("in_table", [False, True])
def test_a_full_disk_ends_no_run_and_leaves_nothing(in_table, make_llama, rows, tmp_path, monkeypatch):
    model, data = wrapped(make_llama()), Dataset.from_list(rows) if in_table else rows
    expected = DPO(NAMES).precompute(model, rows)

    def fail(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr("mopref._cache.sync", fail)
        with pytest.warns(UserWarning, match=r"are used, but not kept on the disk .*No space left on device"):
            assert plain(DPO(NAMES).precompute(model, data, cache=tmp_path)) == plain(expected)
    assert os.listdir(tmp_path / "references") == []
    cache = ReferenceCache(tmp_path)
    assert plain(DPO(NAMES).precompute(model, data, cache=cache)) == plain(expected)
    assert cache.found is False


@pytest.mark.skipif(os.name == "nt", reason="no such limit")
@pytest.mark.parametrize("in_table", [False, True])
def test_a_real_limit_on_files_leaves_nothing_either(in_table, make_llama, rows, tmp_path):
    """It cuts what is written in the middle, as a full disk does."""
    resource = pytest.importorskip("resource")
    model, data = wrapped(make_llama()), Dataset.from_list(rows) if in_table else rows
    expected = plain(DPO(NAMES).precompute(model, rows))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, before[1]))
    try:
        with pytest.warns(UserWarning, match=r"are used, but not kept on the disk .*nothing of it is there"):
            assert plain(DPO(NAMES).precompute(model, data, cache=tmp_path)) == expected
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert os.listdir(tmp_path / "references") == []
    cache = ReferenceCache(tmp_path)
    for found in (False, True):
        assert plain(DPO(NAMES).precompute(model, data, cache=cache)) == expected
        assert cache.found is found


def test_an_interrupted_computation_leaves_nothing(make_llama, rows, tmp_path, monkeypatch):
    def stop(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("mopref.llm.policy.policy.Policy.reference_log_probabilities", stop)
    with pytest.raises(KeyboardInterrupt):
        DPO(NAMES).precompute(wrapped(make_llama()), rows, cache=tmp_path)
    assert not (tmp_path / "references").exists()


def test_a_folder_that_others_write_into_is_passed_over_with_a_warning(make_llama, rows, tmp_path):
    (tmp_path / "references").mkdir()
    (tmp_path / "references").chmod(0o777)
    with pytest.warns(UserWarning, match=r"neither looked for nor kept on the disk: .*MOPREF_CACHE"):
        found = DPO(NAMES).precompute(wrapped(make_llama()), rows, cache=tmp_path)
    assert found == DPO(NAMES).precompute(wrapped(make_llama()), rows)
    assert os.listdir(tmp_path / "references") == []


def test_the_default_folder_and_none(make_llama, rows, tmp_path, monkeypatch):
    monkeypatch.setenv("MOPREF_CACHE", str(tmp_path / "mine"))
    DPO(NAMES).precompute(wrapped(make_llama()), rows)
    assert not (tmp_path / "mine").exists()
    DPO(NAMES).precompute(wrapped(make_llama()), rows, cache=True)
    assert len(os.listdir(tmp_path / "mine" / "references")) == 1
    # No reference, nothing to keep.
    SimPO(NAMES).precompute(wrapped(make_llama()), rows, cache=tmp_path / "other")
    assert not (tmp_path / "other").exists()
    with pytest.raises(TypeError, match="cache is a int: give True, False or a folder"):
        DPO(NAMES).precompute(wrapped(make_llama()), rows, cache=3)


def test_training_on_what_was_found_is_training_on_what_was_computed(make_llama, rows, tmp_path):
    def losses(data, cache):
        model = wrapped(make_llama())
        made = DPO(NAMES).precompute(model, data, cache=cache)
        config = TrainerConfig(steps=4, batch_size=4, preferences_per_step=2, log_every=1, cpu=True, progress=False)
        trainer = ParetoTrainer(model, DPO(NAMES), Linear(), train_data=made, config=config)
        trainer.train()
        return [entry["loss"] for entry in trainer.history]

    expected = losses(rows, False)
    assert np.isfinite(expected).all()
    for _ in range(2):
        assert losses(rows, tmp_path) == expected
        assert losses(Dataset.from_list(rows), tmp_path) == expected

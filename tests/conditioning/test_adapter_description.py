"""Damaged and hand-made adapters: refused in our words with their path, before the base is touched."""

import re

import pytest
import torch
from _sealed_adapters import SETTINGS, change_settings, change_tensors
from conditioned_networks import conditioned
from torch import nn

from mopref import PreferenceModel


@pytest.fixture
def base(make_llama):
    return make_llama()


# Of ranks 2 + 2·2.
@pytest.fixture
def folder(make_llama, tmp_path):
    conditioned(make_llama()).save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def assert_unchanged(module: nn.Module, before: dict[str, torch.Tensor]) -> None:
    after = module.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)


def snapshot(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


@pytest.mark.parametrize(
    "content",
    [b'{"peft_type": "\xff"}', b"[" * 100_000 + b"]" * 100_000, b'{"rank": ' + b"1" * 5000 + b"}", b"\xef\xbb\xbf{}"],
    ids=["not UTF-8", "deep", "long number", "byte order mark"],
)
def test_what_is_no_description_is_refused(content, base, folder):
    (folder / SETTINGS).write_bytes(content)
    before = snapshot(base)
    with pytest.raises(ValueError, match=rf"{SETTINGS} is not valid JSON .*: the adapter is damaged, save it again\."):
        PreferenceModel.load(base, folder)
    assert_unchanged(base, before)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("objectives", [1, 2], r"\[1, 2\], not a list of texts"),
        ("objectives", "ab", "'ab', not a list of texts"),
        ("objectives", ["a", "a"], r"objectives are \('a', 'a'\)"),
        ("rank", "4", "'4', not a whole number"),
        ("rank", True, "True, not a whole number"),
        ("rank", 4.0, "4.0, not a whole number"),
        ("rank", -1, "-1"),
        ("rank", 900, r"has shape \(\d+, 6\), not \(\d+, 904\)"),
        ("rank", 10**12, r"make 1000000000004 directions, and these layers have a use for 1024 at most: lower them"),
        ("preference_rank", None, "None, not a whole number"),
        ("scaling", 1e300, r"1e\+300, not a positive number that float32 holds"),
        ("scaling", float("nan"), "nan, not a positive number"),
        ("scaling", 0.0, "0.0, not a positive number"),
        ("scaling", 1e-60, "1e-60, not a positive number"),
        ("scaling", 10**400, "0, not a positive number|scaling is 1000"),
        ("scaling", "1", "'1', not a positive number"),
        ("initialization", 3, "3, not a text"),
        ("target_modules", {"a": 1}, "not a list of texts"),
        ("target_modules", [1], r"\[1\], not a list of texts"),
        ("layers", "1", "'1', not a list of whole numbers"),
        ("layers", [0.5], "not a list of whole numbers"),
        ("seed", "0", "'0', not a whole number"),
        ("adapted_modules", {}, "{}, not two sizes for each layer"),
        ("adapted_modules", [1], r"\[1\], not two sizes"),
        ("adapted_modules", {"a": 3}, "not two sizes"),
        ("adapted_modules", {"a": [1, 2, 3]}, "not two sizes"),
        ("adapted_modules", {"a": ["1", "2"]}, "not two sizes"),
        ("adapted_modules", {"a": [0, -1]}, "not two sizes"),
        ("base_check", [], r"\[\], not a list of numbers for each weight"),
        ("base_check", {"a": "x"}, "not a list of numbers"),
        ("base_check", {"a": [None]}, "not a list of numbers"),
        ("base_check", {"a": [10**400]}, "not a list of numbers"),
        ("base_check", {}, "base_check has no number of this base's weights"),
        ("base_check", {"another": [0.0] * 8}, "base_check has no number of this base's weights"),
        ("base_weights", ["float"], "not the number of layers by how they are stored"),
        ("base_weights", {"float": "x"}, "not the number of layers"),
    ],
)
def test_a_field_that_holds_something_else_is_refused(field, value, message, base, folder):
    change_settings(folder, **{field: value})
    before, names = snapshot(base), [name for name, _ in base.named_modules()]
    with pytest.raises(ValueError, match=f"{field}|has shape") as error:
        PreferenceModel.load(base, folder)
    assert re.search(message, str(error.value))
    assert str(folder) in str(error.value)
    assert len(str(error.value)) < 600
    assert_unchanged(base, before)
    assert [name for name, _ in base.named_modules()] == names


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64, torch.float8_e4m3fn])
def test_tensors_of_another_type_are_refused(dtype, base, folder):
    change_tensors(folder, lambda tensors: tensors.update({name: tensors[name].to(dtype) for name in tensors}))
    before = snapshot(base)
    with pytest.raises(ValueError, match=rf"is of type {dtype}, none of .*: the adapter is damaged, save it again"):
        PreferenceModel.load(base, folder)
    assert_unchanged(base, before)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_tensors_of_another_precision_are_read(dtype, base, folder):
    change_tensors(folder, lambda tensors: tensors.update({name: tensors[name].to(dtype) for name in tensors}))
    layer = next(iter(PreferenceModel.load(base, folder).adapters.values()))
    assert layer.U.dtype == torch.float32


@pytest.mark.parametrize("name", ["", 3, None])
def test_a_base_without_a_proper_name_is_not_loaded(name, folder):
    change_settings(folder, base_model=name)
    with pytest.raises(ValueError, match=r"does not name its base model: load the base|base_model is 3, not a text"):
        PreferenceModel.from_pretrained(folder)

"""Damaged and hand-made adapters: refused in our words with their path, before the base is touched."""

import hashlib
import json
import math
import os
import random
import re
import resource

import pytest
import torch
from _sealed_adapters import SETTINGS, WEIGHTS, change_settings, change_tensors, settings_of
from conditioned_networks import conditioned
from torch import nn

from mopref import PreferenceModel
from mopref.conditioning.adapter_description import check_finite


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


# Checksums.


def same_values(text: bytes, whole: bytes) -> bool:
    try:
        return json.loads(text.decode()) == json.loads(whole)
    except ValueError:
        return False


@pytest.mark.parametrize("file", [SETTINGS, WEIGHTS])
def test_any_flipped_bit_is_refused(file, folder, make_llama):
    """Every part of both files: digits, names, the version, the checksums, the header and the numbers."""
    base, whole = make_llama(), (folder / file).read_bytes()
    before, generator = snapshot(base), random.Random(0)
    places = {generator.randrange(8 * len(whole)) for _ in range(150)}
    if file == SETTINGS:
        # The version of the format, whose neighbours had no checksums, and the checksums themselves.
        for field in (b'"format_version"', b'"sha256"', b'"tensors_sha256"', b'"peft_type"'):
            start = whole.index(field)
            places |= set(range(8 * start, 8 * (start + len(field) + 5)))
    for place in sorted(places):
        damaged = bytearray(whole)
        damaged[place // 8] ^= 1 << place % 8
        (folder / file).write_bytes(damaged)
        if file == SETTINGS and same_values(bytes(damaged), whole):
            continue
        with pytest.raises(ValueError, match=re.escape(str(folder))) as error:
            PreferenceModel.load(base, folder)
        assert str(error.value).isprintable(), place
    assert_unchanged(base, before)


def test_an_edited_description_says_how_it_is_changed(base, folder):
    settings = settings_of(folder) | {"scaling": 2.0}
    (folder / SETTINGS).write_text(json.dumps(settings))
    message = (
        r"adapter_config\.json is not as mopref wrote it \(its sha256 differs\): it is damaged, or was edited by "
        r"hand\. .*PreferenceModel\.load\(base, folder\), set what is to be changed on the model, and save it again"
    )
    for call in (lambda: PreferenceModel.load(base, folder), lambda: PreferenceModel.from_pretrained(folder)):
        with pytest.raises(ValueError, match=message):
            call()


def test_another_layout_of_the_same_description_is_the_same(base, folder):
    settings = settings_of(folder)
    (folder / SETTINGS).write_text(json.dumps(dict(reversed(settings.items())), indent=7))
    PreferenceModel.load(base, folder)


def test_tensors_of_another_save_are_refused(base, folder):
    (folder / "other").mkdir()
    model = PreferenceModel.load(base, folder)
    with torch.no_grad():
        next(iter(model.adapters.values())).U.add_(1)
    model.save_pretrained(folder / "other")
    (folder / "other" / WEIGHTS).rename(folder / WEIGHTS)
    with pytest.raises(ValueError, match=r"SHA-256 is another than adapter_config\.json records\): .* save"):
        model.restore(folder)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.filterwarnings("ignore:.*does not record:UserWarning")
def test_an_adapter_of_before_checksums_loads_without_them_only(version, make_llama, folder):
    change_settings(folder, format_version=version)
    assert "sha256" not in settings_of(folder)
    PreferenceModel.load(make_llama(), folder)
    (folder / SETTINGS).write_text(json.dumps(settings_of(folder) | {"sha256": "0" * 64}))
    with pytest.raises(ValueError, match=rf"says format version {version}, which had no checksum, and has one: "):
        PreferenceModel.load(make_llama(), folder)


# What a stranger's folder may hold.


@pytest.mark.parametrize("file", [SETTINGS, WEIGHTS])
def test_files_from_elsewhere_are_not_read(file, base, folder, tmp_path):
    (folder / file).rename(tmp_path / file)
    (folder / file).symlink_to(tmp_path / file)
    before = snapshot(base)
    with pytest.raises(ValueError, match=rf"{re.escape(file)} is a link to .*, which is not in that folder"):
        PreferenceModel.load(base, folder)
    (folder / file).unlink()
    os.mkfifo(folder / file)
    for call in (lambda: PreferenceModel.load(base, folder), lambda: PreferenceModel.from_pretrained(folder)):
        with pytest.raises(ValueError, match=r"is no plain file, but a folder|does not name its base"):
            call()
    assert_unchanged(base, before)


def test_the_hubs_cache_is_read_through_its_links(base, folder, tmp_path):
    repository = tmp_path / "hub" / "models--OWNER--NAME"
    snapshot_folder = repository / "snapshots" / ("a" * 40)
    snapshot_folder.mkdir(parents=True)
    (repository / "blobs").mkdir()
    for index, name in enumerate((SETTINGS, WEIGHTS)):
        (folder / name).rename(repository / "blobs" / str(index))
        (snapshot_folder / name).symlink_to(f"../../blobs/{index}")
    PreferenceModel.load(base, snapshot_folder)


@pytest.mark.parametrize("field", ["objectives", "adapted_modules", "base_model", "versions", "peft_type", "other"])
def test_escape_codes_are_not_printed(field, base, folder):
    code = "\x1b[2J\x1b]0;title\x07"
    values = {"objectives": [code, "b"], "adapted_modules": {code: [3, 3]}, "versions": {"mopref": code}}
    change_settings(folder, **{field: values.get(field, code)})
    for version in (3, 99):
        change_settings(folder, format_version=version)
        with pytest.raises(ValueError, match="holds control characters, in") as error:
            PreferenceModel.load(base, folder)
        assert str(error.value).isprintable()


def sparse_adapter(folder, rank):
    """Files that agree on a rank, with a hole in place of the numbers."""
    description = settings_of(folder) | {"rank": rank}
    header, offset = {}, 0
    for name, (n_out, n_in) in description["adapted_modules"].items():
        total = rank + 4
        for part, shape in (("U", [n_out, total]), ("V", [n_in, total]), ("sigma", [rank]), ("scale", [])):
            end = offset + 4 * math.prod(shape)
            header[f"{name}.{part}"] = {"dtype": "F32", "shape": shape, "data_offsets": [offset, end]}
            offset = end
    text = json.dumps(header).encode()
    with open(folder / WEIGHTS, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + offset)
    return description


def test_a_rank_that_would_fill_the_memory_is_refused_before_it_is_taken(base, folder):
    """Sealed with a checksum of its own making; the file of tensors is never read."""
    description = sparse_adapter(folder, 5_000_000)
    sealed = description | {"tensors_sha256": "0" * 64}
    sealed.pop("sha256")
    text = json.dumps({**sealed, "sha256": None}, sort_keys=True)
    (folder / SETTINGS).write_text(json.dumps(sealed | {"sha256": hashlib.sha256(text.encode()).hexdigest()}))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=r"make 5000004 directions, and these layers have a use for 1024 at most"):
        PreferenceModel.load(base, folder)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000
    # Others read what tests leave.
    (folder / WEIGHTS).unlink()


@pytest.mark.parametrize("sizes", [[10**6, 10**6], [64, 10**7]])
def test_sizes_are_compared_with_the_base_before_memory_is_taken(sizes, base, folder):
    modules = {name: sizes for name in settings_of(folder)["adapted_modules"]}
    change_settings(folder, adapted_modules=modules)
    (folder / WEIGHTS).unlink()
    with pytest.raises(ValueError, match=r"was trained on another base model .*: it adapts .* here"):
        PreferenceModel.load(base, folder)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.float16, torch.int64, torch.bool])
def test_numbers_of_all_types_are_asked_whether_they_are_finite(dtype):
    check_finite({"a": torch.ones(3).to(dtype)}, "here")
    if dtype.is_floating_point:
        with pytest.raises(ValueError, match=r"^here: 'a' has values that are not finite"):
            check_finite({"a": torch.tensor([1.0, torch.nan]).to(dtype)}, "here")

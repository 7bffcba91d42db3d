"""Settings that no class would have written are refused, sealed with a checksum of their own or not, and told."""

import hashlib
import json

import pytest
from saved_conditionings import CASES

from mopref.conditioning.conditioning_description import check_settings, made_of, read_description

SETTINGS, TENSORS = "conditioning.json", "conditioning.safetensors"


def change(folder, sealed=True, **changes):
    description = json.loads((folder / SETTINGS).read_text()) | changes
    content = (folder / TENSORS).read_bytes() + json.dumps(description | {"sha256": None}, sort_keys=True).encode()
    digest = hashlib.sha256(content).hexdigest() if sealed else description["sha256"]
    (folder / SETTINGS).write_text(json.dumps(description | {"sha256": digest}))


@pytest.mark.parametrize("sealed", [True, False])
@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("pareto set", {"hidden": [10**400]}, "hidden is .*, not a list of at most 100 whole numbers above 0"),
        ("pareto set", {"hidden": [4] * 101}, "not a list of at most 100"),
        ("pareto set", {"hidden": [4.0]}, "not a list of at most 100"),
        ("pareto set", {"num_objectives": True}, "num_objectives is True, not a whole number above 0"),
        ("pareto set", {"seed": 2**64}, "seed is 18446744073709551616, not a whole number of 64 bits"),
        ("pareto set", {"seed": None}, "seed is None"),
        ("pareto set", {"self": 1}, "'self' is no setting of ParetoSetModel"),
        ("film", {"train_base": "no"}, "train_base is 'no', not true or false"),
        ("film", {"target_modules": 3}, "target_modules is 3, not a list of texts"),
        ("hypernetwork", {"vectorize": 1}, "vectorize is 1, not true or false"),
        ("hypernetwork", {"embedding_size": 0}, "embedding_size is 0"),
        ("concatenation", {"hidden": [3]}, "'hidden' is no setting of ConcatenationModel"),
        ("decision, plain", {"anchor_shape": [1] * 17}, "anchor_shape is .*, not a shape"),
    ],
)
def test_settings_that_cannot_be(name, changes, message, sealed, tmp_path):
    case = CASES[name]
    case.new().save_pretrained(tmp_path)
    settings = json.loads((tmp_path / SETTINGS).read_text())["settings"]
    change(tmp_path, sealed, settings=settings | changes)
    with pytest.raises(ValueError, match=rf"conditioning\.json: its settings cannot be read .*{message}") as error:
        case.load(tmp_path)
    assert len(str(error.value)) < 700
    for missing in settings:
        change(tmp_path, sealed, settings={key: value for key, value in settings.items() if key != missing})
        with pytest.raises(ValueError, match=rf"'{missing}' is missing"):
            case.load(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objectives": [1, 2]}, r"objectives is \[1, 2\], not a list of texts, each once"),
        ({"objectives": ["a", "a"]}, "objectives is"),
        ({"objectives": ["", "a"]}, "objectives is"),
        ({"objectives": [["a"]]}, "objectives is"),
        ({"base_check": {"0.weight": ["x"]}}, "base_check is .*, not a list of numbers for each weight by its name"),
        ({"base_check": {"0.weight": [float("nan")]}}, "base_check is"),
        ({"base_check": {"0.weight": [10**400]}}, "base_check is"),
        ({"base_tensors": {"x": 3}}, "base_tensors is .*, not a shape for each weight by its name"),
        ({"base_tensors": {"x": [-1]}}, "base_tensors is"),
        ({"base_model": "a\x1b[2J"}, "holds control characters, in"),
        ({"versions": {"mopref": "\x1b[2J"}, "format_version": 9}, "holds control characters, in"),
    ],
)
def test_fields_that_cannot_be(changes, message, tmp_path):
    CASES["film, frozen"].new().save_pretrained(tmp_path)
    change(tmp_path, **changes)
    with pytest.raises(ValueError, match=message) as error:
        read_description(tmp_path)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 600


def test_settings_of_a_class_of_another_are_its_own():
    check_settings("Mine", {"anything": object()})


def test_what_a_class_refuses_is_told_with_the_folder(tmp_path):
    for error in (ValueError("no."), TypeError("no."), RuntimeError("no.")):
        with pytest.raises(ValueError, match=rf"^{tmp_path}: no model can be made of it \(no\): .* save it again\."):
            with made_of(tmp_path):
                raise error


def test_many_places_of_a_damaged_folder_are_not_counted_out(tmp_path):
    CASES["film"].new().save_pretrained(tmp_path)
    change(tmp_path, sealed=False, places={str(index): [6, 4] for index in range(2000)})
    with pytest.raises(ValueError, match="its files are no longer what was written"):
        CASES["film"].load(tmp_path)

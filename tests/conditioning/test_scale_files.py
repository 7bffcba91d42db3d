"""The file of scales: what it gives at λ, that its numbers come back exactly, and what is refused of a stranger's."""

import json
import math
import os

import pytest
import torch
from _refused_preferences import REFUSED_PREFERENCES
from hypothesis import given, settings, strategies as st

from mopref import PreferenceModel, SVDLoRAConfig
from mopref.conditioning.adapter_description import digest_of
from mopref.conditioning.preference_gate import PreferenceGate
from mopref.conditioning.scale_files import check_scales_replaceable, lora_scales, scales_content, single_preference

NAMES = ("helpful", "harmless")
LORAS = ("shared", *NAMES, "direction-1", "direction-2", "direction-3")
PREFERENCES = ([1.0, 0.0], [0.0, 1.0], [0.5, 0.5], [0.23, 0.77], {"harmless": 0.9, "helpful": 0.1})


def random_gate(objectives=2, directions=3, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    gate = PreferenceGate(objectives, directions, torch.empty((), dtype=dtype), generator)
    with torch.no_grad():
        gate.mixture.copy_(torch.randn(gate.mixture.shape, generator=generator, dtype=dtype))
    return gate


@pytest.fixture
def gate():
    return random_gate()


@pytest.fixture
def folder(gate, tmp_path):
    (tmp_path / "scales.json").write_bytes(scales_content(NAMES, LORAS, gate))
    return tmp_path


def changed(folder, change, sealed=True):
    """The file with a change in it, and the checksum that belongs to it."""
    description = json.loads((folder / "scales.json").read_text())
    change(description)
    if sealed:
        description["sha256"] = digest_of(description)
    (folder / "scales.json").write_text(json.dumps(description))


def by_hand(gate, preference):
    """δ(λ) in plain Python."""
    mixture, weight, bias = (part.tolist() for part in (gate.mixture, gate.weight, gate.bias))
    centred = [len(preference) * value - 1 for value in preference]
    hidden = [
        math.tanh(sum(map(math.prod, zip(row, centred, strict=True))) + b) for row, b in zip(weight, bias, strict=True)
    ]
    return [sum(map(math.prod, zip(row, hidden, strict=True))) for row in mixture]


@pytest.mark.parametrize("preference", PREFERENCES, ids=repr)
def test_the_scales_are_1_the_weights_and_what_the_gate_says(preference, gate, folder):
    row = list(preference) if isinstance(preference, list) else [preference[name] for name in NAMES]
    scales = lora_scales(folder, preference)
    assert tuple(scales) == LORAS
    assert list(scales.values())[:3] == [1.0, *row]
    assert list(scales.values())[3:] == pytest.approx(by_hand(gate, row), abs=1e-12)
    assert scales == lora_scales(folder / "scales.json", preference) == lora_scales(str(folder), preference)


def test_the_format_is_read_as_it_was_first_written(tmp_path):
    """Byte for byte: a later release reads version 1."""
    (tmp_path / "scales.json").write_text(
        '{"kind": "MOPREF_LORA_SCALES", "format_version": 1, "objectives": ["a"], "loras": ["a", "direction-1"], '
        f'"gate": {{"gate_mixture": [[{", ".join(["0.5"] + ["0.0"] * 31)}]], '
        f'"gate_weight": [{", ".join(["[2.0]"] * 32)}], "gate_bias": [{", ".join(["0.25"] * 32)}]}}, '
        '"versions": {"mopref": "0.3.0"}, "sha256": "ecc9506e6ce7c55f71a51e6f47febe078d34fb5a738753d090aede2dc66c26a0"}'
    )
    # With one objective m·λ − 1 is 0.
    assert lora_scales(tmp_path, [1.0]) == {"a": 1.0, "direction-1": pytest.approx(0.5 * math.tanh(0.25), abs=1e-15)}


@pytest.mark.parametrize("names", [NAMES, ("shared", *NAMES)])
def test_a_linear_set_has_1_and_the_weights(names, tmp_path):
    (tmp_path / "scales.json").write_bytes(scales_content(NAMES, names, None))
    expected = dict(zip(("shared", *NAMES), (1.0, 0.25, 0.75), strict=True))
    assert lora_scales(tmp_path, [0.25, 0.75]) == {name: expected[name] for name in names}


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 4),
    st.integers(1, 6),
    st.sampled_from([torch.float32, torch.float64]),
    st.lists(st.floats(-(2.0**127), 2.0**127, width=32), min_size=6, max_size=6),
)
def test_numbers_come_back_exactly(tmp_path_factory, objectives, directions, dtype, numbers):
    """Read by another parser as well, whose numbers are rounded to the type that they had."""
    gate = random_gate(objectives, directions, dtype=dtype)
    with torch.no_grad():
        gate.mixture[0, :6] = torch.tensor(numbers)
    names = tuple("abcd"[:objectives])
    folder = tmp_path_factory.mktemp("scales")
    loras = (*names, *(f"direction-{number}" for number in range(1, directions + 1)))
    (folder / "scales.json").write_bytes(scales_content(names, loras, gate))
    read = json.loads((folder / "scales.json").read_text())["gate"]
    assert read.keys() == gate.parts.keys()
    for name, part in gate.parts.items():
        assert torch.equal(torch.tensor(read[name], dtype=dtype), part)
    preference = [1.0] + [0.0] * (objectives - 1)
    with torch.no_grad():
        expected = gate.double()(torch.tensor([preference], dtype=torch.float64))[0]
    assert list(lora_scales(folder, preference).values())[objectives:] == expected.tolist()


@pytest.mark.parametrize(("preference", "message"), REFUSED_PREFERENCES)
def test_what_is_no_preference_is_refused(preference, message, folder):
    with pytest.raises(ValueError, match=f"(?i){message}"):
        lora_scales(folder, preference)
    with pytest.raises(ValueError, match=f"(?i){message}"):
        single_preference(preference, NAMES)


def put(**fields):
    return lambda description: description.update(fields)


def of_gate(part, change):
    def put_in(description):
        description["gate"][part] = change(description["gate"][part])

    return put_in


def without(field):
    return lambda description: description.pop(field)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put(kind="other"), "is of kind 'other', not 'MOPREF_LORA_SCALES': .*no file of scales of ours"),
        (put(format_version=2, versions={"mopref": "9.9"}), "format version 2, and this mopref reads 1: .*9.9"),
        (put(format_version=True), "format version True"),
        (put(more=1), "its fields are .*more"),
        (without("gate"), "its fields are format_version, kind"),
        (put(objectives="helpful"), "objectives is 'helpful'"),
        (put(objectives=["helpful", "helpful"]), "objectives is .*distinct"),
        (put(objectives=["helpful", 3]), "objectives is .*distinct"),
        (put(objectives=["../up", "harmless"]), "loras are"),
        (
            put(objectives=["../up", "harmless"], loras=["shared", "../up", "harmless", *LORAS[3:]]),
            "'../up' cannot name a folder",
        ),
        (
            put(objectives=["direction-1", "b"], loras=["direction-1", "b", *LORAS[3:]]),
            "'direction-1', as the LoRAs of dir",
        ),
        (put(objectives=["shared", "b"], loras=["shared", "b"], gate=None), "loras are"),
        (put(loras="shared"), "loras are 'shared', which no set of helpful, harmless has"),
        (put(loras=None), "loras are None"),
        (put(loras=[["shared"], *LORAS[1:]]), "loras are"),
        (put(loras=[*LORAS, "direction-3"]), "loras are"),
        (put(loras=["shared", "harmless", "helpful", *LORAS[3:]]), "loras are"),
        (put(loras=["shared"]), "loras are"),
        (put(loras=list(LORAS[:-1])), r"gate_mixture is .*, not finite numbers of shape \(2, 32\)"),
        (put(loras=list(LORAS[:3])), "gate is .*, and there are 0 LoRAs of directions"),
        (put(gate=None), "gate is None, and there are 3 LoRAs of directions"),
        (lambda description: description["gate"].pop("gate_bias"), "gate is .*, and not gate_mixture, gate_weight"),
        (lambda description: description["gate"].update(more=1), "gate is .*more.*, and not gate_mixture"),
        (put(gate=[1]), r"gate is \[1\], and not gate_mixture, gate_weight, gate_bias"),
        (of_gate("gate_bias", lambda bias: bias[1:]), r"gate_bias is .*, not finite numbers of shape \(32,\)"),
        (of_gate("gate_bias", lambda bias: [bias]), "gate_bias is"),
        (of_gate("gate_bias", lambda bias: [float("nan"), *bias[1:]]), r"gate_bias is \[nan"),
        (of_gate("gate_bias", lambda bias: [float("inf"), *bias[1:]]), r"gate_bias is \[inf"),
        (of_gate("gate_bias", lambda bias: [1e39, *bias[1:]]), "gate_bias is"),
        (of_gate("gate_bias", lambda bias: [10**400, *bias[1:]]), "gate_bias is"),
        (of_gate("gate_bias", lambda bias: [True, *bias[1:]]), "gate_bias is"),
        (of_gate("gate_bias", lambda bias: ["1", *bias[1:]]), "gate_bias is"),
        (of_gate("gate_weight", lambda weight: [row[:1] for row in weight]), r"gate_weight is .* of shape \(32, 2\)"),
        (of_gate("gate_mixture", lambda mixture: mixture[0]), "gate_mixture is"),
    ],
)
def test_what_the_file_cannot_say_is_refused(change, message, folder):
    changed(folder, change)
    with pytest.raises(ValueError, match=f"scales.json|{folder}") as error:
        lora_scales(folder, [0.5, 0.5])
    assert error.match(f"(?s){message}")


@pytest.mark.parametrize(
    "change", [put(objectives=["harmless", "helpful"]), of_gate("gate_bias", lambda bias: [0.5, *bias[1:]])]
)
def test_a_change_after_writing_is_noticed(change, folder):
    changed(folder, change, sealed=False)
    with pytest.raises(ValueError, match=r"it is not as mopref wrote it \(its sha256 differs\): .* export the set aga"):
        lora_scales(folder, [0.5, 0.5])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not valid JSON"),
        (b"[1, 2]", "is of kind None"),
        (b"\xff\xfe", "is not valid JSON"),
        (b'{"kind": "MOPREF_LORA_SCALES", "kind": "MOPREF_LORA_SCALES"}', "is there twice"),
        (b"[" * 5000, "is not valid JSON"),
        (b'{"kind": "\\u001b[31m"}', "holds control characters"),
        (b" " * (16 * 2**20 + 1), "holds 16777217 bytes, and a description at most"),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_what_is_no_such_file_is_refused(content, message, tmp_path):
    (tmp_path / "scales.json").write_bytes(content)
    with pytest.raises(ValueError, match=rf"scales\.json.*{message}.*export the set again"):
        lora_scales(tmp_path, [0.5, 0.5])


def test_what_is_not_there_or_no_plain_file_is_refused(folder, tmp_path):
    for place in ("nothing", "empty"):
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(FileNotFoundError, match=r"holds no .*: give the folder of a set, as export_lora_set"):
            lora_scales(tmp_path / place, [0.5, 0.5])
    (tmp_path / "empty" / "scales.json").symlink_to(folder / "scales.json")
    with pytest.raises(ValueError, match=r"is a link to .*a file from elsewhere is not read"):
        lora_scales(tmp_path / "empty", [0.5, 0.5])
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "scales.json").mkdir()
    with pytest.raises(ValueError, match="is no plain file"):
        lora_scales(tmp_path / "other", [0.5, 0.5])
    with pytest.raises(ValueError, match="which names no folder"):
        lora_scales("", [0.5, 0.5])
    with pytest.raises(TypeError, match="folder is 3"):
        lora_scales(3, [0.5, 0.5])


@pytest.mark.skipif(os.name == "nt", reason="needs a pipe")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "scales.json")
    for place in (tmp_path, tmp_path / "scales.json"):
        with pytest.raises(ValueError, match="is no plain file, but a folder, a pipe or a device"):
            lora_scales(place, [0.5, 0.5])


def test_scales_of_others_are_not_replaced(folder, make_mlp, gate):
    check_scales_replaceable(folder, NAMES, LORAS)
    before = (folder / "scales.json").read_bytes()
    other = PreferenceModel(make_mlp(), SVDLoRAConfig(("a", "b"), rank=0))
    with pytest.raises(
        FileExistsError,
        match=r"holds the LoRAs of another training, .*its objectives are helpful, harmless",
    ):
        other.export_lora_set(folder)
    same = PreferenceModel(make_mlp(), SVDLoRAConfig(NAMES))
    (folder / "shared.gguf").write_bytes(b"")
    with pytest.raises(FileExistsError, match=r"holds the scales of GGUF files \(shared\.gguf\)"):
        same.export_lora_set(folder)
    (folder / "shared.gguf").unlink()
    (folder / "scales.json").write_text("mine")
    with pytest.raises(FileExistsError, match=r"holds scales that cannot be read \(.*is not valid JSON"):
        same.export_lora_set(folder)
    assert (folder / "scales.json").read_text() == "mine"
    assert [path.name for path in folder.iterdir()] == ["scales.json"]
    (folder / "scales.json").write_bytes(before)
    stale = r"holds LoRAs that this set has not, which would stay beside it \(direction-1, direction-2, direction-3\)"
    with pytest.raises(FileExistsError, match=stale):
        same.export_lora_set(folder)
    assert (folder / "scales.json").read_bytes() == before
    (folder / "scales.json").write_bytes(scales_content(NAMES, LORAS[:3], None))
    same.export_lora_set(folder)
    assert lora_scales(folder, [0.25, 0.75]) == {"shared": 1.0, "helpful": 0.25, "harmless": 0.75}

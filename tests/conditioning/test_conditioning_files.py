"""Every conditioning comes back from its folder bit for bit; nothing damaged or of another model does, nor is lost."""

import hashlib
import json
import os
import warnings
from pathlib import Path

import hypothesis
import pytest
import torch
from conditioned_networks import store_in_int8
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from saved_conditionings import CASES, FROZEN, NAMES, ROWS, WHOLE, base, moved, output
from torch import nn

from mopref import DecisionModel, FiLMModel, HypernetworkModel, Objective, ParetoSetModel, ParetoTrainer, TrainerConfig
from mopref.conditioning import conditioning_files
from mopref.scalarizers import PBI, Linear
from mopref.training.evaluation_callback import EvaluationCallback
from mopref.training.measured_front import Front

SETTINGS, TENSORS = "conditioning.json", "conditioning.safetensors"


@pytest.fixture(params=CASES, ids=list(CASES))
def case(request):
    return CASES[request.param]


@pytest.fixture(params=FROZEN, ids=FROZEN)
def frozen(request):
    return CASES[request.param]


@pytest.fixture(params=WHOLE, ids=WHOLE)
def whole(request):
    return CASES[request.param]


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def state(model: nn.Module) -> dict[str, tuple]:
    """Each value by its name, with its type and whether it is trained; nothing where a model knows no such name."""
    values = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {name: (tensor.dtype, tensor.requires_grad, tensor.tolist()) for name, tensor in values.items()}


# There and back.


def test_it_comes_back_bit_for_bit(case, tmp_path):
    model = moved(case.new())
    model.save_pretrained(tmp_path)
    assert sorted(content(tmp_path)) == [SETTINGS, TENSORS]
    loaded = case.load(tmp_path).eval()
    assert type(loaded) is type(model)
    assert state(loaded) == state(model)
    assert torch.equal(output(loaded), output(model))
    assert not torch.equal(output(case.new().eval()), output(model)), "the test would be vacuous"
    again = tmp_path / "again"
    loaded.save_pretrained(again)
    assert content(again) == {name: (tmp_path / name).read_bytes() for name in (SETTINGS, TENSORS)}


def test_the_settings_can_be_read(case, tmp_path):
    model = case.new()
    model.save_pretrained(tmp_path)
    description = json.loads((tmp_path / SETTINGS).read_text(encoding="utf-8"))
    assert description["kind"] == case.kind.__name__
    assert description["format_version"] == 1
    assert description["preference_convention"] == "importance"
    assert description["versions"].keys() == {"mopref", "torch"}
    assert description["objectives"] == list(getattr(model, "objectives", description["objectives"]))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_pareto_set_model_keeps_its_type_and_bounds(dtype, tmp_path):
    model = moved(CASES["pareto set"].new()).to(dtype)
    model.save_pretrained(tmp_path)
    loaded = ParetoSetModel.load(tmp_path)
    assert state(loaded) == state(model)
    assert (loaded.num_objectives, loaded.num_variables) == (2, 3)
    assert loaded.upper.dtype == dtype
    if dtype == torch.float64:
        assert torch.equal(loaded(ROWS), model(ROWS))


@pytest.mark.parametrize("kind", [FiLMModel, HypernetworkModel])
def test_a_language_model_whose_head_shares_its_weight(kind, make_gpt2, tmp_path):
    """Shared weights are written once; the base of another seed is taken for granted, since it is saved whole."""
    options = {"hidden": (4,)} | ({"vectorize": False} if kind is HypernetworkModel else {})
    small = {"n_embd": 8, "n_head": 2, "vocab_size": 11, "n_positions": 8}
    model = moved(kind(make_gpt2(**small), NAMES, **options))
    model.save_pretrained(tmp_path)
    assert "base.lm_head.weight" not in load_file(tmp_path / TENSORS)
    loaded = kind.load(make_gpt2(seed=5, **small), tmp_path).eval()
    ids = torch.tensor([[1, 2, 3], [4, 5, 6], [7, 8, 9]])
    with torch.no_grad():
        outputs = [m(input_ids=ids, preferences=ROWS, use_cache=False).logits for m in (model, loaded)]
    assert torch.equal(*outputs)
    assert loaded.base_model.lm_head.weight is loaded.base_model.transformer.wte.weight


def test_the_convention_is_recorded_and_told(case, tmp_path):
    model = case.new()
    model.preference_convention = "ray"
    model.save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match="was trained on rays"):
        loaded = case.load(tmp_path)
    parts = [part for part in (loaded, getattr(loaded, "network", None)) if hasattr(part, "preference_convention")]
    assert [part.preference_convention for part in parts] == ["ray"] * len(parts)
    model.preference_convention = "importence"
    with pytest.raises(ValueError, match="preference_convention is 'importence'"):
        model.save_pretrained(tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_training_notes_its_scalarizers_convention():
    for options, expected in (({"convention": "ray"}, "ray"), ({}, "importance")):
        model = CASES["decision, film"].new()
        ParetoTrainer(model, Squares(), PBI(ideal=[0.0, 0.0], **options), config=config(steps=1)).train()
        assert (model.preference_convention, model.network.preference_convention) == (expected, expected)


# Around another base, or another network.


def test_a_frozen_base_is_not_written_and_another_is_refused(frozen, tmp_path):
    model = moved(frozen.new())
    model.save_pretrained(tmp_path)
    assert not [name for name in load_file(tmp_path / TENSORS) if name.startswith("base.")]
    inside = frozen.around(1)
    before, layers = state(inside), [*map(type, inside.modules())]
    with pytest.raises(ValueError, match=r"was trained on another base model \(''\): the weights of 0.weight differ"):
        frozen.kind.load(inside, tmp_path)
    assert state(inside) == before
    assert [*map(type, inside.modules())] == layers


def test_a_base_that_was_trained_comes_from_the_folder(whole, tmp_path):
    model = moved(whole.new())
    model.save_pretrained(tmp_path)
    assert torch.equal(output(whole.load(tmp_path, seed=1).eval()), output(model))


@pytest.mark.parametrize("name", ["film", "film, frozen", "hypernetwork", "hypernetwork, frozen", "concatenation"])
def test_a_base_of_other_layers_is_refused(name, tmp_path):
    case = CASES[name]
    case.new().save_pretrained(tmp_path)
    for other in (nn.Sequential(nn.Linear(4, 6)), nn.Sequential(nn.Linear(4, 7), nn.Tanh(), nn.Linear(7, 3))):
        before = state(other)
        with pytest.raises(ValueError, match="was trained on another base model"):
            case.kind.load(other, tmp_path)
        assert state(other) == before


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (lambda: base(0), "kind is 'FiLMModel' there and 'Sequential' here"),
        (lambda: FiLMModel(base(0), ("harmless", "helpful"), (5,)), "objectives is .* there and .* here"),
        (lambda: FiLMModel(base(0), NAMES, (6,)), "settings is .*'hidden': .5.* there and .*'hidden': .6.* here"),
    ],
    ids=["plain", "other order", "other width"],
)
def test_another_network_of_decisions_is_refused(network, message, tmp_path):
    CASES["decision, film"].new().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=message):
        DecisionModel.load(network(), tmp_path)


def test_a_parameter_of_a_frozen_base_that_was_trained_all_the_same_is_saved(tmp_path):
    case = CASES["film, frozen"]
    model = case.new()
    model.base_model[0].bias.requires_grad_(True)
    moved(model).save_pretrained(tmp_path)
    loaded = case.load(tmp_path)
    assert state(loaded) == state(model)
    assert torch.equal(output(loaded), output(model))


def test_a_base_in_which_weights_are_quantised_is_not_written_whole(tmp_path):
    for make in (FiLMModel, HypernetworkModel):
        model = make(store_in_int8(base(0)), NAMES)
        with pytest.raises(ValueError, match=r"weight of the base model is a _Int8 .* freeze it \(train_base=False\)"):
            model.save_pretrained(tmp_path / "model")
        assert not (tmp_path / "model").exists()


# Damage.


@pytest.fixture
def saved(case, tmp_path):
    moved(case.new()).save_pretrained(tmp_path)
    return tmp_path


def assert_refused(case, folder, message=None, error=ValueError):
    inside = case.around(0)
    before = None if inside is None else (state(inside), [*map(type, inside.modules())])
    with pytest.raises(error, match=message):
        case.kind.load(folder) if inside is None else case.kind.load(inside, folder)
    assert inside is None or (state(inside), [*map(type, inside.modules())]) == before


def seal(folder):
    """Make the checksum right, as one who means harm would."""
    description = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
    content = (folder / TENSORS).read_bytes() + json.dumps(description | {"sha256": None}, sort_keys=True).encode()
    (folder / SETTINGS).write_text(json.dumps(description | {"sha256": hashlib.sha256(content).hexdigest()}))


def test_missing_files(case, saved):
    (saved / TENSORS).rename(saved / "other")
    assert_refused(case, saved, "is no complete conditioning: it has no conditioning.safetensors", FileNotFoundError)
    (saved / SETTINGS).unlink()
    assert_refused(case, saved, "holds no saved conditioning: it has no conditioning.json", FileNotFoundError)
    (saved / "adapter_config.json").write_text("{}")
    assert_refused(case, saved, "it holds an adapter", FileNotFoundError)


def test_tensors_that_are_missing_added_of_another_shape_or_not_finite(case, saved):
    tensors = load_file(saved / TENSORS)
    name = max(tensors, key=lambda name: tensors[name].numel())
    damages = {
        "missing": {key: value for key, value in tensors.items() if key != name},
        "added": tensors | {"other": torch.zeros(2)},
        "added base": tensors | {"base.other": torch.zeros(2)},
        "shape": tensors | {name: tensors[name][..., None].contiguous()},
    }
    messages = {
        "missing": name.removeprefix("base."),
        "added": "'other' that conditioning.json does not describe",
        "added base": "'other' of the base",
        "shape": name.removeprefix("base."),
    }
    for kind, damaged in damages.items():
        save_file(damaged, saved / TENSORS)
        assert_refused(case, saved, messages[kind])
    save_file(tensors | {name: tensors[name] / 0}, saved / TENSORS)
    seal(saved)
    assert_refused(case, saved, f"{name!r} has values that are not finite")
    # Of the right shape, but from another training.
    save_file(tensors | {name: tensors[name] + 1}, saved / TENSORS)
    assert_refused(case, saved, "are no longer what was written")


@pytest.mark.parametrize("file", [SETTINGS, TENSORS])
def test_a_file_that_was_cut(file, case, saved):
    whole = (saved / file).read_bytes()
    for size in (0, 1, len(whole) // 2, len(whole) - 1):
        (saved / file).write_bytes(whole[:size])
        assert_refused(case, saved, str(saved))


@hypothesis.settings(
    max_examples=8, deadline=None, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture]
)
@hypothesis.given(data=st.data())
def test_any_flipped_bit_is_refused(data, case, saved):
    """Also in a digit of a number that could be another one, or in a letter of a name."""
    file = data.draw(st.sampled_from([SETTINGS, TENSORS]))
    whole = (saved / file).read_bytes()
    place = data.draw(st.integers(0, 8 * len(whole) - 1))
    damaged = bytearray(whole)
    damaged[place // 8] ^= 1 << place % 8
    try:
        (saved / file).write_bytes(damaged)
        same = file == SETTINGS and _parsed(bytes(damaged)) == json.loads(whole)
        if not same:
            assert_refused(case, saved)
    finally:
        (saved / file).write_bytes(whole)


def _parsed(text: bytes):
    try:
        return json.loads(text.decode())
    except ValueError:
        return None


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("kind", "Other", "holds a Other, not a "),
        ("format_version", 2, "has format version 2, and this mopref reads 1"),
        ("format_version", "1", "format_version is '1'"),
        ("settings", None, "settings is None"),
        ("objectives", {}, "objectives is {}"),
        ("preference_convention", "other", "its settings cannot be read|convention is 'other'"),
        ("base_tensors", {"x": 3}, "not a shape for each weight by its name"),
        ("sha256", "0" * 64, "are no longer what was written"),
    ],
)
def test_fields_that_hold_something_else(field, value, message, case, saved):
    description = json.loads((saved / SETTINGS).read_text(encoding="utf-8"))
    (saved / SETTINGS).write_text(json.dumps(description | {field: value}))
    assert_refused(case, saved, message)
    del description[field]
    (saved / SETTINGS).write_text(json.dumps(description))
    assert_refused(case, saved, field if field != "kind" else "kind is missing")


def test_values_that_are_not_finite_are_not_written(case, tmp_path):
    model = case.new()
    next(parameter for parameter in model.parameters() if parameter.requires_grad).data.fill_(float("nan"))
    with pytest.raises(ValueError, match=r"the model cannot be saved: .* has values that are not finite"):
        model.save_pretrained(tmp_path / "model")
    assert not (tmp_path / "model").exists()


# What may be replaced.


def test_an_older_save_is_replaced_and_other_files_stay(case, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    model = case.new()
    model.save_pretrained(tmp_path)
    moved(model).save_pretrained(tmp_path)
    assert sorted(content(tmp_path)) == [SETTINGS, TENSORS, "notes.txt"]
    assert torch.equal(output(case.load(tmp_path).eval()), output(model))


def test_what_is_something_else_is_kept(case, tmp_path):
    other = CASES["film" if case is not CASES["film"] else "concatenation"].new()
    folders = {name: tmp_path / name for name in ("conditioning", "model", "adapter", "checkpoint", "cut", "file")}
    other.save_pretrained(folders["conditioning"])
    CASES["decision, adapters"].new().network.save_pretrained(folders["adapter"])
    for name, files in (
        ("model", ["model.safetensors"]),
        ("checkpoint", ["state.json", "state.safetensors"]),
        ("cut", [TENSORS]),
    ):
        folders[name].mkdir()
        for file in files:
            (folders[name] / file).write_text("")
    folders["file"].write_text("")
    before = content(tmp_path)
    model = case.new()
    for folder in folders.values():
        for write in (model.check_folder, model.save_pretrained):
            with pytest.raises(FileExistsError, match=r"choose another (folder|path)"):
                write(folder)
        assert content(tmp_path) == before


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ParetoSetModel(2, 3, hidden=(5, 4), seed=4), "settings: seed is 3 there and 4 here"),
        (lambda: ParetoSetModel(3, 3, hidden=(5, 4), seed=3), "settings: num_objectives is 2 there and 3 here"),
    ],
    ids=["seed", "objectives"],
)
def test_the_folder_of_another_run_is_kept(make, message, tmp_path):
    CASES["pareto set"].new().save_pretrained(tmp_path)
    with pytest.raises(FileExistsError, match=message):
        make().save_pretrained(tmp_path)


def test_the_folder_of_the_same_on_another_frozen_base_is_kept(frozen, tmp_path):
    frozen.new().save_pretrained(tmp_path)
    with pytest.raises(FileExistsError, match=r"the weights of 0\.weight differ"):
        frozen.new(seed=1).save_pretrained(tmp_path)


def test_an_adapter_is_not_written_beside_it(case, tmp_path):
    case.new().save_pretrained(tmp_path)
    model = CASES["decision, adapters"].new().network
    for write in (model.check_folder, model.save_pretrained, lambda folder: model.export_lora(folder, [0.5, 0.5])):
        with pytest.raises(FileExistsError, match=r"holds another conditioning \(conditioning.json\)"):
            write(tmp_path)
    assert sorted(content(tmp_path)) == [SETTINGS, TENSORS]


@pytest.mark.parametrize("after", range(2))
def test_an_interrupted_write_leaves_the_newer_files_whole(after, case, tmp_path, monkeypatch):
    model = case.new()
    model.save_pretrained(tmp_path)
    moved(model)
    replace, moves = os.replace, []

    def interrupted(source, target):
        if os.path.dirname(source).endswith(".pending"):
            if len(moves) == after:
                raise KeyboardInterrupt
            moves.append(target)
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            model.save_pretrained(tmp_path)
    assert (tmp_path / ".pending").is_dir()
    assert torch.equal(output(case.load(tmp_path).eval()), output(model))
    model.check_folder(tmp_path)
    model.save_pretrained(tmp_path)
    assert sorted(content(tmp_path)) == [SETTINGS, TENSORS]
    assert torch.equal(output(case.load(tmp_path).eval()), output(model))


@pytest.mark.parametrize(("folder", "error"), [("", ValueError), (3, TypeError), (None, TypeError)])
def test_what_is_no_path_is_refused(folder, error, case):
    model = case.new()
    for call in (model.save_pretrained, model.check_folder, case.load):
        with pytest.raises(error, match="folder is"):
            call(folder)


def test_the_digest_does_not_depend_on_the_order_of_fields():
    hashes = [conditioning_files.hashlib.sha256(b"x") for _ in range(2)]
    one, other = {"a": 1, "sha256": "y", "b": 2}, {"b": 2, "a": 1}
    assert conditioning_files._digest(one, hashes[0]) == conditioning_files._digest(other, hashes[1])


# In a training.


class Squares(Objective):
    """Distances of the outputs from two points."""

    names = NAMES

    def losses(self, model, batch, preferences):
        if isinstance(model, ParetoSetModel | DecisionModel):
            outputs = model(preferences)
        else:
            outputs = model(torch.ones(len(preferences), 4), preferences=preferences)
        return torch.stack([(outputs - point).square().mean(dim=1) for point in (0.0, 0.5)], dim=1)


class Measured(EvaluationCallback):
    """The losses at three preferences."""

    def measure(self, trainer):
        with torch.no_grad():
            losses = Squares().losses(trainer.unwrapped_model.eval(), None, ROWS)
        trainer.unwrapped_model.train()
        return Front(ROWS, losses, NAMES)


def config(**settings) -> TrainerConfig:
    options = {"preferences_per_step": 4, "progress": False, "cpu": True, "learning_rate": 1e-2}
    return TrainerConfig(**{**options, **settings})


def trained(model, *callbacks, resume_from=None, **settings):
    trainer = ParetoTrainer(model, Squares(), Linear(), config=config(**settings), callbacks=callbacks)
    trainer.train(resume_from=resume_from)
    return trainer


def test_a_checkpoint_gives_the_same_model_as_an_uninterrupted_training(case, tmp_path):
    straight = case.new()
    trained(straight, steps=4)
    options = {"output_dir": str(tmp_path / "run"), "checkpoint_every": 2}
    trained(case.new(), steps=4, **options)
    resumed = case.new()
    trained(resumed, steps=4, resume_from=tmp_path / "run" / "checkpoint-2", **options)
    assert state(resumed) == state(straight)
    resumed.save_pretrained(tmp_path / "model")
    assert torch.equal(output(case.load(tmp_path / "model").eval()), output(straight.eval()))


def test_the_best_model_of_a_training_is_kept(case, tmp_path):
    best = tmp_path / "best"
    callback = Measured(every=1, reference_point=[9.0, 9.0], best_folder=best)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trained(case.new(), callback, steps=3)
        loaded = case.load(best).eval()
    assert callback.best["step"] > 0, "the test would be vacuous: nothing was learned"
    with torch.no_grad():
        losses = Squares().losses(loaded, None, ROWS)
    found = [[point[f"loss/{name}"] for name in NAMES] for point in callback.best["points"]]
    torch.testing.assert_close(losses, torch.tensor(found, dtype=losses.dtype))


def test_a_best_folder_of_something_else_is_refused_before_the_training(tmp_path):
    CASES["concatenation"].new().save_pretrained(tmp_path)
    callback = Measured(every=1, reference_point=[9.0, 9.0], best_folder=tmp_path)
    with pytest.raises(FileExistsError, match="another conditioning, which would be lost"):
        trained(CASES["film"].new(), callback, steps=1)
    assert callback.records == []

"""Plain LoRAs for other tools: what a set adds up to, and which names and values are refused before any is written."""

import copy

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import nn

from mopref import PreferenceModel, SVDLoRAConfig
from mopref.conditioning.lora_export import lora_set, names_of_set
from mopref.conditioning.scale_files import lora_scales

NAMES = ("helpful", "harmless")
CONFIG = SVDLoRAConfig(objectives=NAMES, rank=4, preference_rank=2, scaling=0.7)
CURVED = SVDLoRAConfig(objectives=NAMES, rank=4, preference_rank=2, scaling=0.7, gate="shared-mlp")
DIRECTIONS = tuple(f"direction-{number}" for number in range(1, 9))
CURVED_SET = st.fixed_dictionaries(
    {
        "objectives": st.integers(1, 4).map(lambda count: tuple("abcd"[:count])),
        "rank": st.integers(0, 3),
        "preference_rank": st.integers(1, 3),
        "scaling": st.sampled_from([0.3, 1.0, 2.5]),
        "gate": st.sampled_from(["linear", "shared-mlp"]),
        "seed": st.integers(0, 9),
    }
)


@pytest.fixture
def base(make_lm):
    return make_lm()


@pytest.fixture
def model(base, randomise):
    return randomise(PreferenceModel(copy.deepcopy(base), CONFIG)).eval()


@pytest.fixture
def folder(model, tmp_path):
    model.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


@torch.no_grad()
def logits(model: nn.Module, tokens: torch.Tensor, preference: torch.Tensor | None = None) -> torch.Tensor:
    return (model(tokens) if preference is None else model(tokens, preferences=preference)).logits


@pytest.mark.parametrize("weights", [(1.0, 0.0), (0.25, 0.75)])
@pytest.mark.parametrize(("config", "directions"), [(CONFIG, ()), (CURVED, DIRECTIONS)], ids=["linear", "shared-mlp"])
def test_exported_set_combines_to_the_conditioned_model(
    config, directions, weights, base, randomise, token_batch, tmp_path
):
    """Σ scale · LoRA, concatenated by stock PEFT (averaging A and B apart is not averaging ΔW)."""
    peft = pytest.importorskip("peft")
    model = randomise(PreferenceModel(copy.deepcopy(base), config)).eval()
    model.export_lora_set(tmp_path)
    scales = lora_scales(tmp_path, weights)
    assert tuple(scales) == ("shared", *NAMES, *directions)
    assert {path.name for path in tmp_path.iterdir()} == {*scales, "scales.json"}
    stock = peft.PeftModel.from_pretrained(copy.deepcopy(base), tmp_path / "shared", adapter_name="shared")
    for name in (*NAMES, *directions):
        stock.load_adapter(tmp_path / name, adapter_name=name)
    stock.add_weighted_adapter(list(scales), list(scales.values()), "mixed", combination_type="cat")
    stock.set_adapter("mixed")
    expected = logits(model, token_batch, torch.tensor(weights))
    torch.testing.assert_close(logits(stock.eval(), token_batch), expected, atol=1e-4, rtol=1e-4)


@settings(deadline=None, max_examples=40)
@given(CURVED_SET, st.lists(st.floats(0, 1), min_size=4, max_size=4))
def test_the_base_and_the_scaled_loras_are_the_merged_model(make_mlp, randomise, tmp_path_factory, options, numbers):
    """At random λ and at every corner, for any m, k, p and c."""
    base, folder = make_mlp(), tmp_path_factory.mktemp("set")
    model = randomise(PreferenceModel(copy.deepcopy(base), SVDLoRAConfig(**options)), seed=options["seed"])
    model.export_lora_set(folder)
    loras, m = lora_set(model.adapters, model.adapter_config), len(options["objectives"])
    assert tuple(lora.name for lora in loras) == names_of_set(model.adapter_config)
    inner = torch.tensor(numbers[:m], dtype=torch.float64) + 0.01
    for preference in (inner / inner.sum(), *torch.eye(m, dtype=torch.float64)):
        scales, merged = lora_scales(folder, preference), model.merge(preference)
        assert list(scales) == [lora.name for lora in loras]
        for name, layer in model.adapters.items():
            change = sum(scales[lora.name] * lora.factors[name][1] @ lora.factors[name][0] for lora in loras)
            expected = merged.get_submodule(name).weight
            torch.testing.assert_close(base.get_submodule(name).weight + change, expected, atol=1e-5, rtol=1e-5)
            assert {lora.name: lora.factors[name][0].shape for lora in loras} == {
                lora.name: (lora.rank, layer.n_in) for lora in loras
            }


def test_a_curved_gate_matters(make_mlp, randomise, tmp_path):
    """Without the LoRAs of directions it is another model, or the other tests would say nothing."""
    model = randomise(PreferenceModel(make_mlp(), CURVED))
    model.export_lora_set(tmp_path)
    for preference in ([1.0, 0.0], [0.5, 0.5], [0.2, 0.8]):
        scales = lora_scales(tmp_path, preference)
        assert max(abs(scales[name]) for name in DIRECTIONS) > 0.1
        expected = model.adapters["0"].curved_gate(torch.tensor([preference]))[0]
        torch.testing.assert_close(torch.tensor([scales[name] for name in DIRECTIONS]), expected)


def test_an_export_does_not_replace_an_adapter(model, folder):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(FileExistsError, match="holds a mopref adapter, which the export would replace"):
        model.export_lora(folder, preference=[0.5, 0.5])
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize(
    ("name", "gate"),
    [
        ("shared", "linear"),
        ("scales.json", "linear"),
        ("README.md", "linear"),
        ("direction-3", "shared-mlp"),
        ("Direction-03", "shared-mlp"),
    ],
)
def test_an_objective_may_not_take_the_name_of_another_part(name, gate, make_mlp, tmp_path):
    model = PreferenceModel(make_mlp(), SVDLoRAConfig(objectives=("helpful", name), gate=gate))
    with pytest.raises(ValueError, match=f"an objective is called '{name}', .*: train with another name"):
        model.export_lora_set(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_gate_that_diverged_is_not_written(make_mlp, randomise, tmp_path):
    model = randomise(PreferenceModel(make_mlp(), CURVED))
    with torch.no_grad():
        model.shared_gate.mixture[2, 3] = float("nan")
    with pytest.raises(ValueError, match="the model cannot be exported: 'gate_mixture' has values that are not finite"):
        model.export_lora_set(tmp_path / "set")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "/a", "../a", "a\\b", "C:a", "C:", "a/", "./a", "a/."])
def test_an_objective_whose_name_is_no_folder_is_refused_before_anything_is_written(name, make_mlp, tmp_path):
    with pytest.raises(ValueError, match="cannot name a folder of its own, in which its LoRA is written"):
        PreferenceModel(make_mlp(), SVDLoRAConfig(objectives=("helpful", name))).export_lora_set(tmp_path / "set")
    assert not list(tmp_path.iterdir())


def test_an_objective_has_room_for_what_is_called_after_it(make_mlp, tmp_path):
    model = PreferenceModel(make_mlp(), SVDLoRAConfig(objectives=("helpful", "λ" * 101)))
    with pytest.raises(ValueError, match="a name of more than 200 bytes, after which no file can be called"):
        model.export_lora_set(tmp_path)
    assert not list(tmp_path.iterdir())
    PreferenceModel(make_mlp(), SVDLoRAConfig(objectives=("helpful", "λ" * 100))).export_lora_set(tmp_path)


@pytest.mark.parametrize("name", ["harmless", "not harmful", "größe", "λ", ".hidden", "a.b"])
def test_other_names_are_folders(name, make_mlp, tmp_path):
    PreferenceModel(make_mlp(), SVDLoRAConfig(objectives=("helpful", name))).export_lora_set(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"shared", "helpful", name, "scales.json"}


def test_without_shared_directions_there_is_no_shared_lora(make_mlp, tmp_path):
    PreferenceModel(make_mlp(), SVDLoRAConfig(objectives=("a", "b"), rank=0)).export_lora_set(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b", "scales.json"}


@pytest.mark.parametrize("part", ["U", "V", "sigma", "scale"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_diverged_adapter_is_not_written(part, value, model, five_preferences, tmp_path):
    name = list(model.adapters)[-1]
    with torch.no_grad():
        getattr(model.adapters[name], part).view(-1)[0] = value
    with pytest.raises(
        ValueError, match=rf"the model cannot be saved: '{name}\.{part}' has values that are not finite"
    ):
        model.save_pretrained(tmp_path / "adapter")
    for export in (lambda folder: model.export_lora(folder, five_preferences[1]), model.export_lora_set):
        with pytest.raises(ValueError, match=rf"the model cannot be exported: 'base_model\.model\.{name}\.lora_[AB]"):
            export(tmp_path / "lora")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("names", [("Help", "help"), ("a", "Shared"), ("straße", "STRASSE"), ("e\u0301", "\u00e9")])
def test_names_that_share_a_folder_on_some_disks_are_refused(names, make_mlp, tmp_path):
    model = PreferenceModel(make_mlp(), SVDLoRAConfig(objectives=names))
    with pytest.raises(ValueError, match="would be called alike but for capital letters, so that on some disks two of"):
        model.export_lora_set(tmp_path / "set")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["shared", "b"])
def test_a_set_is_not_written_through_a_link_out_of_its_folder(name, make_mlp, tmp_path):
    model = PreferenceModel(make_mlp(), SVDLoRAConfig(objectives=("a", "b")))
    (tmp_path / "set").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "set" / name).symlink_to(tmp_path / "outside", target_is_directory=True)
    with pytest.raises(ValueError, match=rf"{name} is a link out of .*set: delete it, or choose another folder"):
        model.export_lora_set(tmp_path / "set")
    assert not list((tmp_path / "outside").iterdir())
    assert [path.name for path in (tmp_path / "set").iterdir()] == [name]


def test_a_folder_that_is_a_link_itself_is_that_folder(make_mlp, tmp_path):
    model = PreferenceModel(make_mlp(), SVDLoRAConfig(objectives=("a", "b")))
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real", target_is_directory=True)
    model.export_lora_set(tmp_path / "link")
    assert {path.name for path in (tmp_path / "real").iterdir()} == {"shared", "a", "b", "scales.json"}

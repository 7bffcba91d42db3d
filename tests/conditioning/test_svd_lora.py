"""SVD-LoRA: W(λ) = W0 + c·U·diag(σ, s·λ)·Vᵀ."""

import copy
import json
import math
from contextlib import nullcontext
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
import torch
from torch import nn

from mopref import PreferenceModel, SVDLoRAConfig
from mopref.conditioning.preference_state import PreferenceRecord
from mopref.conditioning.svd_lora import check_ranks

OBJECTIVES = ("a", "b")
PRESETS = {
    "default": SVDLoRAConfig(objectives=OBJECTIVES, rank=4, preference_rank=2),
    "paper": SVDLoRAConfig.paper(OBJECTIVES),
}


def random_simplex(n: int, m: int, seed: int = 0) -> torch.Tensor:
    raw = torch.rand(n, m, generator=torch.Generator().manual_seed(seed)) + 1e-3
    return raw / raw.sum(-1, keepdim=True)


@pytest.fixture(params=list(PRESETS))
def preset(request):
    return PRESETS[request.param]


@torch.no_grad()
def test_nothing_changes_at_the_start(preset, make_lm, five_preferences, token_batch):
    base = make_lm()
    model = PreferenceModel(copy.deepcopy(base), preset).eval()
    expected = base(token_batch).logits
    torch.testing.assert_close(model(token_batch, preferences=five_preferences).logits, expected, atol=1e-6, rtol=0)
    for layer in model.adapters.values():
        for preference in five_preferences:
            assert layer.delta_weight(preference).abs().max() == 0


def test_paper_preset(make_llama):
    """k = 8, p = 1, c = 512/k, U, V ~ N(0, .02²), σ = 0, s = 0."""
    config = SVDLoRAConfig.paper(OBJECTIVES)
    assert (config.rank, config.preference_rank, config.scaling, config.initialization) == (8, 1, 64.0, "paper")
    assert SVDLoRAConfig.paper(OBJECTIVES, rank=4).scaling == 128.0
    layers = PreferenceModel(make_llama(), config).adapters.values()
    entries = torch.cat([factor.flatten() for layer in layers for factor in (layer.U, layer.V)])
    assert entries.mean().item() == pytest.approx(0, abs=1e-3)
    assert entries.std().item() == pytest.approx(0.02, rel=0.03)
    assert all((layer.sigma == 0).all() and (layer.scale == 0).all() for layer in layers)


def test_default_start(make_llama):
    """U = 0, s = 1, σ = 1, V ~ N(0, 1/n_in): ΔW = 0 and U learns at once."""
    layers = PreferenceModel(make_llama(), SVDLoRAConfig(objectives=OBJECTIVES)).adapters.values()
    for layer in layers:
        assert (layer.U == 0).all()
        assert (layer.sigma == 1).all()
        assert (layer.scale == 1).all()
    whitened = torch.cat([layer.V.flatten() * layer.V.shape[0] ** 0.5 for layer in layers])
    assert whitened.mean().item() == pytest.approx(0, abs=0.03)
    assert whitened.std().item() == pytest.approx(1, rel=0.03)


@pytest.mark.parametrize(("name", "learning"), [("default", {"U"}), ("paper", {"sigma", "scale"})])
def test_first_gradients(name, learning, make_llama, five_preferences, token_batch):
    """What the start lets learn first: U alone in ours, σ and s alone in the paper's."""
    model = PreferenceModel(make_llama(), PRESETS[name])
    model(token_batch, preferences=five_preferences).logits.square().sum().backward()
    for layer in model.adapters.values():
        for parameter in ("U", "V", "sigma", "scale"):
            gradient = getattr(layer, parameter).grad
            moving = gradient is not None and gradient.abs().max() > 0
            assert moving == (parameter in learning), parameter


@pytest.mark.parametrize("preference_rank", [1, 3])
def test_parameter_shapes_and_count(preference_rank, make_llama):
    """U, V, σ (k) and ONE scalar s per matrix: (n_out + n_in)(k + p·m) + k + 1 parameters each."""
    base = make_llama()
    config = SVDLoRAConfig(objectives=("a", "b", "c"), rank=5, preference_rank=preference_rank)
    model = PreferenceModel(copy.deepcopy(base), config)
    columns, total = 5 + 3 * preference_rank, 0
    for name, layer in model.adapters.items():
        n_out, n_in = base.get_submodule(name).weight.shape
        assert layer.U.shape == (n_out, columns)
        assert layer.V.shape == (n_in, columns)
        assert layer.sigma.shape == (5,)
        assert layer.scale.numel() == 1
        total += (n_out + n_in) * columns + 5 + 1
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == total


@pytest.mark.parametrize("config", [*PRESETS.values(), SVDLoRAConfig(objectives=OBJECTIVES, rank=3, scaling=0.5)])
def test_gate_and_delta_weight(config, make_gpt2, randomise):
    """Gate (σ, s·λ_1 …, s·λ_m) with each λ_i p times; ΔW = c·U·diag(gate)·Vᵀ as (n_out, n_in), also for Conv1D."""
    base = make_gpt2()
    model = randomise(PreferenceModel(copy.deepcopy(base), config))
    preferences = random_simplex(4, 2)
    for name, layer in model.adapters.items():
        gate = layer.gate(preferences)
        assert gate.shape == (4, config.rank + config.preference_rank * 2)
        repeated = preferences.repeat_interleave(config.preference_rank, dim=1)
        torch.testing.assert_close(gate[:, : config.rank], layer.sigma.expand(4, -1))
        torch.testing.assert_close(gate[:, config.rank :].sort(-1).values, (layer.scale * repeated).sort(-1).values)
        delta = layer.delta_weight(preferences[0])
        n_in, n_out = base.get_submodule(name).weight.shape  # Conv1D stores the transpose
        assert delta.shape == (n_out, n_in)
        torch.testing.assert_close(delta, config.scaling * layer.U @ torch.diag(gate[0]) @ layer.V.T)


@torch.no_grad()
@pytest.mark.parametrize("scaling", [1.0, 0.25])
def test_forward_uses_w0_plus_delta(scaling, make_lm, randomise, merge_by_hand, five_preferences, token_batch):
    base = make_lm()
    config = SVDLoRAConfig(objectives=OBJECTIVES, rank=4, preference_rank=2, scaling=scaling)
    model = randomise(PreferenceModel(copy.deepcopy(base), config)).eval()
    logits = model(token_batch, preferences=five_preferences).logits
    for row, preference in enumerate(five_preferences):
        merged = merge_by_hand(base, model, preference, scaling)
        torch.testing.assert_close(merged(token_batch[row : row + 1]).logits[0], logits[row], atol=1e-4, rtol=1e-4)
    spread = (model(token_batch, preferences=five_preferences.flip(0)).logits - logits).abs().amax(dim=(1, 2))
    assert spread[0] > 0.5, "the test would be vacuous if λ had no effect"


@pytest.mark.parametrize("m", [2, 4])
def test_affine_soup_and_rank(m, make_llama, randomise):
    """Because Σλ = 1, W(λ) = Σ λ_i W(e_i); and the update's rank is at most k + p·m, and exactly k + p at a corner."""
    names = tuple("abcd"[:m])
    model = randomise(PreferenceModel(make_llama(), SVDLoRAConfig(objectives=names, rank=3, preference_rank=2)))
    model = model.double()
    for layer in model.adapters.values():
        corners = torch.stack([layer.delta_weight(corner) for corner in torch.eye(m, dtype=torch.float64)])
        for preference in random_simplex(3, m, seed=1).double():
            delta = layer.delta_weight(preference / preference.sum())
            torch.testing.assert_close(delta, torch.einsum("i,ixy->xy", preference / preference.sum(), corners))
            assert torch.linalg.matrix_rank(delta) == 3 + 2 * m
        assert torch.linalg.matrix_rank(corners[0]) == 3 + 2


@torch.no_grad()
def test_preference_per_row_equals_loop_over_rows(make_lm, randomise, five_preferences, token_batch):
    config = SVDLoRAConfig(objectives=OBJECTIVES, rank=4, preference_rank=2)
    model = randomise(PreferenceModel(make_lm(), config)).eval()
    batch = model(token_batch, preferences=five_preferences).logits
    for row in range(5):
        for preferences in (five_preferences[row], five_preferences[row : row + 1]):
            alone = model(token_batch[row : row + 1], preferences=preferences).logits[0]
            torch.testing.assert_close(batch[row], alone, atol=1e-5, rtol=1e-5)
    shared = model(token_batch, preferences=five_preferences[1]).logits
    repeated = model(token_batch, preferences=five_preferences[1].expand(5, -1)).logits
    torch.testing.assert_close(shared, repeated, atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("shape", [(5, 6), (5, 3, 6), (5, 2, 3, 6)])
def test_any_number_of_axes_between_rows_and_features(shape, make_mlp, randomise, merge_by_hand, five_preferences):
    base = make_mlp()
    model = randomise(PreferenceModel(copy.deepcopy(base), SVDLoRAConfig(objectives=OBJECTIVES, rank=2)))
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    output = model(x, preferences=five_preferences)
    for row, preference in enumerate(five_preferences):
        torch.testing.assert_close(output[row], merge_by_hand(base, model, preference)(x[row]), atol=1e-5, rtol=1e-5)


def test_gradients_per_row_add_up(make_mlp, randomise, five_preferences):
    """The gradient of a batch with a λ per row is the sum of the rows' gradients."""
    model = randomise(PreferenceModel(make_mlp(), SVDLoRAConfig(objectives=OBJECTIVES, rank=2))).double()
    x = torch.randn(5, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    parameters = [p for p in model.parameters() if p.requires_grad]
    totals = torch.autograd.grad(model(x, preferences=five_preferences.double()).square().sum(), parameters)
    rows = [
        torch.autograd.grad(model(x[i : i + 1], preferences=five_preferences[i].double()).square().sum(), parameters)
        for i in range(5)
    ]
    for total, *parts in zip(totals, *rows, strict=True):
        assert total.abs().max() > 0
        torch.testing.assert_close(total, sum(parts))


def test_a_bfloat16_base_stays_bfloat16(make_llama, randomise, five_preferences, token_batch):
    base = make_llama().to(torch.bfloat16)
    model = randomise(PreferenceModel(base, SVDLoRAConfig(objectives=OBJECTIVES, rank=4)), std=0.02)
    logits = model(token_batch, preferences=five_preferences).logits
    assert logits.dtype == torch.bfloat16
    assert torch.isfinite(logits).all()
    logits.float().square().mean().backward()
    assert all(torch.isfinite(layer.U.grad).all() and layer.U.grad.abs().max() > 0 for layer in model.adapters.values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objectives": ()}, r"objectives are \(\): give at least one name"),
        ({"objectives": ("a", "a")}, "each once"),
        ({"objectives": "ab"}, "objectives is the single text 'ab': give a list"),
        ({"target_modules": "q_proj"}, "target_modules is the single text 'q_proj'"),
        ({"rank": -1}, "rank is -1 and preference_rank 4: they must be at least 0 and 1"),
        ({"preference_rank": 0}, "rank is 8 and preference_rank 0"),
        ({"gate": "no-such-gate"}, "gate is 'no-such-gate': choose 'linear' or 'shared-mlp' or 'layer-mlp'"),
        (
            {"initialization": "no-such-start"},
            "initialization is 'no-such-start': choose 'zero-output' or 'zero-input' or 'paper'",
        ),
        ({"scaling": float("nan")}, "scaling is nan: it must be positive and finite"),
        ({"scaling": float("inf")}, "scaling is inf"),
        ({"scaling": 0.0}, r"scaling is 0\.0"),
        ({"scaling": -0.5}, r"scaling is -0\.5"),
    ],
)
def test_invalid_configurations_raise(options, message):
    with pytest.raises(ValueError, match=message):
        SVDLoRAConfig(**({"objectives": OBJECTIVES} | options))


def test_seeds(make_llama):
    def first_v(seed: int) -> torch.Tensor:
        model = PreferenceModel(make_llama(), SVDLoRAConfig(objectives=OBJECTIVES, seed=seed))
        return torch.cat([layer.V.detach().flatten() for layer in model.adapters.values()])

    torch.manual_seed(0)
    first = first_v(3)
    torch.manual_seed(1)
    assert torch.equal(first_v(3), first)
    assert not torch.equal(first_v(4), first)
    layers = list(PreferenceModel(make_llama(), SVDLoRAConfig(objectives=OBJECTIVES)).adapters.values())
    assert not torch.equal(layers[0].V, layers[3].V), "each matrix has its own start"


def test_a_plain_linear_bias_is_kept(make_mlp, randomise):
    """Frozen bias: the output at x = 0 does not depend on λ in a single linear layer."""
    torch.manual_seed(0)
    model = randomise(PreferenceModel(nn.Sequential(nn.Linear(4, 3)), SVDLoRAConfig(objectives=OBJECTIVES, rank=1)))
    output = model(torch.zeros(2, 4), preferences=torch.eye(2))
    torch.testing.assert_close(output[0], output[1], atol=0, rtol=0)
    assert output.abs().max() > 0


def test_the_configuration_is_immutable_and_tells_its_options():
    config = SVDLoRAConfig(objectives=["a", "b"], target_modules=["q_proj"], layers=[-1])
    assert (config.objectives, config.target_modules, config.layers) == (("a", "b"), ("q_proj",), (-1,))
    assert config == eval(repr(config))
    with pytest.raises(FrozenInstanceError, match="cannot assign"):
        config.rank = 2


def test_a_layer_tells_its_options(make_mlp):
    config = SVDLoRAConfig(objectives=OBJECTIVES, rank=3, preference_rank=2, scaling=0.5)
    layer = PreferenceModel(make_mlp(), config).adapters["0"]
    assert "n_in=6, n_out=16, rank=3+2·m, scaling=0.5" in repr(layer)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        *(({"rank": value}, "rank is .*: give a whole number") for value in ("8", 2.5, 8.0, True, None, math.inf)),
        ({"preference_rank": "4"}, "preference_rank is '4'"),
        ({"scaling": "1"}, "scaling is '1'"),
        ({"scaling": None}, "scaling is None"),
        ({"layers": 0}, "layers is 0, of type int: give a list of whole numbers"),
        ({"layers": [0, "1"]}, r"layers\[1\] is '1', of type str: give a whole number"),
        ({"layers": [0.5]}, r"layers\[0\] is 0\.5"),
        ({"target_modules": 3}, "target_modules is 3, of type int: give a list of texts"),
        ({"target_modules": [1]}, r"target_modules\[0\] is 1"),
        ({"seed": "x"}, "seed is 'x'"),
        ({"objectives": (1, 2)}, r"objectives\[0\] is 1, of type int: give a text"),
        ({"objectives": [["a"], ["b"]]}, r"objectives\[0\] is \['a'\]"),
        ({"objectives": None}, "objectives is None"),
        ({"objectives": 2}, "objectives is 2"),
    ],
)
def test_settings_of_another_type_are_named(options, message):
    with pytest.raises(TypeError, match=message):
        SVDLoRAConfig(**({"objectives": OBJECTIVES} | options))


@pytest.mark.parametrize("name", ["", "..", "../b", "/b", "b/..", "..\\b", "a//b"])
def test_names_that_lead_elsewhere_are_refused(name):
    with pytest.raises(ValueError, match=r"objectives hold .*, which cannot name a folder of its own"):
        SVDLoRAConfig(objectives=("a", name))


def test_settings_at_the_ends_of_their_ranges_are_taken(make_mlp, randomise, merge_by_hand, five_preferences):
    """No shared direction, and one of each preference; the paper's with one shared direction."""
    config = SVDLoRAConfig(OBJECTIVES, rank=0, preference_rank=1, scaling=1e-3)
    assert (config.total_rank, config.scaling) == (2, 1e-3)
    base = make_mlp()
    model = randomise(PreferenceModel(copy.deepcopy(base), config))
    x = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))
    output = model(x, preferences=five_preferences)
    for row, preference in enumerate(five_preferences):
        torch.testing.assert_close(output[row], merge_by_hand(base, model, preference, 1e-3)(x[row]))
    assert SVDLoRAConfig.paper(OBJECTIVES, rank=1).scaling == 512


def test_the_defaults_stay():
    """Adapters of settings that leave them out depend on them."""
    expected = SVDLoRAConfig(
        OBJECTIVES, rank=8, preference_rank=4, scaling=1.0, initialization="zero-output", target_modules=None,
        layers=None, seed=0,
    )  # fmt: skip
    assert SVDLoRAConfig(OBJECTIVES) == expected
    assert SVDLoRAConfig.paper(OBJECTIVES).rank == 8


def test_names_read_from_a_file_are_the_same_names(make_mlp):
    """Texts that are equal, and not the program's own."""
    settings = json.loads('{"initialization": "paper", "target_modules": "all-linear"}')
    config = SVDLoRAConfig(OBJECTIVES, **settings)
    assert config.target_modules == "all-linear"
    layers = PreferenceModel(make_mlp(), config).adapters.values()
    assert layers
    assert all((layer.scale == 0).all() and layer.U.any() for layer in layers)


@pytest.mark.parametrize("changed", [("U",), ("U", "sigma"), ("U", "scale"), ("sigma", "scale")])
def test_a_layer_changes_something_where_a_direction_and_a_factor_are_not_0(changed, make_mlp):
    layer = PreferenceModel(make_mlp(), SVDLoRAConfig(OBJECTIVES, rank=2)).adapters["0"]
    with torch.no_grad():
        for name in ("U", "sigma", "scale"):
            getattr(layer, name).fill_(0.5 if name in changed else 0.0)
    changes = any(layer.delta_weight(corner).any() for corner in torch.eye(2))
    assert layer.changes_something is bool(changes)
    assert changes == ("U" in changed and len(changed) == 2)


@pytest.mark.parametrize(
    ("generating", "gradients", "computed", "kept"), [(True, False, 1, 1), (True, True, 2, 0), (False, False, 2, 0)]
)
def test_a_gate_is_kept_while_generating_without_gradients(
    generating, gradients, computed, kept, make_mlp, randomise, monkeypatch
):
    layer = randomise(PreferenceModel(make_mlp(), SVDLoRAConfig(OBJECTIVES, rank=2))).adapters["0"]
    layer.state.set(PreferenceRecord(torch.tensor([[0.25, 0.75]])))
    gate, calls = layer.gate, []
    monkeypatch.setattr(layer, "gate", lambda preferences: calls.append(1) or gate(preferences))
    x = torch.randn(3, 6, generator=torch.Generator().manual_seed(0))
    with layer.state.generation() if generating else nullcontext(), torch.set_grad_enabled(gradients):
        first, again = layer(x), layer(x)
        assert (len(calls), len(layer.state.gates)) == (computed, kept)
    assert torch.equal(first, again)
    assert not layer.state.gates


def test_settings_are_kept_as_pythons_own():
    config = SVDLoRAConfig(
        OBJECTIVES, rank=np.int64(4), scaling=torch.tensor(2), layers=np.array([0, -1]), seed=np.int8(3)
    )
    assert (type(config.rank), type(config.scaling), type(config.seed)) == (int, float, int)
    assert config.layers == (0, -1)
    assert {type(layer) for layer in config.layers} == {int}


def test_the_papers_preset_divides_by_a_rank():
    assert SVDLoRAConfig.paper(OBJECTIVES, rank=np.int64(16)).scaling == 32.0
    with pytest.raises(TypeError, match="rank is '8', of type str"):
        SVDLoRAConfig.paper(OBJECTIVES, rank="8")
    with pytest.raises(ValueError, match="rank is 0: the paper's scaling is 512/k"):
        SVDLoRAConfig.paper(OBJECTIVES, rank=0)
    with pytest.raises(ValueError, match="objectives is the single text 'ab'"):
        SVDLoRAConfig.paper("ab")


@pytest.mark.parametrize(
    ("sizes", "rank", "limit"),
    [
        ([(2, 4)], 1016, 1024),
        ([(4096, 4096)], 4088, 4096),
        ([(4096, 4096), (8, 4096)], 2000, 2734),
        ([(4096, 14336)] * 3, 4096, 6371),
        ([], 1016, 1024),
    ],
)
def test_ranks_are_bounded_by_the_layers(sizes, rank, limit):
    """The bound is that of an independent count: adapters of twice the layers' numbers, and any rank up to 1024."""
    check_ranks(SVDLoRAConfig(("a", "b"), rank=rank), sizes)
    check_ranks(SVDLoRAConfig(("a", "b"), rank=limit - 8), sizes)
    with pytest.raises(ValueError, match=rf"make {limit + 1} directions, and these layers have a use for {limit} at m"):
        check_ranks(SVDLoRAConfig(("a", "b"), rank=limit - 7), sizes)


@pytest.mark.parametrize("settings", [{"rank": 10**12}, {"preference_rank": 10**12}])
def test_a_rank_that_is_a_slip_is_refused_before_memory_is_taken(settings):
    base = nn.Sequential(nn.Linear(4, 3))
    with pytest.raises(ValueError, match="directions, and these layers have a use for 1024 at most: lower them"):
        PreferenceModel(base, SVDLoRAConfig(("a", "b"), **settings))
    assert type(base[0]) is nn.Linear
    assert all(parameter.requires_grad for parameter in base.parameters())


@pytest.mark.parametrize("name", ["a\x1b[2J", "a\nb", "\u202eab", "\x00"])
def test_a_name_with_control_characters_is_refused(name):
    with pytest.raises(ValueError, match=r"^objectives hold '.*', which has control characters in it: choose") as error:
        SVDLoRAConfig(("helpful", name))
    assert str(error.value).isprintable()

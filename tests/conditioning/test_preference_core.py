"""Full cores: ΔW is the dense formula, and what is trained, saved, merged, exported and served is what is in force."""

import copy
import json

import numpy as np
import pytest
import torch
from served_loras import check_served_lora
from torch import nn

from mopref import ParetoTrainer, PreferenceModel, SVDLoRAConfig, TrainerConfig
from mopref.conditioning.preference_core import core_matrix, core_start, through_cores
from mopref.conditioning.preference_state import PreferenceRecord
from mopref.conditioning.svd_lora import check_ranks
from mopref.objectives import DPO
from mopref.scalarizers import Linear

NAMES = ("a", "b")
PREFERENCES = ([1.0, 0.0], [0.0, 1.0], [0.3, 0.7])


def config(names=NAMES, **options):
    return SVDLoRAConfig(names, **{"rank": 3, "preference_rank": 2, "core": "full", **options})


def random_cores(model, seed=0):
    """Adapters of a trained model: nothing is 0 or 1 any more."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in model.adapters.values():
            for part in layer.parts.values():
                part.copy_(0.4 * torch.randn(part.shape, generator=generator))
    return model


def dense(layer, preference):
    """c · (U_1 C_0 V_1ᵀ + U_2 (Σ_i λ_i C_i) V_2ᵀ), by numpy in double precision."""
    u, v, shared, cores = (layer.parts[name].detach().double().numpy() for name in layer.parts)
    k = len(shared)
    own = sum(weight * core for weight, core in zip(preference, cores, strict=True))
    return layer.config.scaling * (u[:, :k] @ shared @ v[:, :k].T + u[:, k:] @ own @ v[:, k:].T)


@pytest.fixture
def base(make_llama):
    return make_llama(num_hidden_layers=1)


@pytest.fixture
def model(base):
    return random_cores(PreferenceModel(copy.deepcopy(base), config(scaling=1.5))).eval()


@pytest.mark.parametrize("names", [("a",), NAMES, ("a", "b", "c")])
@pytest.mark.parametrize("rank", [0, 3])
@torch.no_grad()
def test_the_change_of_weight_is_the_dense_formula(names, rank, make_mlp):
    model = random_cores(PreferenceModel(make_mlp(), config(names, rank=rank, scaling=0.7)))
    total = rank + 2 * len(names)
    for preference in np.random.default_rng(0).dirichlet(np.ones(len(names)), 4):
        λ = torch.tensor(preference, dtype=torch.float32)
        for layer in model.adapters.values():
            parts = {name: tuple(part.shape) for name, part in layer.parts.items()}
            assert parts == {
                "U": (layer.n_out, total),
                "V": (layer.n_in, total),
                "shared_core": (rank, rank),
                "preference_cores": (len(names), 2 * len(names), 2 * len(names)),
            }
            expected = dense(layer, preference)
            np.testing.assert_allclose(layer.delta_weight(λ).numpy(), expected, atol=1e-5)
            x = torch.randn(5, layer.n_in, generator=torch.Generator().manual_seed(1))
            layer.state.set(PreferenceRecord(λ.view(1, -1)))
            added = (layer(x) - layer.base_layer(x)).numpy()
            np.testing.assert_allclose(added, x.double().numpy() @ expected.T, atol=1e-4)


@torch.no_grad()
def test_a_number_by_hand():
    """k = 1, p = 1, m = 2: z = (2, 1, 3), C_0 = (5), C_1 and C_2 by their entries, λ = (¼, ¾)."""
    cores = torch.tensor([[[1.0, 2.0], [3.0, 4.0]], [[0.0, 1.0], [-1.0, 2.0]]])
    # C(λ) = ¼ C_1 + ¾ C_2 = (¼, 1¼; 0, 2½), which takes (1, 3) to (4, 7½).
    found = through_cores(torch.tensor([2.0, 1.0, 3.0]), torch.tensor([1.0, 0.25, 0.75]), torch.tensor([[5.0]]), cores)
    assert found.tolist() == [10.0, 4.0, 7.5]


def test_cores_reach_what_no_diagonal_one_does(model):
    """All directions of an objective mix: the change's rank at a corner is k + p·m, and k + p with singular values."""
    layer = next(iter(model.adapters.values()))
    assert torch.linalg.matrix_rank(layer.delta_weight(torch.tensor([1.0, 0.0]))) == 7


@pytest.mark.parametrize("initialization", ["zero-output", "zero-input", "paper"])
def test_the_start_is_the_diagonal_ones(initialization, base, five_preferences, token_batch):
    """The same factors and the base's outputs; the first gradients of factors, too."""
    options = {"initialization": initialization, "scaling": 2.0}
    plain, full = (PreferenceModel(copy.deepcopy(base), config(core=core, **options)) for core in ("diagonal", "full"))
    for one, other in zip(plain.adapters.values(), full.adapters.values(), strict=True):
        assert torch.equal(one.U, other.U)
        assert torch.equal(one.V, other.V)
        for preference in five_preferences:
            matrix = torch.diag(one.gate(preference.view(1, -1))[0])
            assert torch.equal(core_matrix(other.shared_core, other.preference_cores, preference), matrix)
    for model in (plain, full):
        output = model(token_batch, preferences=five_preferences).logits
        assert torch.equal(output, base(token_batch).logits)
        output.square().mean().backward()
    for one, other in zip(plain.adapters.values(), full.adapters.values(), strict=True):
        torch.testing.assert_close(other.U.grad, one.U.grad)
        torch.testing.assert_close(other.V.grad, one.V.grad)
        assert not other.changes_something


def test_the_start_of_pblora(base, five_preferences, token_batch):
    """ΔW = 0; the rest uniform in ±1/√n_in, ±1/√k and ±1/(p·m), other numbers for each layer and objective."""
    model = PreferenceModel(copy.deepcopy(base), config(initialization="pblora", rank=16, preference_rank=8))
    assert torch.equal(model(token_batch, preferences=five_preferences).logits, base(token_batch).logits)
    for layer in model.adapters.values():
        assert not layer.U.any()
        for part, bound in ((layer.V, layer.n_in**-0.5), (layer.shared_core, 0.25), (layer.preference_cores, 1 / 16)):
            assert 0.9 * bound < part.abs().max() <= bound
            assert part.std().item() == pytest.approx(bound / 3**0.5, rel=0.15)
        assert not torch.equal(*layer.preference_cores)
    first, second, *_ = model.adapters.values()
    assert not torch.equal(first.shared_core, second.shared_core)


def test_gradients_are_those_of_differences():
    """In double precision, of x, of U and V and of the cores, for rows of several preferences."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()

    weights = torch.tensor([[1.0, 0.2, 0.8], [1.0, 1.0, 0.0]], dtype=torch.float64).view(2, 1, 3)

    def adapted(x, u, v, shared, cores):
        return through_cores(x @ v, weights, shared, cores) @ u.T

    inputs = (random(2, 3, 4), random(5, 4), random(4, 4), random(2, 2), random(2, 2, 2))
    assert torch.autograd.gradcheck(adapted, inputs)


def test_a_layers_gradients_are_those_of_differences(make_mlp):
    net = random_cores(PreferenceModel(make_mlp().double(), config())).double()
    x = torch.randn(3, 6, generator=torch.Generator().manual_seed(0)).double()
    parts = [part for layer in net.adapters.values() for part in layer.parts.values()]

    def output(*_):
        return net(x, preferences=torch.tensor(PREFERENCES).double())

    assert torch.autograd.gradcheck(output, parts)


@torch.no_grad()
def test_rows_equal_a_loop_over_rows(model, five_preferences, token_batch):
    together = model(token_batch, preferences=five_preferences).logits
    for row, preference in enumerate(five_preferences):
        alone = model(token_batch[row : row + 1], preferences=preference).logits[0]
        torch.testing.assert_close(together[row], alone, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_tokens_of_one_row_have_their_own_preferences(make_lm, token_batch):
    """Of an adapted output head, whose logits of a token depend on that token's preference alone."""
    model = random_cores(PreferenceModel(make_lm(), config(target_modules=("lm_head",)))).eval()
    indices = torch.arange(token_batch.numel()).view(token_batch.shape) % 3
    mixed = model(token_batch, preferences=PREFERENCES, preference_indices=indices).logits
    for place, preference in enumerate(PREFERENCES):
        alone = model(token_batch, preferences=preference).logits
        torch.testing.assert_close(mixed[indices == place], alone[indices == place], atol=1e-4, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("strength", [0.0, 2.0])
def test_a_rows_strength_scales_the_whole_change(strength, make_mlp):
    model = random_cores(PreferenceModel(nn.Sequential(nn.Linear(4, 3)), config()))
    layer, x = model.adapters["0"], torch.randn(2, 4, generator=torch.Generator().manual_seed(0))
    with model.decoding(PREFERENCES[:2], 2, [1.0, strength]) as decoded:
        found = decoded(x) - layer.base_layer(x)
    for row, factor in enumerate((1.0, strength)):
        expected = factor * torch.from_numpy(dense(layer, PREFERENCES[row])).float() @ x[row]
        torch.testing.assert_close(found[row], expected, atol=1e-5, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("preference", [[0.3, 0.7], [1.0, 0.0]])
def test_merged_and_exported_are_the_forward(preference, base, model, token_batch, tmp_path):
    peft = pytest.importorskip("peft")
    expected = model(token_batch, preferences=preference).logits
    assert (expected - base(token_batch).logits).abs().max() > 0.1, "the adapter matters"
    torch.testing.assert_close(model.merge(preference)(token_batch).logits, expected, atol=1e-4, rtol=1e-4)
    model.export_lora(tmp_path / "lora", preference)
    plain = peft.PeftModel.from_pretrained(copy.deepcopy(base), tmp_path / "lora")
    torch.testing.assert_close(plain(token_batch).logits, expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_a_set_of_loras_scaled_by_a_preference_is_the_change(model, tmp_path):
    """Σ_i λ_i C_i is a sum, so that a server that scales LoRAs serves every λ: each has rank p·m here."""
    from safetensors.torch import load_file

    model.export_lora_set(tmp_path)
    loras = {name: load_file(tmp_path / name / "adapter_model.safetensors") for name in ("shared", *NAMES)}
    ranks = {name: json.loads((tmp_path / name / "adapter_config.json").read_text())["r"] for name in loras}
    assert ranks == {"shared": 3, "a": 4, "b": 4}
    for preference in PREFERENCES:
        scales = {"shared": 1.0, **dict(zip(NAMES, preference, strict=True))}
        for name, layer in model.adapters.items():
            place = f"base_model.model.{name}.lora_"
            found = sum(
                scales[own] * lora[f"{place}B.weight"] @ lora[f"{place}A.weight"] for own, lora in loras.items()
            )
            np.testing.assert_allclose(found.numpy(), dense(layer, preference), atol=1e-4)


def test_a_lora_of_the_serving_cache_is_the_export(model, tmp_path):
    check_served_lora(model, tmp_path)


@torch.no_grad()
def test_round_trip(base, model, five_preferences, token_batch, tmp_path):
    model.save_pretrained(tmp_path / "adapter")
    assert json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())["format_version"] == 5
    loaded = PreferenceModel.load(copy.deepcopy(base), tmp_path / "adapter").eval()
    assert loaded.adapter_config == model.adapter_config
    expected = model(token_batch, preferences=five_preferences).logits
    assert torch.equal(loaded(token_batch, preferences=five_preferences).logits, expected)
    random_cores(model, seed=1)
    assert not torch.equal(model(token_batch, preferences=five_preferences).logits, expected)
    model.restore(tmp_path / "adapter")
    assert torch.equal(model(token_batch, preferences=five_preferences).logits, expected)


def test_the_other_core_is_not_restored(base, model, tmp_path):
    PreferenceModel(copy.deepcopy(base), config(core="diagonal", scaling=1.5)).save_pretrained(tmp_path / "adapter")
    assert json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())["format_version"] == 3
    with pytest.raises(ValueError, match="other settings"):
        model.restore(tmp_path / "adapter")


def test_a_full_core_in_a_format_that_had_none_is_refused(model):
    from mopref.conditioning.adapter_description import checked_settings

    description = {
        **{name: getattr(model.adapter_config, name) for name in SVDLoRAConfig.__dataclass_fields__},
        "objectives": list(NAMES),
        "adapted_modules": {"0": [4, 4]},
        "base_check": {},
    }
    assert checked_settings({**description, "format_version": 5}).config.core == "full"
    with pytest.raises(ValueError, match="core is 'full', which its format version has not"):
        checked_settings({**description, "format_version": 4})


def test_training_moves_the_cores(base, make_pairs):
    model = PreferenceModel(copy.deepcopy(base), config())
    start = {name: part.detach().clone() for name, part in model.named_parameters() if part.requires_grad}
    settings = TrainerConfig(steps=3, batch_size=4, learning_rate=1e-2, log_every=1, progress=False, seed=3)
    rows = make_pairs([[0, 1], [1, 0], [0, 0], [1, 1]])
    ParetoTrainer(model, DPO(NAMES), Linear(), train_data=rows, config=settings).train()
    moved = {
        name.rpartition(".")[2]
        for name, part in model.named_parameters()
        if not torch.equal(part, start.get(name, part))
    }
    assert moved == {"U", "V", "shared_core", "preference_cores"}
    assert model.trained_base_parameters == []
    count = sum(part.numel() for part in model.parameters() if part.requires_grad)
    # (n_out + n_in)(k + p·m) + k² + m (p·m)² a layer.
    assert count == sum((own.n_out + own.n_in) * 7 + 9 + 2 * 16 for own in model.adapters.values())


@torch.no_grad()
def test_generation_is_the_forwards(model, five_preferences, token_batch):
    answer = model.generate(token_batch[:2, :3], preferences=five_preferences[:2], max_new_tokens=3, do_sample=False)
    logits = model(answer[:, :-1], preferences=five_preferences[:2]).logits[:, 2:]
    assert torch.equal(logits.argmax(-1), answer[:, 3:])


def test_cores_stay_in_single_precision(model):
    """In half their steps would be lost."""
    model.to(torch.bfloat16)
    assert {part.dtype for layer in model.adapters.values() for part in layer.parts.values()} == {torch.float32}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"core": "half"}, "core is 'half': choose 'diagonal' or 'full'"),
        ({"gate": "layer-mlp"}, "gate is 'layer-mlp', and a full core has no singular values"),
        ({"core": "diagonal", "initialization": "pblora"}, "initialization is 'pblora', the start of full cores"),
    ],
)
def test_what_does_not_go_together_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        config(**options)


def test_cores_that_would_fill_the_memory_are_refused():
    names = tuple(map(str, range(1000)))
    check_ranks(config(names, rank=1, preference_rank=1, core="diagonal"), [(512, 512)])
    with pytest.raises(ValueError, match="full cores of 1000000001 numbers in each layer"):
        check_ranks(config(names, rank=1, preference_rank=1), [(512, 512)])


def test_each_core_begins_with_its_own_directions():
    shared, cores = core_start(2, 1, 2, 3.0, torch.Generator())
    assert shared.tolist() == [[3.0]]
    assert torch.equal(cores[0], torch.diag(torch.tensor([3.0, 3.0, 0.0, 0.0])))
    assert torch.equal(cores[1], torch.diag(torch.tensor([0.0, 0.0, 3.0, 3.0])))

"""Gates beyond a straight line: they begin as the linear one, are saved, merged and exported as they are in force."""

import copy
import json

import pytest
import torch
from served_loras import check_served_lora
from torch import nn

from mopref import ParetoTrainer, PreferenceModel, SVDLoRAConfig, TrainerConfig
from mopref.conditioning.preference_gate import gate_change, saved_gate_change
from mopref.objectives import DPO
from mopref.scalarizers import Linear

NAMES = ("a", "b")
CURVED = ("shared-mlp", "layer-mlp")


def config(gate, **options):
    return SVDLoRAConfig(NAMES, rank=3, preference_rank=2, gate=gate, **options)


def random_gates(model, seed=0):
    """Gates of a trained model: D is not 0 any more."""
    generator = torch.Generator().manual_seed(seed)
    gates = {id(layer.curved_gate): layer.curved_gate for layer in model.adapters.values()}.values()
    with torch.no_grad():
        for gate in gates:
            gate.mixture.copy_(0.5 * torch.randn(gate.mixture.shape, generator=generator))
    return model


@pytest.fixture(params=CURVED)
def gate(request):
    return request.param


@pytest.fixture
def base(make_llama):
    return make_llama(num_hidden_layers=1)


@pytest.fixture
def model(gate, base, randomise):
    return random_gates(randomise(PreferenceModel(copy.deepcopy(base), config(gate)))).eval()


def steps(base, gate, make_pairs, steps, precision=None):
    """A model after so many steps, and the losses on the way."""
    model = PreferenceModel(copy.deepcopy(base), config(gate))
    dpo, rows = DPO(NAMES), make_pairs([[0, 1], [1, 0], [0, 0], [1, 1]])
    settings = TrainerConfig(steps=steps, batch_size=4, learning_rate=1e-2, log_every=1, progress=False, seed=3)
    trainer = ParetoTrainer(model, dpo, Linear(), train_data=rows, config=settings)
    trainer.train()
    return model, [entry["loss"] for entry in trainer.history]


def test_the_first_step_is_the_linear_gates_bit_for_bit(gate, base, make_pairs, five_preferences, token_batch):
    """The same factors, outputs and random numbers; the gradients of factors, too."""
    linear, curved = (PreferenceModel(copy.deepcopy(base), config(kind)) for kind in ("linear", gate))
    for name, layer in linear.adapters.items():
        for part, value in layer.parts.items():
            assert torch.equal(curved.adapters[name].parts[part], value)
        assert torch.equal(curved.adapters[name].gate(five_preferences), layer.gate(five_preferences))
    outputs = [model(token_batch, preferences=five_preferences).logits for model in (linear, curved)]
    assert torch.equal(*outputs)
    for output in outputs:
        output.square().mean().backward()
    for name, layer in linear.adapters.items():
        assert torch.equal(curved.adapters[name].U.grad, layer.U.grad)
    after_one = [steps(base, kind, make_pairs, 1) for kind in ("linear", gate)]
    assert after_one[0][1] == after_one[1][1]
    for name, layer in after_one[0][0].adapters.items():
        assert torch.equal(after_one[1][0].adapters[name].U, layer.U)


def test_later_steps_train_the_gate_and_part_ways(gate, base, make_pairs):
    (_, plain), (model, curved) = (steps(base, kind, make_pairs, 6) for kind in ("linear", gate))
    assert plain[0] == curved[0]
    assert plain[-1] != curved[-1]
    gates = {id(layer.curved_gate): layer.curved_gate for layer in model.adapters.values()}
    assert len(gates) == (1 if gate == "shared-mlp" else len(model.adapters))
    assert all(own.mixture.any() for own in gates.values())


def test_parameters_are_counted_once_and_none_is_the_bases(gate, base):
    linear, curved = (PreferenceModel(copy.deepcopy(base), config(kind)) for kind in ("linear", gate))
    count = [sum(p.numel() for p in model.parameters() if p.requires_grad) for model in (linear, curved)]
    # D (7 × 32), A (32 × 2), b (32).
    gates = 1 if gate == "shared-mlp" else len(curved.adapters)
    assert count[1] - count[0] == gates * (7 * 32 + 32 * 2 + 32)
    assert curved.trained_base_parameters == []
    names = [name for name, _ in curved.named_parameters() if "shared_gate" in name or "own_gate" in name]
    assert len(names) == 3 * gates


def test_the_formula_by_hand(gate, model):
    """g(λ) = (σ, s·λ_1, s·λ_1, s·λ_2, s·λ_2) + D tanh(A (2λ − 1) + b), number by number."""
    layer = next(iter(model.adapters.values()))
    own, preference = layer.curved_gate, [0.2, 0.8]
    x = [2 * weight - 1 for weight in preference]
    hidden = [torch.tanh(sum(own.weight[h, i] * x[i] for i in range(2)) + own.bias[h]) for h in range(len(own.bias))]
    affine = [*layer.sigma, *(layer.scale[0] * preference[i] for i in (0, 0, 1, 1))]
    expected = [
        value + sum(own.mixture[j, h] * hidden[h] for h in range(len(hidden))) for j, value in enumerate(affine)
    ]
    found = layer.gate(torch.tensor([preference]))[0]
    torch.testing.assert_close(found, torch.stack(expected), atol=1e-5, rtol=1e-5)


def test_weights_are_no_mixture_of_the_corners(model):
    """What a linear gate cannot be: W(½, ½) is not the mean of W(e_1) and W(e_2)."""
    layer = next(iter(model.adapters.values()))
    corners = (layer.delta_weight(torch.tensor(corner)) for corner in ([1.0, 0.0], [0.0, 1.0]))
    middle = layer.delta_weight(torch.tensor([0.5, 0.5]))
    assert (middle - sum(corners) / 2).abs().max() > 0.05 * middle.abs().max()


def test_gradients_are_those_of_differences(gate, make_mlp, randomise):
    """In double precision, of every tensor of the gate."""
    net = random_gates(randomise(PreferenceModel(make_mlp().double(), config(gate))))
    x, preferences = torch.randn(3, 6).double(), torch.tensor([[0.2, 0.8], [1.0, 0.0], [0.5, 0.5]]).double()
    own = next(iter(net.adapters.values())).curved_gate
    net(x, preferences=preferences).square().sum().backward()
    for parameter in own.parameters():
        place = tuple(0 for _ in parameter.shape)
        values = []
        for step in (1e-5, -1e-5):
            with torch.no_grad():
                parameter[place] += step
                values.append(net(x, preferences=preferences).square().sum().item())
                parameter[place] -= step
        assert parameter.grad[place].item() == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-4)


def test_rows_equal_a_loop_over_rows(model, five_preferences, token_batch):
    with torch.no_grad():
        together = model(token_batch, preferences=five_preferences).logits
        for row, preference in enumerate(five_preferences):
            alone = model(token_batch[row : row + 1], preferences=preference).logits[0]
            torch.testing.assert_close(together[row], alone, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("preference", [[0.3, 0.7], [1.0, 0.0]])
def test_merged_exported_and_served_are_the_forward(preference, base, model, token_batch, tmp_path):
    peft = pytest.importorskip("peft")
    with torch.no_grad():
        expected = model(token_batch, preferences=preference).logits
        assert (expected - base(token_batch).logits).abs().max() > 0.1, "the adapter matters"
        torch.testing.assert_close(model.merge(preference)(token_batch).logits, expected, atol=1e-4, rtol=1e-4)
        model.export_lora(tmp_path / "lora", preference)
        plain = peft.PeftModel.from_pretrained(copy.deepcopy(base), tmp_path / "lora")
        torch.testing.assert_close(plain(token_batch).logits, expected, atol=1e-4, rtol=1e-4)


def test_a_lora_of_the_serving_cache_is_the_export(model, tmp_path):
    check_served_lora(model, tmp_path)


def test_round_trip(gate, base, model, five_preferences, token_batch, tmp_path):
    model.save_pretrained(tmp_path / "adapter")
    loaded = PreferenceModel.load(copy.deepcopy(base), tmp_path / "adapter").eval()
    assert loaded.adapter_config == model.adapter_config
    with torch.no_grad():
        expected = model(token_batch, preferences=five_preferences).logits
        assert torch.equal(loaded(token_batch, preferences=five_preferences).logits, expected)
        random_gates(model, seed=1)
        assert not torch.equal(model(token_batch, preferences=five_preferences).logits, expected)
        model.restore(tmp_path / "adapter")
        assert torch.equal(model(token_batch, preferences=five_preferences).logits, expected)


def test_an_earlier_release_is_told_and_reads_what_it_can(gate, base, model, tmp_path):
    """A linear adapter keeps the version that earlier releases read; another has a newer one, which they refuse."""
    model.save_pretrained(tmp_path / "curved")
    PreferenceModel(copy.deepcopy(base), config("linear")).save_pretrained(tmp_path / "linear")
    versions = [
        json.loads((tmp_path / name / "adapter_config.json").read_text())["format_version"]
        for name in ("curved", "linear")
    ]
    assert versions == [4, 3]


def test_an_adapter_without_the_field_is_linear(base, tmp_path, monkeypatch):
    from mopref.conditioning import adapter_files

    asdict = adapter_files.asdict
    monkeypatch.setattr(adapter_files, "asdict", lambda value: {k: v for k, v in asdict(value).items() if k != "gate"})
    PreferenceModel(copy.deepcopy(base), config("linear")).save_pretrained(tmp_path / "adapter")
    assert "gate" not in json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    loaded = PreferenceModel.load(copy.deepcopy(base), tmp_path / "adapter")
    assert loaded.adapter_config.gate == "linear"


def test_another_gate_is_not_restored(gate, base, model, tmp_path):
    PreferenceModel(copy.deepcopy(base), config("linear")).save_pretrained(tmp_path / "adapter")
    with pytest.raises(ValueError, match="other settings"):
        model.restore(tmp_path / "adapter")


def test_a_set_of_loras_of_a_gate_of_each_layer_is_refused_by_name(base, tmp_path):
    model = PreferenceModel(base, config("layer-mlp"))
    with pytest.raises(ValueError, match=r"gate is 'layer-mlp'.*no scale says for all layers.*export at one λ"):
        model.export_lora_set(tmp_path / "set")
    assert not (tmp_path / "set").exists()


def test_a_gate_follows_its_model(gate, model, five_preferences, token_batch):
    """Into a copy, which shares nothing; and not to half precision, where its steps would be lost."""
    twin = copy.deepcopy(model)
    with torch.no_grad():
        expected = model(token_batch, preferences=five_preferences).logits
        random_gates(twin, seed=1)
        assert torch.equal(model(token_batch, preferences=five_preferences).logits, expected)
        assert not torch.equal(twin(token_batch, preferences=five_preferences).logits, expected)
    twin.to(torch.bfloat16)
    assert all(layer.curved_gate.mixture.dtype == torch.float32 for layer in twin.adapters.values())
    twin.double()
    assert all(layer.curved_gate.mixture.dtype == torch.float64 for layer in twin.adapters.values())
    assert (twin.shared_gate is next(iter(twin.adapters.values())).curved_gate) if gate == "shared-mlp" else True


def test_generation_keeps_a_curved_gate(model, five_preferences, token_batch):
    with torch.no_grad():
        answer = model.generate(
            token_batch[:2, :3], preferences=five_preferences[:2], max_new_tokens=3, do_sample=False
        )
        logits = model(answer[:, :-1], preferences=five_preferences[:2]).logits[:, 2:]
    assert torch.equal(logits.argmax(-1), answer[:, 3:])


def test_a_decision_model_of_a_curved_network_is_saved(gate, make_mlp, randomise, tmp_path):
    from mopref import DecisionModel

    def made():
        return DecisionModel(PreferenceModel(make_mlp(), config(gate)), 5, anchor=[0.1] * 6)

    model = made()
    random_gates(randomise(model.network))
    model.save_pretrained(tmp_path / "decision")
    preferences = torch.tensor([[0.3, 0.7]])
    loaded = DecisionModel.load(PreferenceModel(make_mlp(), config(gate)), tmp_path / "decision")
    assert torch.equal(loaded(preferences), model(preferences))


def test_saved_change_by_tensor_names():
    tensors = {"layer.gate_mixture": torch.eye(2), "layer.gate_weight": torch.eye(2), "layer.gate_bias": torch.zeros(2)}
    preferences = torch.tensor([[1.0, 0.0]])
    expected = torch.tanh(torch.tensor([[1.0, -1.0]]))
    torch.testing.assert_close(saved_gate_change(tensors, "layer", preferences), expected)
    assert saved_gate_change(tensors, "other", preferences) == 0
    shared = {name.replace("layer", "shared_gate"): value for name, value in tensors.items()}
    torch.testing.assert_close(saved_gate_change(shared, "other", preferences), expected)
    torch.testing.assert_close(gate_change(*tensors.values(), preferences), expected)


def test_a_start_with_v_of_0(base, five_preferences, token_batch):
    """ΔW = 0, and V alone learns at first."""
    model = PreferenceModel(copy.deepcopy(base), config("linear", initialization="zero-input"))
    output = model(token_batch, preferences=five_preferences).logits
    assert torch.equal(output, base(token_batch).logits)
    output.square().mean().backward()
    deviations = []
    for layer in model.adapters.values():
        assert not layer.V.any()
        assert layer.V.grad.any()
        assert not any(part.grad.any() for part in (layer.U, layer.sigma, layer.scale))
        assert not layer.changes_something
        deviations.append(layer.U.flatten())
    assert torch.cat(deviations).std().item() == pytest.approx(7**-0.5, rel=0.05)


def test_a_gate_alone_changes_something(gate, make_mlp):
    model = PreferenceModel(nn.Sequential(*make_mlp()), config(gate))
    layer = next(iter(model.adapters.values()))
    with torch.no_grad():
        layer.U.fill_(1), layer.sigma.zero_(), layer.scale.zero_()
        assert not layer.changes_something
        layer.curved_gate.mixture.fill_(1)
        assert layer.changes_something

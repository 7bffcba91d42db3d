"""One contract for every conditioning: model(*inputs, preferences=λ), a preference for each row."""

import copy
import math

import pytest
import torch
from _tensors import DEVICE, DTYPE, randn, tensor, tolerance
from torch import nn

from mopref import PreferenceModel, SVDLoRAConfig
from mopref.conditioning.concatenation import ConcatenationModel
from mopref.conditioning.conditioned_model import ConditionedModel, objective_names, weight_like
from mopref.conditioning.film import FiLMModel
from mopref.conditioning.hypernetwork import HypernetworkModel

NAMES = ("a", "b", "c")
# Those that start as the base network; concatenation has no base without λ.
IDENTITIES = ["svd-lora", "hypernetwork", "film"]
ALL = [*IDENTITIES, "concatenation"]
MAKERS = {
    "svd-lora": lambda base, seed: PreferenceModel(base, SVDLoRAConfig(NAMES, seed=seed)),
    "hypernetwork": lambda base, seed: HypernetworkModel(base, NAMES, seed=seed),
    "film": lambda base, seed: FiLMModel(base, NAMES, seed=seed),
    "concatenation": lambda base, seed: ConcatenationModel(base, NAMES),
}


def make_base(name: str, seed: int = 0) -> nn.Module:
    inputs = 6 + len(NAMES) if name == "concatenation" else 6
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(inputs, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 5))


def make(name: str, seed: int = 0, dtype: torch.dtype = DTYPE) -> nn.Module:
    return MAKERS[name](make_base(name, seed).to(DEVICE, dtype), seed)


def randomised(model: nn.Module, seed: int = 1) -> nn.Module:
    """Trainable parameters moved far enough for λ to matter."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.3 * randn(parameter.shape, generator, parameter.dtype))
    return model


@pytest.fixture(params=ALL)
def name(request):
    return request.param


# Distinct rows, and rows that share a preference in groups of different sizes and in no order.
PREFERENCES = tensor(
    [[1, 0, 0], [0.2, 0.3, 0.5], [0, 0, 1], [0.2, 0.3, 0.5], [1, 0, 0], [0.1, 0.1, 0.8], [0.2, 0.3, 0.5]]
)


def inputs(*shape: int, dtype: torch.dtype = DTYPE) -> torch.Tensor:
    return randn((*shape, 6), torch.Generator().manual_seed(2), dtype)


def test_one_takes_anothers_place(name):
    model = make(name)
    assert isinstance(model, ConditionedModel)
    assert (model.objectives, model.num_objectives) == (NAMES, 3)
    assert "objectives=('a', 'b', 'c')" in repr(model)


def test_preferences_are_checked_by_one_rule(name):
    model = make(name)
    for dtype in (torch.float32, torch.float64):
        checked = model.checked([0, 0.25, 0.75], tensor([0.0], dtype))
        assert checked.dtype == dtype
        assert torch.equal(checked, tensor([[0, 0.25, 0.75]], dtype))


@pytest.mark.parametrize("middle", [(), (4,), (2, 3)])
def test_a_batch_is_the_loop_over_its_rows(name, middle):
    model = randomised(make(name, dtype=torch.float64))
    x, preferences = inputs(7, *middle, dtype=torch.float64), PREFERENCES.double()
    preferences /= preferences.sum(dim=1, keepdim=True)
    together = model(x, preferences=preferences)
    alone = torch.cat([model(x[i : i + 1], preferences=preferences[i]) for i in range(7)])
    assert together.shape == (7, *middle, 5)
    torch.testing.assert_close(together, alone, atol=1e-12, rtol=1e-12)
    assert (together - model(x, preferences=preferences[0])).abs()[1].max() > 0.1


def test_one_preference_serves_all_rows(name):
    model = randomised(make(name))
    x, one = inputs(7), PREFERENCES[1]
    expected = model(x, preferences=one.expand(7, -1))
    for preference in (one, one[None], one.tolist()):
        torch.testing.assert_close(model(x, preferences=preference), expected, atol=tolerance(1e-12), rtol=0)


@pytest.mark.parametrize("name", IDENTITIES)
def test_it_starts_as_the_base_for_every_preference(name):
    base = make_base(name).to(DEVICE, DTYPE)
    expected = base(inputs(7))
    outputs = MAKERS[name](base, 0)(inputs(7), preferences=PREFERENCES)
    torch.testing.assert_close(outputs, expected, atol=min(tolerance(1e-12), 1e-6), rtol=0)


def test_a_few_steps_tell_preferences_apart(name):
    model = make(name)
    x, target = inputs(7), PREFERENCES @ randn((3, 5), torch.Generator().manual_seed(3))
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.01)
    losses = []
    for _ in range(60):
        loss = (model(x, preferences=PREFERENCES) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]
    same_input = x[:1].expand(7, -1)
    spread = model(same_input, preferences=PREFERENCES).std(dim=0)
    assert spread.max() > 0.1


def test_gradients_reach_what_trains_and_nothing_else(name):
    model = randomised(make(name))
    frozen = [p for p in model.parameters() if not p.requires_grad]
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    model(inputs(7), preferences=PREFERENCES).square().sum().backward()
    assert all(p.grad is None for p in frozen)
    for n, parameter in trained.items():
        assert (parameter.grad != 0).any(), n
    # 6·16+16 + 16·16+16 + 16·5+5 = 469 weights of the base, 3·16 more where λ is appended.
    expected = {
        # (n_out + n_in)·(8 + 3·4) + 8 + 1 for each layer.
        "svd-lora": 20 * (22 + 32 + 21) + 3 * 9,
        # e: 3 → 64 → 64 → 8; D: 469·(3 + 8); θ_0.
        "hypernetwork": (3 * 64 + 64) + (64 * 64 + 64) + (64 * 8 + 8) + 469 * 11 + 469,
        # 3 → 32 → 2·n_out for each layer, and the base.
        "film": 3 * (3 * 32 + 32) + 33 * 2 * (16 + 16 + 5) + 469,
        "concatenation": 469 + 3 * 16,
    }
    assert sum(p.numel() for p in trained.values()) == expected[name]


def test_the_conditioner_learns_from_the_first_step(name):
    model = make(name)
    base = {id(p) for p in parameters_of_base(model)} if name != "concatenation" else set()
    model(inputs(7), preferences=PREFERENCES).square().sum().backward()
    own = [p for p in model.parameters() if p.requires_grad and id(p) not in base]
    assert any((p.grad != 0).any() for p in own)


def parameters_of_base(model: nn.Module) -> list[nn.Parameter]:
    """The weights and biases that the base had before it was wrapped."""
    named = dict(model.base_model.named_parameters())
    return [p for n, p in named.items() if n.split(".")[-1] in ("weight", "bias") and "conditioner" not in n]


@pytest.mark.parametrize("name", ["hypernetwork", "film"])
def test_a_frozen_base_stays_as_it_is(name):
    makers = {"hypernetwork": HypernetworkModel, "film": FiLMModel}
    base = make_base(name).to(DEVICE, DTYPE)
    model = makers[name](base, NAMES, train_base=False)
    weights = parameters_of_base(model)
    assert len(weights) == 6
    model(inputs(7), preferences=PREFERENCES).square().sum().backward()
    assert all(not p.requires_grad and p.grad is None for p in weights)
    assert any(p.grad is not None and (p.grad != 0).any() for p in model.parameters())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (None, "preferences are missing"),
        ([0.5, 0.5], "3 objectives"),
        ([[0.2, 0.3, 0.4]], "sums to 0.9"),
        ([[-0.5, 1.0, 0.5]], "negative"),
        ([[math.nan, 0.5, 0.5]], "not finite"),
        ([[[1.0, 0.0, 0.0]]], "shape"),
    ],
)
def test_wrong_preferences_are_refused(name, wrong, message):
    with pytest.raises(ValueError, match=message):
        make(name)(inputs(1), preferences=wrong)


@pytest.mark.parametrize("count", [2, 6, 14])
def test_another_number_of_preferences_than_of_rows_is_refused(name, count):
    model = make(name)
    # Equal rows too: that they could be taken for a single preference must not hide the mistake.
    for preferences in (PREFERENCES.repeat(2, 1)[:count], PREFERENCES[:1].repeat(count, 1)):
        with pytest.raises(ValueError, match=f"{count} preferences were given"):
            model(inputs(7), preferences=preferences)


def test_a_refused_call_leaves_the_model_usable(name):
    model = randomised(make(name))
    expected = model(inputs(7), preferences=PREFERENCES)
    with pytest.raises(ValueError, match="2 preferences were given"):
        model(inputs(7), preferences=PREFERENCES[:2])
    assert torch.equal(model(inputs(7), preferences=PREFERENCES), expected)


def test_double_precision_throughout(name):
    model = randomised(make(name, dtype=torch.float64))
    assert {p.dtype for p in model.parameters()} == {torch.float64}
    assert model(inputs(7, dtype=torch.float64), preferences=PREFERENCES.double()).dtype == torch.float64
    converted = randomised(make(name, dtype=torch.float32)).double()
    assert converted(inputs(7, dtype=torch.float64), preferences=PREFERENCES).dtype == torch.float64


def test_gradients_are_right_in_inputs_and_preferences(name):
    model = randomised(make(name, dtype=torch.float64))
    x = inputs(3, dtype=torch.float64).requires_grad_()
    # Rows 0 and 1 are equal, and each gets the gradient of its own output all the same.
    preferences = tensor([[0.2, 0.3, 0.5], [0.2, 0.3, 0.5], [0.6, 0.3, 0.1]], torch.float64)
    preferences.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x, p: model(x, preferences=p), (x, preferences), eps=1e-7, atol=1e-5, fast_mode=True
    )


def test_state_round_trip(name):
    model, other = randomised(make(name, seed=0)), make(name, seed=5)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(inputs(7), preferences=PREFERENCES), model(inputs(7), preferences=PREFERENCES))


def test_the_seed_decides_and_the_global_generator_is_left_alone(name):
    base = make_base(name)
    before = torch.random.get_rng_state()
    first, again, other = (MAKERS[name](copy.deepcopy(base), seed) for seed in (3, 3, 4))
    assert torch.equal(torch.random.get_rng_state(), before)
    states = [torch.cat([p.flatten() for p in model.parameters()]) for model in (first, again, other)]
    assert torch.equal(states[0], states[1])
    if name != "concatenation":  # which draws nothing
        assert not torch.equal(states[0], states[2])


def test_a_reused_buffer_does_not_change_a_pending_backward(name):
    model, x = randomised(make(name)), inputs(7)

    def gradient(reuse: bool) -> torch.Tensor:
        buffer = PREFERENCES.clone()
        loss = model(x, preferences=buffer).square().sum()
        if reuse:
            buffer.copy_(buffer.roll(1, dims=0))
        model.zero_grad()
        loss.backward()
        return torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad])

    assert torch.equal(gradient(reuse=True), gradient(reuse=False))


def test_a_copy_is_independent(name):
    model = randomised(make(name))
    expected = model(inputs(7), preferences=PREFERENCES)
    copied = copy.deepcopy(model)
    assert torch.equal(copied(inputs(7), preferences=PREFERENCES), expected)
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.zero_()
    copied(inputs(7), preferences=PREFERENCES.roll(1, dims=0))
    assert torch.equal(model(inputs(7), preferences=PREFERENCES), expected)


@pytest.mark.parametrize("model", [HypernetworkModel, FiLMModel, ConcatenationModel])
@pytest.mark.parametrize(
    ("objectives", "message"), [(0, "at least"), ((), "at least one"), (("a", "a"), "each once"), ("ab", "single text")]
)
def test_objectives_are_named_once_each(model, objectives, message):
    with pytest.raises(ValueError, match=message):
        model(nn.Sequential(nn.Linear(4, 2)), objectives)


@pytest.mark.parametrize("model", [HypernetworkModel, FiLMModel, ConcatenationModel])
def test_a_number_of_objectives_names_them(model):
    made = model(nn.Sequential(nn.Linear(4, 2)), 2)
    assert (made.objectives, made.num_objectives) == (("f1", "f2"), 2)


@pytest.mark.parametrize("model", [HypernetworkModel, FiLMModel, ConcatenationModel])
def test_a_base_without_weights_is_refused(model):
    with pytest.raises(ValueError, match=r"ReLU|Sequential"):
        model(nn.Sequential(nn.ReLU()), 2)


def test_names_of_objectives():
    assert objective_names(3) == ("f1", "f2", "f3")
    assert objective_names(["cost", "risk"]) == ("cost", "risk")


def test_new_parameters_are_made_like_the_first_that_is_floating_point():
    model = nn.ModuleDict({"packed": nn.Module(), "layer": nn.Linear(2, 1).double()})
    model["packed"].weight = nn.Parameter(torch.zeros(3, dtype=torch.int8), requires_grad=False)
    assert weight_like(model) is model["layer"].weight
    with pytest.raises(ValueError, match="Module has no floating-point parameter: there is nothing to condition"):
        weight_like(model["packed"])


@pytest.mark.parametrize("make", [lambda names: SVDLoRAConfig(objectives=names), objective_names])
def test_a_set_of_names_has_no_order(make):
    with pytest.raises(ValueError, match="which has no order: give a list"):
        make({"helpful", "harmless"})


@pytest.mark.parametrize("name", ["a\x1b[2J", "a\nb", "\u202eab"])
def test_a_name_with_control_characters_is_refused(name):
    with pytest.raises(ValueError, match=r"^objectives hold '.*', which has control characters in it: choose") as error:
        objective_names(("helpful", name))
    assert str(error.value).isprintable()

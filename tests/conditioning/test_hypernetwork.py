"""HypernetworkModel: θ(λ) = θ_0 + D · [λ̃, e(λ̃)], and what it runs."""

import copy
import math

import pytest
import torch
from _tensors import DEVICE, DTYPE, randn, tensor
from torch import nn
from torch.utils.checkpoint import checkpoint

from mopref.conditioning.hypernetwork import HypernetworkModel

PREFERENCES = tensor([[1.0, 0.0], [0.25, 0.75], [1.0, 0.0], [0.5, 0.5]])


def randomised(model: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * randn(parameter.shape, generator, parameter.dtype))
    return model


def test_weights_by_hand():
    base = nn.Linear(2, 1).to(DEVICE, DTYPE)
    model = HypernetworkModel(base, 2, hidden=(), embedding_size=1)
    with torch.no_grad():
        base.weight.copy_(tensor([[1.0, 2.0]]))
        base.bias.fill_(3.0)
        # e(λ̃) = λ̃_1 − λ̃_2 + 0.5.
        model.embedding[0].weight.copy_(tensor([[1.0, -1.0]]))
        model.embedding[0].bias.fill_(0.5)
        # Columns: the two weights, then the bias. Rows: λ̃_1, λ̃_2, e.
        model.directions.copy_(tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 2.0]]))
    # λ = (1, 0) is λ̃ = (√3, −√3), e = 2√3 + ½; λ = (½, ½) is λ̃ = 0, e = ½.
    weights = model.weights([[1.0, 0.0], [0.5, 0.5]])
    root = math.sqrt(3)
    torch.testing.assert_close(weights["weight"], tensor([[[1 + root, 2 - root]], [[1.0, 2.0]]]))
    torch.testing.assert_close(weights["bias"], tensor([[3 + 4 * root + 1], [4.0]]))
    y = model(tensor([[1.0, 1.0], [10.0, 1.0]]), preferences=[[1.0, 0.0], [0.5, 0.5]])
    torch.testing.assert_close(y, tensor([[7 + 4 * root], [16.0]]))


def test_each_distinct_preference_is_embedded_once():
    model = HypernetworkModel(nn.Linear(3, 2).to(DEVICE, DTYPE), 2)
    rows = []
    model.embedding.register_forward_hook(lambda module, inputs, output: rows.append(len(inputs[0])))
    model(tensor(torch.zeros(4, 3)), preferences=PREFERENCES)
    assert sum(rows) == 3
    rows.clear()
    model(tensor(torch.zeros(4, 3)), preferences=PREFERENCES[:1].expand(4, -1))
    assert rows == [1]


class Fussy(nn.Module):
    """Positional and keyword arguments, options, several outputs, and a submodule that is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.second = self.first
        self.tied = nn.Linear(3, 3)
        self.tied.weight = self.first.weight

    def forward(self, x, other=None, factor=1.0):
        h = self.tied(self.second(self.first(x)))
        return {"sum": factor * h + other, "both": (h, other)}


@pytest.mark.parametrize("vectorize", [True, False])
def test_any_signature_and_any_structure_of_outputs(vectorize):
    model = randomised(HypernetworkModel(Fussy().to(DEVICE, DTYPE), 2, vectorize=vectorize))
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    x = randn((4, 3), torch.Generator().manual_seed(1))
    together = model(x, other=x + 1, factor=2.0, preferences=PREFERENCES)
    for i, preference in enumerate(PREFERENCES):
        weights = {name: weight[0] for name, weight in model.weights(preference).items()}
        # The names that parameters are listed under, once each.
        assert weights.keys() == {"first.weight", "first.bias", "tied.bias"}
        h = x[i]
        for bias in ("first.bias", "first.bias", "tied.bias"):
            h = weights["first.weight"] @ h + weights[bias]
        torch.testing.assert_close(together["sum"][i], 2 * h + x[i] + 1)
        torch.testing.assert_close(together["both"][0][i], h)
        assert torch.equal(together["both"][1][i], x[i] + 1)
    after = dict(model.named_parameters())
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_every_input_has_a_row_for_each_preference():
    model = HypernetworkModel(Fussy(), 2)
    with pytest.raises(ValueError, match=r"4 preferences were given, but an input has shape \(1, 3\)"):
        model(torch.zeros(4, 3), other=torch.zeros(1, 3), preferences=PREFERENCES)
    with pytest.raises(ValueError, match=r"shape \(\)"):
        model(torch.zeros(4, 3), other=torch.tensor(1.0), preferences=PREFERENCES)
    # Under a single preference the batch is the base's own affair.
    model(torch.zeros(4, 3), other=torch.zeros(1, 3), preferences=PREFERENCES[0])


class MeanLoss(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 1)

    def forward(self, x):
        return self.layer(x).mean()


@pytest.mark.parametrize("vectorize", [True, False])
def test_an_output_that_is_no_row_is_refused(vectorize):
    model = HypernetworkModel(MeanLoss(), 2, vectorize=vectorize)
    assert model(torch.zeros(4, 3), preferences=PREFERENCES[0]).shape == ()
    with pytest.raises(ValueError, match=r"shape \(\) for 1 rows.*rows as its first dimension"):
        model(torch.zeros(4, 3), preferences=PREFERENCES)


class Checkpointed(nn.Module):
    def __init__(self, use_reentrant: bool) -> None:
        super().__init__()
        self.layer, self.use_reentrant = nn.Linear(3, 2), use_reentrant

    def block(self, x):
        return self.layer(torch.tanh(self.layer(x)[:, [0, 1, 1]]))

    def forward(self, x):
        return checkpoint(self.block, x, use_reentrant=self.use_reentrant)


@pytest.mark.parametrize("use_reentrant", [False, True])
@pytest.mark.parametrize("preferences", [PREFERENCES, PREFERENCES[:1]])
def test_checkpointing_inside_the_base_is_refused(use_reentrant, preferences):
    # Recomputed activations would be those of θ_0, and the gradients wrong.
    model = randomised(HypernetworkModel(Checkpointed(use_reentrant), 2))
    x = torch.ones(4, 3, requires_grad=True)
    with pytest.raises(RuntimeError, match=r"recomputes activations|functorch|vmap"):
        model(x, preferences=preferences).sum().backward()
    # The base itself may still be run and trained.
    model.base_model(x)


def test_checkpointing_the_whole_model_is_exact():
    base = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).to(DEVICE, DTYPE)
    model = randomised(HypernetworkModel(base, 2))
    x = randn((4, 3), torch.Generator().manual_seed(1))
    gradients = []
    for run in (model, lambda x, preferences: checkpoint(model, x, preferences=preferences, use_reentrant=False)):
        model.zero_grad()
        run(x, preferences=PREFERENCES).square().sum().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    assert gradients[0].abs().max() > 0.1
    torch.testing.assert_close(gradients[1], gradients[0])


def test_dropout_differs_between_rows():
    model = HypernetworkModel(nn.Sequential(nn.Linear(3, 50), nn.Dropout(0.5)), 2)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        dropped = model(torch.ones(2, 3), preferences=torch.tensor([[1.0, 0.0], [0.0, 1.0]])) == 0
    assert 0.2 < dropped.double().mean() < 0.8
    assert not torch.equal(dropped[0], dropped[1])


def test_a_half_precision_base_gets_half_precision_weights():
    model = HypernetworkModel(nn.Linear(3, 2).to(DEVICE, torch.bfloat16), 2)
    assert model.directions.dtype == torch.float32
    assert model(torch.ones(4, 3, device=DEVICE, dtype=torch.bfloat16), preferences=PREFERENCES).dtype == torch.bfloat16


def test_a_language_model(make_lm, token_batch, five_preferences):
    base = make_lm()
    model = HypernetworkModel(copy.deepcopy(base), 2, vectorize=False).eval()
    mask = torch.ones_like(token_batch)
    with torch.no_grad():
        model.directions.normal_(0, 0.02, generator=torch.Generator().manual_seed(0))
        together = model(token_batch, attention_mask=mask, use_cache=False, preferences=five_preferences).logits
        for i, preference in enumerate(five_preferences):
            alone = model(token_batch[i : i + 1], preferences=preference).logits
            torch.testing.assert_close(together[i : i + 1], alone, atol=1e-4, rtol=1e-4)
        assert (together - base(token_batch).logits).abs().max() > 0.5
        with pytest.raises(ValueError, match=r"Cache for 1 rows.*use_cache=False"):
            model(token_batch, preferences=five_preferences)


@pytest.mark.parametrize("options", [{"hidden": (0,)}, {"embedding_size": 0}])
def test_widths_are_at_least_one(options):
    with pytest.raises(ValueError, match="at least 1"):
        HypernetworkModel(nn.Linear(3, 2), 2, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden": 8}, "hidden is 8, of type int: give a list of whole numbers"),
        ({"embedding_size": 8.0}, r"embedding_size is 8\.0"),
        ({"vectorize": "no"}, "vectorize is 'no', of type str: give True or False"),
        ({"train_base": None}, "train_base is None"),
        ({"seed": "x"}, "seed is 'x'"),
    ],
)
def test_options_of_another_type_are_named(options, message):
    with pytest.raises(TypeError, match=message):
        HypernetworkModel(nn.Linear(3, 2), 2, **options)


def test_a_sparse_input_is_refused():
    with pytest.raises(ValueError, match="an input is a sparse or nested tensor"):
        HypernetworkModel(nn.Linear(3, 2), 2)(torch.ones(2, 3).to_sparse(), preferences=torch.eye(2))

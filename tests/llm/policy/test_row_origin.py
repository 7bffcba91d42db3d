"""Which model computed what a row keeps: the same for the same weights, another for any other, and compared."""

import copy

import pytest
import torch

from mopref import PreferenceModel, SVDLoRAConfig
from mopref.llm.policy import Policy
from mopref.llm.policy.row_origin import check_row_origin, weights_digest

ROWS = [{"reference": 1.0, "reference_model": "the base A"}, {"reference": 2.0, "reference_model": "the base A"}]


def model_of(base, layers=(1,)) -> PreferenceModel:
    return PreferenceModel(base, SVDLoRAConfig(objectives=("a", "b"), layers=layers))


def test_a_digest_is_that_of_the_weights(make_llama, randomise):
    """Not of the adapters, of the layers that they are on, or of a vocabulary that was enlarged."""
    plain = weights_digest(make_llama())
    assert len(plain) == 12
    assert weights_digest(make_llama()) == plain
    for layers in ((0,), (1,), None):
        assert weights_digest(randomise(model_of(make_llama(), layers)).base_model) == plain
    larger = make_llama()
    larger.resize_token_embeddings(120, mean_resizing=False)
    assert weights_digest(larger) == plain


@pytest.mark.parametrize(
    "name", ["model.layers.1.mlp.up_proj.weight", "model.norm.weight", "model.embed_tokens.weight"]
)
def test_another_weight_is_another_digest(name, make_llama):
    base = make_llama()
    other = copy.deepcopy(base)
    with torch.no_grad():
        other.get_parameter(name).mul_(1.001)
    assert weights_digest(other) != weights_digest(base)


def test_rows_of_another_model_are_refused():
    check_row_origin(ROWS, "reference", "the base A")
    check_row_origin([{"reference": 1.0}, {}], "reference", "the base B")
    rows = [*ROWS, {"reference": 3.0, "reference_model": "the base C"}]
    with pytest.raises(ValueError, match=r"row 2 has a reference that was computed with the base C, but .* the base A"):
        check_row_origin(rows, "reference", "the base A")


def test_a_policys_origin(make_llama):
    base, first, last = make_llama(seed=1), model_of(make_llama(), (0,)), model_of(make_llama(), (1,))
    assert Policy(first).origin() == Policy(last).origin()
    assert Policy(first).origin(with_states=True) != Policy(last).origin(with_states=True)
    assert Policy(last).origin(with_states=True).endswith("adapted from block 1 on")
    assert Policy(model_of(base)).origin() != Policy(first).origin()


def test_a_policy_compares_where_it_can(make_llama, monkeypatch):
    policy, rows = Policy(model_of(make_llama())), [{"reference_model": "another"}]
    with pytest.raises(ValueError, match="row 0 has a reference that was computed with another, but this model's"):
        policy.check_origin(rows, "reference")
    policy.check_origin(rows, "hidden_states")
    # A plain model has no reference; weights that are spread over processes are nowhere whole.
    Policy(make_llama()).check_origin(rows, "reference")
    monkeypatch.setattr(torch.nn.Parameter, "placements", (), raising=False)
    policy.check_origin(rows, "reference")

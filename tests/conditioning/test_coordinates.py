"""x V of activations of another type: the numbers and gradients of PyTorch's own product, without copies kept."""

import pytest
import torch
from conditioned_networks import IDS, ROW_PREFERENCES, conditioned
from tiny_models import tiny_model
from torch.autograd.graph import saved_tensors_hooks

from mopref.conditioning.coordinates import coordinates_of

DTYPES = [torch.bfloat16, torch.float16, torch.float64, torch.float32]


def inputs(dtype, shape=(3, 5, 16)):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator).to(dtype).requires_grad_()
    # As adapters lay it out for the backward pass.
    directions = torch.randn(4, shape[-1], generator=generator).T.requires_grad_()
    outer = torch.randn(*shape[:-1], 4, generator=generator)
    return x, directions, outer


def plain(x, directions):
    return x.to(directions.dtype) @ directions


@pytest.mark.parametrize("shape", [(6, 16), (3, 5, 16), (2, 3, 5, 16), (1, 16), (0, 16)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_values_and_gradients_are_those_of_the_plain_product_bit_for_bit(dtype, shape):
    x, directions, outer = inputs(dtype, shape)
    found, expected = coordinates_of(x, directions), plain(x, directions)
    assert torch.equal(found, expected)
    own = torch.autograd.grad(found, (x, directions), outer)
    for mine, its in zip(own, torch.autograd.grad(expected, (x, directions), outer), strict=True):
        assert mine.dtype == its.dtype
        assert torch.equal(mine, its)
    frozen = coordinates_of(x, directions.detach())
    assert torch.equal(torch.autograd.grad(frozen, x, outer)[0], own[0])
    first = coordinates_of(x.detach(), directions)
    assert torch.equal(torch.autograd.grad(first, directions, outer)[0], own[1])


@pytest.mark.parametrize("dtype", DTYPES)
def test_gradients_of_gradients_and_many_at_once(dtype):
    x, directions, outer = inputs(dtype)
    several = torch.stack([outer, 2 * outer, -outer])

    def twice(product):
        values = product(x, directions)
        first = torch.autograd.grad(values.square().sum(), directions, create_graph=True)[0]
        many = torch.autograd.grad(values, (x, directions), several, retain_graph=True, is_grads_batched=True)
        return *torch.autograd.grad(first.square().sum(), (x, directions)), *many

    for mine, its in zip(twice(coordinates_of), twice(plain), strict=True):
        # Second gradients are sums of terms that are each rounded to the type of x.
        assert (mine - its).norm() <= 4 * max(torch.finfo(dtype).eps, torch.finfo(torch.float32).eps) * its.norm()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mixed", [torch.bfloat16, torch.float16])
def test_under_autocast_it_is_autocasts_own_product(dtype, mixed):
    x, directions, outer = inputs(dtype)
    with torch.autocast("cpu", mixed):
        found, expected = coordinates_of(x, directions), plain(x, directions)
    assert found.dtype == expected.dtype == mixed
    assert torch.equal(found, expected)
    grads = [torch.autograd.grad(y, (x, directions), outer.to(mixed)) for y in (found, expected)]
    for mine, its in zip(*grads, strict=True):
        torch.testing.assert_close(mine, its)


def kept_bytes(model) -> dict[torch.dtype, int]:
    """Bytes that a forward keeps for its backward pass, of activations alone, each once."""
    weights = {part.untyped_storage().data_ptr() for part in (*model.parameters(), *model.buffers())}
    kept = {}

    def pack(tensor):
        place = tensor.untyped_storage()
        if place.data_ptr() not in weights:
            kept[place.data_ptr()] = (tensor.dtype, place.nbytes())
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        output = model.base_model.model(input_ids=IDS.repeat(1, 40)).last_hidden_state
    assert output.requires_grad
    return {dtype: sum(size for own, size in kept.values() if own == dtype) for dtype in {d for d, _ in kept.values()}}


def test_a_base_in_half_precision_keeps_half_the_bytes():
    """With copies in float32 of what each adapter sees it would keep as many as the base in float32, or more."""
    held = {}
    for dtype in (torch.float32, torch.bfloat16):
        base = tiny_model("llama", hidden_size=64, intermediate_size=256)
        model = conditioned(base.to(dtype)).train()
        model(input_ids=IDS.repeat(1, 40), preferences=ROW_PREFERENCES)
        held[dtype] = sum(kept_bytes(model).values())
    assert held[torch.bfloat16] < 0.65 * held[torch.float32]

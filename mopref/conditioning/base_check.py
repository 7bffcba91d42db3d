"""A few numbers of a base model's weights, by which another base of the same shapes is noticed."""

from collections import Counter
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from mopref._sharded import is_sharded, whole_tensor
from mopref.conditioning.adapter_layer import AdapterLayer
from mopref.conditioning.linear_layer import is_plain_parameter, is_transposed

__all__ = ["base_check", "difference_of_weights", "sampled_numbers", "shares_no_weight", "storage_kinds"]

_SAMPLES = 8
_FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


def base_check(base_model: nn.Module) -> dict[str, list[float]]:
    """Eight numbers of every weight that is stored as it is used, by its name in the plain base model.

    Of the tables whose rows are tokens they come from the first rows, so that a vocabulary that was enlarged or cut at
    its end is the same base.
    """
    adapter_parameters = {
        id(parameter)
        for layer in base_model.modules()
        if isinstance(layer, AdapterLayer)
        for name, parameter in layer.named_parameters()
        if not name.startswith("base_layer.")
    }
    tables = _token_tables(base_model)
    samples = {}
    for name, parameter in base_model.named_parameters():
        if id(parameter) in adapter_parameters:
            continue
        numbers = sampled_numbers(parameter, of_first_rows=id(parameter) in tables)
        if numbers is not None:
            # With the adapters in place the names are longer.
            samples[name.replace(".base_layer.", ".")] = numbers
    return samples


def sampled_numbers(parameter: Tensor, of_first_rows: bool = False) -> list[float] | None:
    """Eight numbers of a weight, evenly spaced over it, or over its first rows; of an empty one none.

    ``None`` for a weight that is not stored as it is used, such as a quantised one.
    """
    parameter = whole_tensor(parameter)
    if not is_plain_parameter(parameter):
        return None
    values = (parameter.detach()[:_SAMPLES] if of_first_rows else parameter.detach()).flatten()
    positions = torch.linspace(0, len(values) - 1, _SAMPLES if len(values) else 0, dtype=torch.float64).long()
    numbers: list[float] = values[positions.to(values.device)].float().cpu().tolist()
    return numbers


def difference_of_weights(samples: Mapping[str, list[float]], base_model: nn.Module, version: int) -> str | None:
    """What tells a base model from the one that the samples come from; ``None`` where nothing does.

    Args:
        samples: of :func:`base_check`.
        base_model: another one.
        version: of the format that the samples were written in. Before 2 those of token tables came from all rows.
    """
    tables = _token_tables(base_model) if version < 2 else set()
    skipped = {name for name, parameter in base_model.named_parameters() if id(parameter) in tables}
    for name, values in base_check(base_model).items():
        if name in skipped:
            continue
        # The same weights may be stored in half precision here and not there: 1 % covers that rounding.
        expected = torch.tensor(samples.get(name, values))
        own = torch.tensor(values)
        if own.shape != expected.shape or not own.allclose(
            expected, rtol=1e-2, atol=1e-2 * float(expected.abs().max())
        ):
            return f"the weights of {name} differ from those it was trained on"
    return None


def shares_no_weight(samples: Mapping[str, list[float]], base_model: nn.Module) -> bool:
    """Whether a base model has weights to compare and the samples none of them."""
    own = base_check(base_model)
    return bool(own) and own.keys().isdisjoint(samples)


def storage_kinds(layers: Iterable[nn.Module]) -> dict[str, int]:
    """How many linear layers store their weights in which way.

    "float" for every plain floating-point type, else the class that quantises, of the layer or of its weight, and its
    type of quantisation where it tells one.

    Example:
        >>> storage_kinds([nn.Linear(4, 2), nn.Linear(4, 2).bfloat16()])
        {'float': 2}
    """
    return dict(sorted(Counter(map(_storage_kind, layers)).items()))


def _storage_kind(layer: nn.Module) -> str:
    if isinstance(layer, AdapterLayer):
        layer = layer.base_layer
    # A weight that is computed from others is not asked for: a spectral norm would count.
    if parametrize.is_parametrized(layer, "weight"):
        return "float"
    weight = getattr(layer, "weight", None)
    if isinstance(weight, Tensor) and (type(weight) in (nn.Parameter, Tensor) or is_sharded(weight)):
        dtype = str(weight.dtype).removeprefix("torch.")
        return "float" if weight.dtype in _FLOATS else f"{type(layer).__name__} {dtype}"
    quantises_by_weight = weight is not None and (type(layer) is nn.Linear or is_transposed(layer))
    name = type(weight if quantises_by_weight else layer).__name__
    detail = getattr(weight, "quant_type", None)
    return f"{name} {detail}" if isinstance(detail, str) else name


def _token_tables(base_model: nn.Module) -> set[int]:
    """The weights whose rows are the vocabulary's tokens: input embeddings and output head."""
    tables = set()
    for getter in ("get_input_embeddings", "get_output_embeddings"):
        try:
            module = getattr(base_model, getter)()
        except (AttributeError, NotImplementedError):
            continue
        if isinstance(module, nn.Module):
            tables |= {id(parameter) for parameter in module.parameters()}
    return tables

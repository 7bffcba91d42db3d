"""The small networks that read a preference: a multilayer perceptron with a seed, and λ as it likes its inputs."""

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mopref.setting_types import check_numbers

__all__ = ["make_mlp", "mlp_shapes", "standardise_preferences"]


def make_mlp(widths: Sequence[int], generator: torch.Generator) -> nn.Sequential:
    """Linear layers of these widths with LeakyReLU between them; the weights have ``nn.Linear``'s own distribution.

    Args:
        widths: of the input, the hidden layers and the output; two or more.
        generator: the source of randomness, on the CPU; the global generator is not touched.

    Raises:
        ValueError: fewer than two widths, or one below 1, or a layer that is too large to hold.

    Example:
        >>> make_mlp((2, 8, 3), torch.Generator().manual_seed(0))(torch.zeros(5, 2)).shape
        torch.Size([5, 3])
    """
    if len(widths) < 2 or min(widths) < 1:
        raise ValueError(f"the widths are {tuple(widths)}: give at least an input and an output, each at least 1.")
    for fan_in, fan_out in itertools.pairwise(widths):
        check_numbers({"a layer's inputs": fan_in, "its outputs": fan_out})
    layers: list[nn.Module] = []
    for fan_in, fan_out in itertools.pairwise(widths):
        layer = nn.utils.skip_init(nn.Linear, fan_in, fan_out)
        for parameter in layer.parameters():
            nn.init.uniform_(parameter, -1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in), generator=generator)
        layers += [layer, nn.LeakyReLU()]
    return nn.Sequential(*layers[:-1])


def mlp_shapes(widths: Sequence[int]) -> dict[str, tuple[int, ...]]:
    """The shapes of the parameters of :func:`make_mlp`, by their names.

    Example:
        >>> mlp_shapes((2, 8))
        {'0.weight': (8, 2), '0.bias': (8,)}
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for layer, (fan_in, fan_out) in enumerate(itertools.pairwise(widths)):
        # A LeakyReLU, without parameters, lies between two layers.
        shapes |= {f"{2 * layer}.weight": (fan_out, fan_in), f"{2 * layer}.bias": (fan_out,)}
    return shapes


def standardise_preferences(preferences: Tensor) -> Tensor:
    """(λ_i − 1/m) · m √((m + 1)/(m − 1)): ``(…, m)`` to ``(…, m)``.

    Mean 0 and variance 1 under the uniform distribution on the simplex, so that networks which read it differ between
    preferences from the start. The standard deviation of one weight under Dirichlet(1, …, 1) is √((m − 1)/(m + 1)) / m.

    Example:
        >>> standardise_preferences(torch.tensor([[0.5, 0.5], [1.0, 0.0]]))
        tensor([[ 0.0000,  0.0000],
                [ 1.7321, -1.7321]])
    """
    m = preferences.shape[-1]
    # A single objective has one preference only, which has no spread.
    scale = m * math.sqrt((m + 1) / (m - 1)) if m > 1 else 1.0
    return (preferences - 1 / m) * scale

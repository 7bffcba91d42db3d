"""Evaluation mode for a while, and a training without dropout."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

__all__ = ["disable_dropout", "evaluation_mode", "kept_modes"]

_DROPOUT = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
# In the names of what is random in training mode: dropout, layerdrop, drop_path, router_jitter_noise, ….
_RANDOM = ("drop", "jitter")


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Within this block the module is in evaluation mode; afterwards, also after an error, each part in its own."""
    with kept_modes(module):
        module.eval()
        yield


@contextmanager
def kept_modes(module: nn.Module) -> Iterator[None]:
    """After this block, also after an error or an interruption, each part is in the mode that it came in."""
    modes = [(part, part.training) for part in module.modules()]
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


def disable_dropout(module: nn.Module) -> None:
    """Set what a module drops or disturbs at random in training mode to 0, for good: units, attention, layers, routing.

    Dropout layers have a ``p``; models that call the function instead keep its probability in an attribute of a part,
    or in the configuration that a part reads. Such a configuration is replaced by a copy, but for the outermost one,
    which is saved with the model.

    Example:
        >>> network = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.1))
        >>> disable_dropout(network)
        >>> network[1]
        Dropout(p=0.0, inplace=False)
    """
    copies: dict[int, Any] = {}
    outermost = True
    for part in module.modules():
        _set_to_zero(part)
        if isinstance(part, _DROPOUT):
            part.p = 0.0
        config = vars(part).get("config")
        if config is None or not hasattr(config, "__dict__"):
            continue
        if not outermost:
            if id(config) not in copies:
                copies[id(config)] = copy.copy(config)
                _set_to_zero(copies[id(config)])
            part.config = copies[id(config)]
        outermost = False


def _set_to_zero(owner: Any) -> None:
    for name, value in list(vars(owner).items()):
        if isinstance(value, float) and any(word in name.lower() for word in _RANDOM):
            setattr(owner, name, 0.0)

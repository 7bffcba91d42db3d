"""Optimisers by name: AdamW, how it is computed, and in which type its two averages are kept."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

__all__ = [
    "OPTIMIZERS",
    "OptimizerKind",
    "check_optimizer",
    "is_state_of",
    "is_whole_state",
    "make_optimizer",
    "state_bytes",
]

# Averages of smaller parameters are kept in float32, as bitsandbytes advises; it scales blocks of so many numbers.
_FEWEST_IN_8_BITS, _BLOCK = 4096, 256


@dataclass(frozen=True)
class OptimizerKind:
    """An optimiser.

    Args:
        make: parameters and AdamW's options to an optimiser.
        in_8_bits: whether it is of bitsandbytes, with averages of 8 bits.
        is_paged: whether they may be moved to the main memory, which only a GPU does, and no checkpoint keeps.
    """

    make: Callable[..., Optimizer]
    in_8_bits: bool = False
    is_paged: bool = False


def _plain(parameters: Iterable[Tensor], **options: Any) -> Optimizer:
    # PyTorch's own choice on a GPU. On a CPU it would take one parameter after another: more calls, the same numbers.
    return AdamW(parameters, foreach=True, **options)


def _fused(parameters: Iterable[Tensor], **options: Any) -> Optimizer:
    return AdamW(parameters, fused=True, **options)


def _in_8_bits(parameters: Iterable[Tensor], **options: Any) -> Optimizer:
    from bitsandbytes.optim import AdamW8bit

    made: Optimizer = AdamW8bit(parameters, min_8bit_size=_FEWEST_IN_8_BITS, **options)
    return made


def _paged(parameters: Iterable[Tensor], **options: Any) -> Optimizer:
    from bitsandbytes.optim import PagedAdamW8bit

    made: Optimizer = PagedAdamW8bit(parameters, min_8bit_size=_FEWEST_IN_8_BITS, **options)
    return made


OPTIMIZERS = {
    "adamw": OptimizerKind(_plain),
    "adamw-fused": OptimizerKind(_fused),
    "adamw-8bit": OptimizerKind(_in_8_bits, in_8_bits=True),
    "paged-adamw-8bit": OptimizerKind(_paged, in_8_bits=True, is_paged=True),
}


def make_optimizer(
    name: str, parameters: Sequence[Tensor], device: torch.device, learning_rate: float, weight_decay: float
) -> Optimizer:
    """The optimiser of that name.

    Args:
        name: a name in ``OPTIMIZERS``.
        parameters: what is trained.
        device: where it will be trained, which need not be where it is yet.
        learning_rate: AdamW's.
        weight_decay: AdamW's, decoupled.

    Raises:
        ValueError: what :func:`check_optimizer` refuses.
    """
    check_optimizer(name, device, {parameter.dtype for parameter in parameters})
    return OPTIMIZERS[name].make(parameters, lr=learning_rate, weight_decay=weight_decay)


def check_optimizer(name: str, device: torch.device, dtypes: Iterable[torch.dtype] = (torch.float32,)) -> None:
    """Refuse an optimiser that cannot work here, by a step of a small parameter of each type on the device.

    Args:
        name: a name in ``OPTIMIZERS``.
        device: where it is to work.
        dtypes: the types of its parameters.

    Raises:
        ValueError: its package is missing, or it does not work on the device or with a type.
    """
    kind = OPTIMIZERS[name]
    if name == "adamw":
        return
    if kind.in_8_bits and find_spec("bitsandbytes") is None:
        raise ValueError(f"optimizer is {name!r}: it needs bitsandbytes; run pip install 'mopref[quantized]'.")
    if kind.is_paged and device.type == "cpu":
        raise ValueError(
            f"optimizer is {name!r}: it moves its averages from a GPU to the main memory, and the device is the CPU; "
            "choose 'adamw-8bit'."
        )
    for dtype in sorted(dtypes, key=str):
        try:
            _try_step(kind, device, dtype)
        except Exception as error:  # Each of the packages has its own.
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
            kind_of = str(dtype).removeprefix("torch.")
            raise ValueError(
                f"optimizer is {name!r}, which does not work on {device.type} with parameters of {kind_of} ({reason}): "
                "choose 'adamw'."
            ) from error


def _try_step(kind: OptimizerKind, device: torch.device, dtype: torch.dtype) -> None:
    parameter = nn.Parameter(torch.zeros(_FEWEST_IN_8_BITS, device=device, dtype=dtype))
    parameter.grad = torch.ones_like(parameter)
    kind.make([parameter], lr=1.0, weight_decay=0.0).step()
    if not parameter.detach().lt(0).all().item():
        raise RuntimeError("a step against the gradient went another way")


def state_bytes(name: str, parameter: Tensor) -> float:
    """Bytes of the two averages of a parameter, without a few for each block of 256 and for the table of the 8 bits.

    Example:
        >>> state_bytes("adamw", torch.zeros(8192)) / 8192, state_bytes("adamw-8bit", torch.zeros(8192)) / 8192
        (8.0, 2.03125)
    """
    count = parameter.numel()
    if OPTIMIZERS[name].in_8_bits and count >= _FEWEST_IN_8_BITS:
        return count * 2 + math.ceil(count / _BLOCK) * 2 * 4
    return count * 2 * (4 if OPTIMIZERS[name].in_8_bits else parameter.element_size())


# What a group of parameters has in every version of PyTorch that is supported. Others come and go with versions
# (decoupled_weight_decay, say): PyTorch fills in those that a state lacks, and looks at none that it does not know.
_OPTIONS = frozenset(
    (
        *("params", "lr", "betas", "eps", "weight_decay"),
        *("amsgrad", "maximize", "foreach", "capturable", "differentiable", "fused"),
    )
)


def is_whole_state(optimizer: Optimizer, name: str, state: Mapping[str, Any]) -> bool:
    """Whether a state is one of the optimiser of that name, with these parameters."""
    own, groups, entries = optimizer.state_dict()["param_groups"], state.get("param_groups"), state.get("state")
    if not isinstance(groups, list) or len(groups) != len(own) or not isinstance(entries, dict):
        return False
    for group, own_group in zip(groups, own, strict=True):
        if not isinstance(group, dict) or group.get("params") != own_group["params"]:
            return False
        if _OPTIONS & (group.keys() ^ own_group.keys()):
            return False
        if not all(_is_option_like(key, group[key], value) for key, value in own_group.items() if key in group):
            return False
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    return all(_belongs(index, name, entry, parameters) for index, entry in entries.items())


def _is_option_like(name: str, value: Any, own: Any) -> bool:
    """Whether an option of the optimiser may stand in place of its own: the same, but for the rate, which moves.

    Nor for ``foreach``, by which no number changes: older runs left it to PyTorch.
    """
    if name == "lr":
        return isinstance(value, float) and 0 <= value < math.inf
    if name == "foreach":
        return value is None or isinstance(value, bool)
    return type(value) is type(own) and bool(value == own)


def _belongs(index: Any, name: str, entry: Any, parameters: Sequence[Tensor]) -> bool:
    """Whether an entry of the optimiser's state is one of the parameter of that number."""
    if type(index) is not int or not 0 <= index < len(parameters):
        return False
    return is_state_of(name, entry, parameters[index])


def is_state_of(name: str, entry: Any, parameter: Tensor) -> bool:
    """Whether an entry of a state that was read is one of that optimiser's, of this parameter."""
    if not isinstance(entry, dict):
        return False
    if not OPTIMIZERS[name].in_8_bits:
        shape = parameter.shape
        expected = {"step": torch.Size([]), "exp_avg": shape, "exp_avg_sq": shape}
        if {key: getattr(value, "shape", None) for key, value in entry.items()} != expected:
            return False
        steps, mean, squares = (entry[key] for key in ("step", "exp_avg", "exp_avg_sq"))
        is_of_type = steps.is_floating_point() and mean.dtype == squares.dtype == parameter.dtype
        # Squares may overflow in a sound run, which then does not move that number.
        return is_of_type and bool(mean.isfinite().all() and (squares >= 0).all() and 0 <= steps.item() < math.inf)
    # Asked of bitsandbytes itself: its kernels take the sizes for granted.
    fresh: Any = OPTIMIZERS[name].make([parameter], lr=1.0, weight_decay=0.0)
    fresh.init_state(fresh.param_groups[0], parameter, 0, 0)
    return bool(_form(entry) == _form(fresh.state_dict()["state"][0]))


def _form(value: Any) -> Any:
    """Types and shapes of what a state holds."""
    if isinstance(value, Tensor):
        return value.dtype, tuple(value.shape)
    if isinstance(value, dict):
        return {key: _form(item) for key, item in value.items()}
    return type(value)

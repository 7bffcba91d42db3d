"""What a training needs of each process's memory, from counted bytes, before it runs."""

from typing import NamedTuple

from torch import Tensor, nn

from mopref._sharded import is_sharded
from mopref.argument_kinds import checks_arguments
from mopref.setting_types import checked_count
from mopref.training.optimizers import OPTIMIZERS, state_bytes
from mopref.training.sharding import blocks_of

__all__ = ["MemoryEstimate", "memory_estimate"]

_GIB = 2**30


class MemoryEstimate(NamedTuple):
    """Bytes on each process; what they add up to is there at every step, activations come beside it.

    Attributes:
        base: the frozen weights, quantised ones as they are stored; where they are shared out (FSDP), this process's
            part of them.
        gathered: where they are shared out, what is whole at once: two blocks, of which the second is fetched while the
            first one runs, and what lies in no block, such as embeddings. 0 otherwise.
        trained: adapters, and what else is trained.
        gradients: of these; twice where processes exchange them (DDP's buckets).
        optimizer: its averages.
    """

    base: float
    gathered: float
    trained: float
    gradients: float
    optimizer: float

    @property
    def total(self) -> float:
        """All of them, in bytes."""
        return float(sum(self))

    def __str__(self) -> str:
        weights = f"base {self.base / _GIB:.2f}"
        if self.gathered:
            weights += f" + {self.gathered / _GIB:.2f} gathered"
        adapters = f"adapters with gradients and optimiser {sum(self[2:]) / _GIB:.2f}"
        return f"{self.total / _GIB:.2f} GiB a process ({weights}, {adapters}), beside activations"


@checks_arguments
def memory_estimate(model: nn.Module, optimizer: str, processes: int = 1, is_sharded: bool = False) -> MemoryEstimate:
    """Count the bytes of weights, gradients and averages on each process. Activations are not counted.

    Those of a transformer with hidden size h are about 34 h bytes a token and block in half precision (Korthikanti et
    al., arXiv 2205.05198, eq. 2, with an attention that keeps no scores), or 2 h where they are recomputed
    (``gradient_checkpointing_enable``). Logits are not kept.

    Args:
        model: whose parameters are counted.
        optimizer: a name in ``OPTIMIZERS``.
        processes: of the run.
        is_sharded: whether the base is shared out among them (FSDP), not whole on each (DDP).

    Raises:
        ValueError: an unknown optimiser, or fewer than one process.

    Example:
        >>> model = nn.Linear(1024, 1024)
        >>> memory_estimate(model, "adamw").total == 4 * 4 * (1024 * 1024 + 1024)
        True
    """
    processes = checked_count(processes, "processes")
    if optimizer not in OPTIMIZERS:
        raise ValueError(f"optimizer is {optimizer!r}: choose one of {', '.join(OPTIMIZERS)}.")
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    own = float(sum(parameter.numel() * parameter.element_size() for parameter in trained))
    averages = sum(state_bytes(optimizer, parameter) for parameter in trained)
    whole, gathered = _frozen_bytes(model), 0.0
    is_sharded = is_sharded and processes > 1
    if is_sharded:
        blocks = sorted(map(_frozen_bytes, blocks_of(getattr(model, "base_model", model))))
        gathered = whole - sum(blocks) + sum(blocks[-2:])
    copies = 2 if processes > 1 else 1
    return MemoryEstimate(whole / processes if is_sharded else whole, gathered, own, copies * own, averages)


def _frozen_bytes(module: nn.Module) -> float:
    """Bytes of what a module keeps and does not train: of quantised weights also their scales and tables."""
    # By the objects themselves, so that a weight with two names counts once.
    kept = {id(value): value for value in module.state_dict(keep_vars=True).values() if isinstance(value, Tensor)}
    return float(sum(_stored_bytes(value) for value in kept.values() if not value.requires_grad))


def _stored_bytes(value: Tensor) -> int:
    """Bytes of a tensor; of one of its own kind that of its parts, such as torchao's numbers and scales."""
    if not is_sharded(value) and hasattr(value, "__tensor_flatten__"):
        parts = [getattr(value, name) for name in value.__tensor_flatten__()[0]]
        return sum(_stored_bytes(part) for part in parts)
    return value.numel() * value.element_size()

"""What accelerate keeps for the whole process (precision, device, gradient accumulation), for one trainer at a time."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from accelerate.utils import AutocastKwargs, DistributedType
from torch import Tensor
from torch.optim import Optimizer

from mopref._warning import warn
from mopref.mixed_precision import autocast
from mopref.training.config import TrainerConfig

__all__ = ["ProcessState", "add_gradients", "agreed_stop", "own_autocast", "plain_optimizer", "start_trackers"]

# Each keeps its content in one dict, which all its instances share; accelerate has no public door to it.
_SHARED: tuple[dict[str, Any], ...] = tuple(
    kind._shared_state for kind in (PartialState, AcceleratorState, GradientState)
)


class ProcessState:
    """The process-wide state of accelerate that one trainer works under, whatever others are set up beside it.

    Accelerate has one precision, one device and one count of accumulated gradients for all accelerators of a process:
    the first one decides, and a later one is refused or silently runs as the first. Here each trainer has its own,
    which is in force while it works; afterwards that of others is as it was.
    """

    def __init__(self) -> None:
        self._content: list[dict[str, Any]] = [{} for _ in _SHARED]
        self._is_in_force = False

    def make_accelerator(self, config: TrainerConfig) -> Accelerator:
        """An accelerator with the config's precision and device.

        Raises:
            ValueError: half precision on a device that has none.
        """
        precision = config.mixed_precision or "no"
        # accelerate launch writes "no" where nothing was asked for.
        asked = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
        if asked not in ("no", precision):
            warn(
                f"ACCELERATE_MIXED_PRECISION is {asked!r}, but the config says mixed_precision="
                f"{config.mixed_precision!r}, which counts: set it there.",
            )
        with self.in_force():
            accelerator = Accelerator(
                mixed_precision=precision,
                cpu=config.cpu,
                log_with=list(config.trackers) or None,
                project_dir=config.output_dir,
                # In the model's forward as in own_autocast.
                kwargs_handlers=[AutocastKwargs(cache_enabled=False)],
            )
            # Its own copy: it tells this trainer's precision also while another's is in force.
            accelerator.state.__dict__ = dict(AcceleratorState._shared_state)
        if precision == "fp16" and accelerator.device.type == "cpu":
            raise ValueError("mixed_precision is 'fp16', which needs a GPU: on the CPU choose 'bf16' or None.")
        return accelerator

    @contextmanager
    def in_force(self) -> Iterator[None]:
        """Within this block accelerate works under this state."""
        if self._is_in_force:
            yield
            return
        previous = [dict(shared) for shared in _SHARED]
        _fill(self._content)
        self._is_in_force = True
        try:
            yield
        finally:
            self._is_in_force = False
            self._content = [dict(shared) for shared in _SHARED]
            # Where there was none before, this one stays, for accelerate's own tools such as its logger.
            _fill([old or new for old, new in zip(previous, self._content, strict=True)])


def own_autocast(accelerator: Accelerator) -> AbstractContextManager[None]:
    """Within this block a model runs in the accelerator's precision, and afterwards, also after an error, as before.

    Not ``Accelerator.autocast``: in older versions of accelerate an error within it leaves mixed precision on for the
    whole process, and without mixed precision an autocast around it stays in force.
    """
    device, precision = accelerator.device, accelerator.mixed_precision
    # Entering one that changes nothing takes as long as a small network's forward.
    if precision == "no" and not torch.is_autocast_enabled(device.type):
        return nullcontext()
    return autocast(device, precision)


def start_trackers(accelerator: Accelerator, config: TrainerConfig) -> None:
    """Start the config's trackers; after a training that broke off they are at work still, and would get all twice."""
    if config.trackers and not accelerator.trackers:
        accelerator.init_trackers("mopref", config={name: str(value) for name, value in vars(config).items()})


def agreed_stop(accelerator: Accelerator, should_stop: bool, signal: int | None) -> tuple[bool, int | None]:
    """Whether to stop, and the signal to obey, the same on every process: one that goes on alone would wait forever.

    Args:
        accelerator: of the training.
        should_stop: what a callback of this process said.
        signal: what this process received.
    """
    if accelerator.num_processes == 1:
        return should_stop, signal
    own = torch.tensor([[int(should_stop), signal or 0]], device=accelerator.device)
    stop, number = accelerator.gather(own).amax(dim=0).tolist()
    return bool(stop), int(number) or None


def _fill(contents: list[dict[str, Any]]) -> None:
    for shared, content in zip(_SHARED, contents, strict=True):
        shared.clear()
        shared.update(content)


def plain_optimizer(accelerator: Accelerator, optimizer: Optimizer) -> Optimizer:
    """The optimiser that accelerate wraps, where nothing but it is needed for a step; else the wrapped one.

    At each step the wrapper looks whether a package is installed, which takes longer than the step of a small model.
    """
    needs_more = accelerator.scaler is not None or accelerator.distributed_type == DistributedType.XLA
    inner = getattr(optimizer, "optimizer", None)
    return inner if isinstance(inner, Optimizer) and not needs_more else optimizer


def add_gradients(accelerator: Accelerator, total: Tensor) -> None:
    """A backward pass from a number, by accelerate where it has a part in it."""
    # Else it would divide by 1 first.
    if accelerator.scaler is None and accelerator.distributed_type == DistributedType.NO:
        total.backward()  # type: ignore[no-untyped-call]
    else:
        accelerator.backward(total)

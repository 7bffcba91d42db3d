"""A frozen base model whose weights are shared out among the processes of a run, by PyTorch's FSDP2."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import Tensor, nn
from torch.optim import Optimizer

from mopref._agreement import ended_together, is_first_process
from mopref._sharded import is_sharded
from mopref.argument_kinds import checks_arguments
from mopref.objective import Objective

__all__ = [
    "average_gradients",
    "blocks_of",
    "check_sharding",
    "has_sharded_base",
    "prepared",
    "save_once",
    "shard_as_asked",
    "shard_base",
]


def has_sharded_base(model: nn.Module) -> bool:
    """Whether some parameter lies on several processes."""
    return any(map(is_sharded, model.parameters()))


@checks_arguments
def shard_base(model: nn.Module) -> nn.Module:
    """Share the frozen parameters out among the processes: each holds a part, and gets a block's while it runs.

    What is trained (adapters, a critic) stays whole on every process, since it is small beside the base: saving,
    exporting, checkpoints and the optimiser are then those of one process, and the trainer averages its gradients.

    Every process calls it, after ``torch.distributed`` was set up, before the trainer is made. ``ParetoTrainer`` does
    so itself under accelerate's FSDP (``fsdp_version: 2``).

    Args:
        model: a ``PreferenceModel``, say; changed in place.

    Returns:
        The model.

    Raises:
        ValueError: no group of processes, a frozen parameter that cannot be shared out, such as one in 4 bits; or a
            PyTorch before 2.7.
    """
    _refuse_what_stays_whole(model)
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        raise ValueError(
            "there is no group of processes to share the base out among: start with accelerate launch or torchrun, and "
            "call torch.distributed.init_process_group first."
        )
    return _shared_out(model)


def _refuse_what_stays_whole(model: nn.Module) -> None:
    frozen = [(name, parameter) for name, parameter in model.named_parameters() if not parameter.requires_grad]
    for name, parameter in frozen:
        if not parameter.is_floating_point() or type(parameter) not in (nn.Parameter, Tensor):
            raise ValueError(
                f"{name} is a {type(parameter).__name__} of {parameter.dtype}, which FSDP cannot share out among "
                "processes: load the base in a floating-point type, or train it whole on each process (DDP)."
            )
    version = tuple(int(part) for part in torch.__version__.split(".")[:2])
    if version < (2, 7):
        raise ValueError(f"sharing a base out needs PyTorch 2.7, and this is {torch.__version__}.")


def _shared_out(model: nn.Module) -> nn.Module:
    from torch.distributed import fsdp

    # A scalar cannot be shared out either; beside a base it is nothing.
    kept = {parameter for parameter in model.parameters() if parameter.requires_grad or parameter.ndim == 0}
    base = getattr(model, "base_model", model)
    for block in blocks_of(base):
        fsdp.fully_shard(block, ignored_params=kept)
    fsdp.fully_shard(base, ignored_params=kept)
    return model


def blocks_of(base: nn.Module) -> list[nn.Module]:
    """The blocks of every outermost list of modules: of a transformer, its layers."""
    blocks: list[nn.Module] = []
    for child in base.children():
        blocks += list(child) if isinstance(child, nn.ModuleList | nn.Sequential) else blocks_of(child)
    return [block for block in blocks if any(not parameter.requires_grad for parameter in block.parameters())]


def shard_as_asked(model: nn.Module, accelerator: Accelerator) -> None:
    """Share the base out where accelerate's configuration asks for FSDP, unless that is done already.

    Raises:
        ValueError: FSDP1, or what :func:`shard_base` refuses.
    """
    if accelerator.distributed_type != DistributedType.FSDP or has_sharded_base(model):
        return
    if accelerator.state.fsdp_plugin.fsdp_version != 2:
        raise ValueError(
            "accelerate asks for FSDP1, which flattens adapters and base into one: write fsdp_version: 2 into its "
            "configuration (examples/accelerate/fsdp2_8_gpus.yaml)."
        )
    _refuse_what_stays_whole(model)
    _shared_out(model)
    for parameter in model.parameters():
        if not is_sharded(parameter):
            parameter.data = parameter.data.to(accelerator.device)
    for module in model.modules():
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, buffer.to(accelerator.device))


def save_once(model: Any, folder: str | Path) -> None:
    """Save a model of a run by its ``save_pretrained``, which every process calls; the first one writes.

    Raises:
        OSError, ValueError: what ``save_pretrained`` refuses; it ends all.
    """
    if has_sharded_base(model):
        # Each has a part of what is noted of the base.
        model.save_pretrained(folder)
        return
    with ended_together():
        if is_first_process():
            model.save_pretrained(folder)


def prepared(accelerator: Accelerator, model: nn.Module, optimizer: Optimizer) -> tuple[nn.Module, Any]:
    """Model and optimiser as accelerate prepares them; where the base is shared out, without a wrapper around it."""
    if not has_sharded_base(model):
        both: tuple[nn.Module, Any] = accelerator.prepare(model, optimizer)
        return both
    own = accelerator.prepare_model(model, device_placement=False, evaluation_mode=True)
    return own, accelerator.prepare_optimizer(optimizer, device_placement=False)


def check_sharding(model: nn.Module, objective: Objective, mixed_precision: str | None) -> None:
    """Refuse what a model whose weights are shared out cannot do.

    Raises:
        ValueError: trained parameters that are shared out; an objective that samples, whose responses end at other
            tokens on each process, while a forward needs all of them; or fp16, whose scaler looks at each process's own
            gradients.
    """
    if not has_sharded_base(model):
        return
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and is_sharded(parameter):
            raise ValueError(
                f"{name} is trained and shared out among processes: share out the frozen base alone, by "
                "mopref.training.shard_base(model), so that every process has the adapters whole."
            )
    if objective.samples_responses:
        raise ValueError(
            f"{type(objective).__name__} samples responses, and the base is shared out among processes (FSDP): a "
            "response ends at another token on each of them, while every forward needs all, so that they would wait "
            "for ever. Train it with a base that is whole on each process (DDP)."
        )
    if mixed_precision == "fp16":
        raise ValueError(
            "mixed_precision is 'fp16', and the base is shared out among processes (FSDP): choose 'bf16' or None."
        )


def average_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Average gradients over the processes; every process has to call it, with the same parameters.

    One without a gradient on some process counts as 0 there, and stays without one where no process has any.
    """
    has_one = torch.tensor([float(p.grad is not None) for p in parameters], device=parameters[0].device)
    torch.distributed.all_reduce(has_one)
    processes = torch.distributed.get_world_size()
    reached = [p for p, count in zip(parameters, has_one.tolist(), strict=True) if count]
    for parameter in reached:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    for dtype in {parameter.dtype for parameter in reached}:
        gradients = [p.grad for p in reached if p.grad is not None and p.dtype == dtype]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        torch.distributed.all_reduce(flat)
        parts = (flat / processes).split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

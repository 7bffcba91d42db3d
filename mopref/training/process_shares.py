"""A state of several processes as one checkpoint: what they have in common once, what is each one's own beside it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from accelerate.utils import recursively_apply, set_seed

from mopref._agreement import gathered_objects
from mopref._sharded import whole_tensor
from mopref._warning import warn
from mopref.training.manifest import damage

__all__ = ["OTHERS", "begin_anew", "share_of", "tell_other_processes", "whole_state"]

# What differs between processes: their own samples, metrics and generators, and whatever else parts keep.
_OWN = ("objective", "pending", "unlogged", "callbacks", "random")
OTHERS = "other_processes"
_SEEDS = 2**31


def whole_state(state: dict[str, Any]) -> dict[str, Any]:
    """A process's state with the others' own parts; every process has to ask.

    Sharded tensors come whole.
    """
    state = recursively_apply(whole_tensor, state)
    # Made where there are several only: a checkpoint of one process is what it always was.
    own = {name: state[name] for name in _OWN}
    others = gathered_objects(recursively_apply(lambda value: value.detach().cpu(), own))[1:]
    return {**state, OTHERS: others} if others else state


def share_of(state: Mapping[str, Any], process: int, processes: int, folder: str | Path) -> dict[str, Any]:
    """What a process goes on from: its own parts where there are as many as wrote them, else the first one's.

    On another number of processes what waited for further steps is drawn anew.

    Args:
        state: as it was read.
        process: the number of this one.
        processes: how many there are.
        folder: the checkpoint, for the message.

    Raises:
        ValueError: others' parts that are none.
    """
    common, others = dict(state), state.get(OTHERS, [])
    common.pop(OTHERS, None)
    if not isinstance(others, list) or not all(
        isinstance(other, dict) and other.keys() == set(_OWN) for other in others
    ):
        raise damage(folder, f"its {OTHERS!r} are not those of processes")
    if processes == 1 + len(others):
        return common if process == 0 else {**common, **others[process - 1]}
    if isinstance(common.get("pending"), list):
        common["pending"] = [[] for _ in common["pending"]]
    return common


def begin_anew(seed: int, step: int, process: int) -> None:
    """Seed the global generators of a process for the steps after this one."""
    set_seed((seed + step + process) % _SEEDS)


def tell_other_processes(manifest: Mapping[str, Any], processes: int, folder: str | Path) -> bool:
    """Whether a run goes on with another number of processes, which is told."""
    wrote = manifest.get("processes", 1)
    if wrote == processes:
        return False
    warn(
        f"{folder} was written by {wrote} processes, and here are {processes}: the run goes on from its model, "
        "optimiser and points, but draws other random numbers than an uninterrupted one, and a step has another number "
        "of rows (batch_size · processes · gradient_accumulation_steps)."
    )
    return True

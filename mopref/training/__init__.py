"""The training loop, on accelerate: trainer, settings, callbacks, checkpoints and the composition of batches."""

from mopref._faces import public_names as _public_names

from .callbacks import HypervolumeCallback as HypervolumeCallback, TrainerCallback as TrainerCallback
from .config import TrainerConfig as TrainerConfig
from .evaluation_callback import EvaluationCallback as EvaluationCallback
from .memory import MemoryEstimate as MemoryEstimate, memory_estimate as memory_estimate
from .sharding import shard_base as shard_base
from .trainer import ParetoTrainer as ParetoTrainer

__all__ = _public_names(globals())

"""Engines that sample rollouts outside of the trainer: ``RLHF(…, engine=VLLM("http://127.0.0.1:8000"))``."""

from mopref._faces import public_names as _public_names

from .engine import ENGINES as ENGINES, EngineSamples as EngineSamples, RolloutEngine as RolloutEngine
from .vllm import VLLM as VLLM

__all__ = _public_names(globals())

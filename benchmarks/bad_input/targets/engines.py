"""Engines that sample rollouts: how they are made; nothing here asks a server."""

from benchmarks.bad_input.target import Target, options_of
from mopref.llm import engines

__all__ = ["TARGETS"]

_GROUP = "objectives on text"


def _vllm() -> dict[str, object]:
    return options_of(engines.VLLM, url="http://127.0.0.1:9")


TARGETS = [
    Target(
        "mopref.llm.engines.VLLM",
        _GROUP,
        engines.VLLM,
        _vllm,
        weight=0.5,
        covers=("mopref.llm.engines.RolloutEngine",),
    ),
    Target(
        "mopref.llm.engines.ENGINES",
        _GROUP,
        lambda part, **options: engines.ENGINES.make(part, **options),
        lambda: {"part": "vllm", "url": "http://127.0.0.1:9"},
        weight=0.3,
    ),
]

"""Exports, and bodies of requests."""

from functools import lru_cache
from pathlib import Path
from typing import Any

from benchmarks.bad_input import tiny, tiny_runs
from benchmarks.bad_input.outcomes import Nonsense
from benchmarks.bad_input.target import Target, options_of, without
from mopref import serving
from mopref.conditioning.lora_names import SCALES_FILE, SHARED, set_names
from mopref.conditioning.scale_files import scales_content

__all__ = ["TARGETS"]

_GROUP = "serving"
_WHICH: dict[str, dict[str, Any]] = {
    "lora": {"preferences": [0.75, 0.25]},
    "lora-grid": {"preferences": [[0.75, 0.25], [0.5, 0.5]]},
    "lora-set": {},
    "gguf": {},
    "merged": {"preferences": {"helpful": 0.75, "harmless": 0.25}},
}


def _exported(**options: Any) -> Any:
    with tiny_runs.no_hub():
        return serving.export(**options)


@lru_cache
def _adapted() -> Any:
    return tiny.adapted()


def _stage_scales(folder: Path) -> None:
    """A set's file of scales, as a linear gate has it."""
    names = ("helpful", "harmless")
    (folder / SCALES_FILE).write_bytes(scales_content(names, set_names(names, True, 0), None))


def _requested_sum(result: Any, arguments: Any) -> None:
    _sum_of([entry["scale"] for entry in result][arguments.get("has_shared") is not False :])


def _scales_sum(result: Any, arguments: Any) -> None:
    _sum_of([scale for name, scale in result.items() if name != SHARED])


def _sum_of(weights: list[float]) -> None:
    if abs(sum(weights) - 1) > 1e-5:
        raise Nonsense(f"the scales of the objectives sum to {sum(weights)}")


def _on_the_grid(result: Any, arguments: Any) -> None:
    if sum(result.weights) != result.steps or min(result.weights) < 0:
        raise Nonsense(f"the weights are {result.weights} of {result.steps} steps")


TARGETS = [
    Target(
        "mopref.serving.parse_name",
        _GROUP,
        serving.parse_name,
        lambda: {
            "name": "hh@helpful=0.75,harmless=0.25",
            "adapters": {"hh": ("helpful", "harmless")},
            "presets": {"even": [0.5, 0.5]},
            "grid": 0.01,
        },
        check=_on_the_grid,
        covers=("mopref.serving.ServedName",),
    ),
    *(
        Target(
            "mopref.serving.export",
            _GROUP,
            _exported,
            lambda form=form, which=which: options_of(
                serving.export, source="run", output="out", form=form, push_to="OWNER/name", **which
            ),
            weight=0.1,
            covers=("mopref.serving.Export",),
            writes=True,
            stage=tiny_runs.stage_run,
            refused_alone=without("gguf") if form == "gguf" else "",
        )
        for form, which in _WHICH.items()
    ),
    Target(
        "mopref.serving.objectives_of",
        _GROUP,
        serving.objectives_of,
        lambda: {"source": "run/adapter"},
        weight=0.3,
        stage=tiny_runs.stage_run,
    ),
    Target(
        "mopref.serving.export_gguf_loras",
        _GROUP,
        serving.export_gguf_loras,
        lambda: {"model": _adapted(), "folder": "out"},
        weight=0.3,
        writes=True,
        refused_alone=without("gguf"),
    ),
    Target(
        "mopref.serving.request_scales",
        _GROUP,
        serving.request_scales,
        lambda: {"preference": [0.25, 0.75], "objectives": ["helpful", "harmless"], "has_shared": True},
        check=_requested_sum,
        covers=("mopref.serving.LoraScale",),
    ),
    Target(
        "mopref.serving.request_scales, of a file",
        _GROUP,
        serving.request_scales,
        lambda: options_of(serving.request_scales, preference={"helpful": 0.25, "harmless": 0.75}, scales="."),
        check=_requested_sum,
        stage=_stage_scales,
    ),
    Target(
        "mopref.serving.lora_scales",
        _GROUP,
        serving.lora_scales,
        lambda: {"folder": ".", "preference": [0.25, 0.75]},
        check=_scales_sum,
        stage=_stage_scales,
    ),
]

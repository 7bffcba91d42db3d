"""A plugin of vLLM's: the name of a model carries a preference, as in ``"model": "hh@helpful=0.7,harmless=0.3"``.

vLLM finds it by the entry point ``vllm.general_plugins``, in every process of an engine, and asks it for a name that no
adapter has yet. It writes the adapter at that λ as a plain LoRA, which vLLM loads like any other. Settings come from
the environment, since a plugin has no others:

    MOPREF_ADAPTERS         hh=/path/to/adapter, several with commas; without it the plugin does nothing
    MOPREF_PRESETS          a JSON file of named preferences
    MOPREF_GRID             the step that λ is rounded to, .01
    MOPREF_LORAS            how many LoRAs of an adapter are kept on the disk, 256
    MOPREF_CACHE            where, as for everything that mopref keeps
    VLLM_ALLOW_RUNTIME_LORA_UPDATING=1, VLLM_PLUGINS=mopref    vLLM's own, to ask plugins at all

A name that is wrong gets no model, which vLLM answers by 404; the reason is in its log, and ``parse_name`` says it.
Nothing heavy is imported at the start.
"""

import asyncio
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mopref._cache import cache_folder
from mopref.serving.lora_folders import adopted, kept, lora_folder, objectives_in
from mopref.serving.names import grid_steps, parse_name, read_presets, rounded_weights

__all__ = ["Settings", "register", "settings_from"]

# A logger below vLLM's own, so that its handlers show what is said here.
_log = logging.getLogger("vllm.mopref")


class Settings(NamedTuple):
    """What is served.

    Attributes:
        places: the adopted adapters, by the names that requests have for them.
        objectives: of each, by the same names.
        presets: λ by the names of presets.
        grid: the step that λ is rounded to.
        most: how many LoRAs of an adapter are kept.
    """

    places: dict[str, Path]
    objectives: dict[str, tuple[str, ...]]
    presets: Mapping[str, Any]
    grid: float
    most: int

    def folder(self, name: str) -> Path:
        """Where the LoRA belongs that the name of a model asks for.

        Raises:
            ValueError: a name that is wrong.
        """
        served = parse_name(name, self.objectives, self.presets, self.grid)
        return lora_folder(self.places[served.adapter], served.weights, served.steps)


def settings_from(environment: Mapping[str, str]) -> Settings | None:
    """The settings of an environment, with each adapter copied into the cache; ``None`` where none is to be served.

    Raises:
        ValueError: a setting that cannot be, or a preset of no adapter's objectives.
        OSError: an adapter that is not there, or a cache that cannot be written into.
    """
    text = environment.get("MOPREF_ADAPTERS", "").strip()
    if not text:
        return None
    # An engine's processes may have other working folders.
    cache = cache_folder(environment.get("MOPREF_CACHE")).absolute() / "loras"
    places: dict[str, Path] = {}
    for part in text.split(","):
        name, _, folder = (side.strip() for side in part.partition("="))
        if not name or not folder or "@" in name or name in places:
            raise ValueError(f"MOPREF_ADAPTERS has {part.strip()!r}: give NAME=FOLDER, each name once and without @.")
        places[name] = adopted(folder, cache)
    objectives = {name: objectives_in(place) for name, place in places.items()}
    most = _number(environment, "MOPREF_LORAS", int, 256)
    if most < 1:
        raise ValueError(f"MOPREF_LORAS is {most}: at least one LoRA has to be kept.")
    grid = _number(environment, "MOPREF_GRID", float, 0.01)
    grid_steps(grid)
    presets = read_presets(environment["MOPREF_PRESETS"]) if environment.get("MOPREF_PRESETS") else {}
    for name, weights in presets.items():
        if not any(_suits(weights, names, grid) for names in objectives.values()):
            raise ValueError(f"MOPREF_PRESETS has {name!r}, which is no preference of any adapter's: {weights!r:.200}.")
    return Settings(places, objectives, presets, grid, most)


def _number(environment: Mapping[str, str], name: str, kind: Callable[[str], Any], default: Any) -> Any:
    text = environment.get(name, "").strip()
    try:
        return kind(text) if text else default
    except ValueError:
        raise ValueError(f"{name} is {text!r:.80}: give a number.") from None


def _suits(weights: Any, objectives: tuple[str, ...], grid: float) -> bool:
    try:
        rounded_weights(weights, objectives, grid)
    except ValueError:
        return False
    return True


def register() -> None:
    """Called by vLLM in each of its processes, when it starts.

    Raises:
        ValueError, OSError: as :func:`settings_from`; the engine does not start.
    """
    settings = settings_from(os.environ)
    if settings is not None:
        _register(settings)


def _register(settings: Settings) -> None:
    from vllm.lora.request import LoRARequest
    from vllm.lora.resolver import LoRAResolver, LoRAResolverRegistry

    class PreferenceResolver(LoRAResolver):  # type: ignore[misc]
        """Answers names that carry a preference."""

        async def resolve_lora(self, base_model_name: str, lora_name: str) -> Any:
            """The LoRA that a name asks for; ``None`` for one that is wrong, or not for this plugin."""
            if "@" not in lora_name:
                return None
            try:
                # Other requests are served meanwhile.
                folder = await asyncio.to_thread(_written, settings, lora_name)
            except (ValueError, TypeError) as error:
                _log.warning("mopref: %.500s", error)
            except OSError:
                _log.exception("mopref: the LoRA of %.200s could not be written.", lora_name)
            else:
                # Its number is given by the caller.
                return LoRARequest(lora_name=lora_name, lora_int_id=1, lora_path=str(folder))
            return None

    LoRAResolverRegistry.register_resolver("mopref", PreferenceResolver())
    _write_before_loading(settings)


def _written(settings: Settings, name: str) -> Path:
    """The LoRA that a name asks for, on the disk."""
    folder = settings.folder(name)
    with kept(folder, settings.most):
        return folder


def _write_before_loading(settings: Settings) -> None:
    """Let the engine's workers find a LoRA that was dropped from the disk since its name was resolved.

    vLLM resolves a name once, and its workers read the folder again whenever the LoRA has left their memory.
    """
    from vllm.lora.worker_manager import WorkerLoRAManager

    load, places = WorkerLoRAManager._load_adapter, set(settings.places.values())
    if getattr(load, "_is_mopref", False):
        return

    def loaded(self: Any, lora_request: Any) -> Any:
        folder = Path(lora_request.lora_path)
        if folder.parent.parent not in places:
            return load(self, lora_request)
        with kept(folder, settings.most):
            return load(self, lora_request)

    loaded._is_mopref = True  # type: ignore[attr-defined]
    WorkerLoRAManager._load_adapter = loaded

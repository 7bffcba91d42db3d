"""Serving: a trained model for other tools, and λ by request on engines that people run already.

What is here is loaded when it is asked for: an engine loads ``mopref.serving.vllm`` where it starts, and needs neither
torch nor transformers for it.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .exporting import Export as Export, export as export, objectives_of as objectives_of
    from .llama_cpp import (
        LoraScale as LoraScale,
        export_gguf_loras as export_gguf_loras,
        request_scales as request_scales,
    )
    from .names import ServedName as ServedName, parse_name as parse_name

_PLACES = {
    "Export": "exporting",
    "LoraScale": "llama_cpp",
    "ServedName": "names",
    "export": "exporting",
    "export_gguf_loras": "llama_cpp",
    "objectives_of": "exporting",
    "parse_name": "names",
    "request_scales": "llama_cpp",
}
__all__ = list(_PLACES)


if not TYPE_CHECKING:

    def __getattr__(name):
        """A name of the user's."""
        from importlib import import_module

        if name not in _PLACES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)

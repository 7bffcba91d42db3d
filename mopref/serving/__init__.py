"""Serving: a trained model for other tools, and λ by request on engines that people run already.

What is here is loaded when it is asked for: an engine loads ``mopref.serving.vllm`` where it starts, and needs neither
torch nor transformers for it.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mopref.conditioning.scale_files import lora_scales as lora_scales

    from .exporting import Export as Export, export as export, objectives_of as objectives_of
    from .llama_cpp import (
        LoraScale as LoraScale,
        export_gguf_loras as export_gguf_loras,
        request_scales as request_scales,
    )
    from .names import ServedName as ServedName, parse_name as parse_name

_PLACES = {
    "Export": "serving.exporting",
    "LoraScale": "serving.llama_cpp",
    "ServedName": "serving.names",
    "export": "serving.exporting",
    "export_gguf_loras": "serving.llama_cpp",
    "lora_scales": "conditioning.scale_files",
    "objectives_of": "serving.exporting",
    "parse_name": "serving.names",
    "request_scales": "serving.llama_cpp",
}
__all__ = list(_PLACES)


if not TYPE_CHECKING:

    def __getattr__(name):
        """A name of the user's."""
        from importlib import import_module

        if name not in _PLACES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"mopref.{_PLACES[name]}"), name)

"""Serving: a trained model for other tools, and λ by request on engines that people run already."""

from mopref._faces import public_names as _public_names

from .exporting import Export as Export, export as export, objectives_of as objectives_of
from .llama_cpp import (
    LoraScale as LoraScale,
    export_gguf_loras as export_gguf_loras,
    request_scales as request_scales,
)

__all__ = _public_names(globals())

"""A language model from a GGUF file, as the safetensors that transformers loads in seconds."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from .download import AssetError

__all__ = ["convert_gguf"]

# The largest difference of logits between the GGUF file's model and the converted one: rounding alone.
_TOLERANCE = 1e-4


def convert_gguf(source: Path, file_name: str, folder: Path) -> None:
    """Write a GGUF file's model and tokenizer to a folder as float32 safetensors, checked by loading them again.

    Args:
        source: the folder that holds the GGUF file.
        file_name: its name.
        folder: where to.

    Raises:
        ImportError: the package gguf is missing.
        AssetError: the converted model's logits differ from the GGUF file's.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if find_spec("gguf") is None:
        raise ImportError(
            "the package gguf is missing, which converting a GGUF file needs: run pip install 'mopref[demo]'."
        )

    original = AutoModelForCausalLM.from_pretrained(
        source, gguf_file=file_name, dtype=torch.float32, trust_remote_code=False
    )
    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=file_name, trust_remote_code=False)
    _unquantized(original).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    _check_logits(original, folder)


def _unquantized(original: Any) -> Any:
    """The same model, to be saved: one from a GGUF file says that it is quantised though its weights no longer are."""
    from transformers import AutoModelForCausalLM

    config = original.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.load_state_dict(original.state_dict())
    model.generation_config = original.generation_config
    model.tie_weights()
    return model.eval()


def _check_logits(original: Any, folder: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    copy = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, trust_remote_code=False).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    tokens = tokenizer("The capital of France is", return_tensors="pt")
    with torch.inference_mode():
        difference = (copy(**tokens).logits - original.eval()(**tokens).logits).abs().max().item()
    if not difference <= _TOLERANCE:
        raise AssetError(
            f"the converted model's logits differ from the GGUF model's by {difference:.2e} on a probe, but by at most "
            f"{_TOLERANCE:.0e} by rounding. Nothing was kept: try another version of transformers or gguf."
        )

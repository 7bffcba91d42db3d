"""What every example begins with: its settings from the command line, a device, a model with fresh adapters."""

import os
import sys
from argparse import ArgumentDefaultsHelpFormatter
from collections.abc import Sequence
from typing import Any, TypeVar

import torch

from mopref.conditioning import PreferenceModel, SVDLoRAConfig
from mopref.llm.demo.assets import smollm2

__all__ = ["DEMO_MODEL", "load_model", "model_name", "parse_settings", "pick_device", "upper_blocks"]

Settings = TypeVar("Settings")

DEMO_MODEL = "SmolLM2-135M-Instruct"


def parse_settings(settings: type[Settings], command_line: Sequence[str] | None, description: str | None) -> Settings:
    """A dataclass of settings from flags of the same names; ``--help`` shows each with its default."""
    from transformers import HfArgumentParser

    parser = HfArgumentParser(
        settings,  # type: ignore[arg-type]
        description=(description or "").split("\n\n")[0],
        formatter_class=ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    result: Settings
    (result,) = parser.parse_args_into_dataclasses(list(sys.argv[1:] if command_line is None else command_line))
    return result


def pick_device(name: str) -> torch.device:
    """The device of that name; with "auto" the GPU where there is one. Ends the program where there is no such GPU."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    if device.type == "cuda":
        if not torch.cuda.is_available():
            sys.exit(f"--device {name}: PyTorch sees no CUDA device here; use --device cpu.")
        torch.cuda.set_device(device)
    return device


def upper_blocks(count: int) -> tuple[int, ...] | None:
    """The indices of that many upper blocks, for ``SVDLoRAConfig(layers=…)``; with 0 those of all."""
    return tuple(range(-count, 0)) or None


def load_model(name: str, config: SVDLoRAConfig, device_name: str) -> tuple[PreferenceModel, Any]:
    """A base model with fresh adapters on a device, and its tokenizer; in bfloat16 on a GPU, in float32 on a CPU.

    Args:
        name: model id or folder; "demo" fetches SmolLM2-135M-Instruct once.
        config: the adapters' settings.
        device_name: as :func:`pick_device` takes it.
    """
    from transformers import AutoTokenizer

    device = pick_device(device_name)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    folder = str(smollm2()) if name == "demo" else name
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    model = PreferenceModel.from_pretrained(folder, config, dtype=dtype).to(device)
    return model, AutoTokenizer.from_pretrained(folder, trust_remote_code=False)


def model_name(name: str) -> str:
    """What a front says the model was."""
    return DEMO_MODEL if name == "demo" else name

"""The command that serves an adapter on a stock vLLM, each request under its own λ, by mopref's plugin."""

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from mopref._repr import short_repr
from mopref.argument_kinds import checks_arguments
from mopref.conditioning.adapter_description import checked_settings, read_config
from mopref.conditioning.adapter_files import named_base
from mopref.conditioning.adapter_folder import checked_folder
from mopref.recipes.run_folder import ADAPTER, RECIPE
from mopref.serving.names import read_presets, rounded_weights

__all__ = ["VLLMCommand", "vllm_command"]

# What --max-lora-rank may be.
_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)


class VLLMCommand(NamedTuple):
    """A command.

    Attributes:
        environment: variables that it needs beside those that are there.
        arguments: behind the interpreter of vLLM's environment.
    """

    environment: dict[str, str]
    arguments: list[str]

    def text(self, python: str = "python", secrets: Mapping[str, str] | None = None) -> str:
        """The command as a shell takes it.

        Args:
            python: the interpreter of vLLM's environment.
            secrets: variables beside, as a shell takes their values: what is printed has no token in it.
        """
        variables = [f"{name}={shlex.quote(value)}" for name, value in self.environment.items()]
        variables += [f"{name}={value}" for name, value in (secrets or {}).items()]
        return " ".join([*variables, shlex.join([python, *self.arguments])])


@checks_arguments
def vllm_command(
    folder: str | Path,
    *,
    name: str | None = None,
    host: str = "127.0.0.1",
    port: int = 8000,
    presets: str | Path | None = None,
    max_loras: int = 8,
    max_batch: int | None = None,
    max_context: int | None = None,
    max_tokens: int | None = None,
) -> VLLMCommand:
    """The command that serves the adapter of a folder.

    Args:
        folder: that of a run or of an adapter; the base model is the one that the adapter names.
        name: what requests call the adapter, ``NAME@helpful=0.7,harmless=0.3``; that of the folder by default.
        host: the address that is listened at.
        port: 1 … 65535.
        presets: a JSON file of named preferences, ``{"balanced": {"helpful": 0.5, "harmless": 0.5}}``.
        max_loras: preferences in one batch.
        max_batch: requests in one batch; what vLLM has by default.
        max_context: most tokens of a prompt and its answer; what the model has by default.
        max_tokens: most tokens of an answer.

    Raises:
        FileNotFoundError: no adapter, or no presets.
        ValueError: an adapter that names no base, a rank that vLLM does not take, a name that cannot be served, a
            number out of its range, or presets of other objectives.
    """
    path = checked_folder(folder)
    adapter = path / ADAPTER if (path / RECIPE).exists() and (path / ADAPTER).exists() else path
    config, base = checked_settings(read_config(adapter)).config, named_base(adapter)
    numbers = {"max_loras": max_loras, "max_batch": max_batch, "max_context": max_context, "max_tokens": max_tokens}
    for what, number in numbers.items():
        if number is not None and number < 1:
            raise ValueError(f"{what} is {number}: it must be at least 1.")
    if not 0 < port < 1 << 16:
        raise ValueError(f"port is {port}: vLLM takes 1 … {(1 << 16) - 1}.")
    variables = {
        "MOPREF_ADAPTERS": f"{_served_name(name or path.resolve().name)}={_listed(adapter)}",
        **({} if presets is None else {"MOPREF_PRESETS": str(_checked_presets(Path(presets), config.objectives))}),
        "VLLM_PLUGINS": "mopref",
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
    }
    flags = ["-m", "vllm.entrypoints.openai.api_server", "--model", base.name]
    flags += ["--revision", base.revision] if base.revision else []
    flags += ["--enable-lora", "--max-lora-rank", str(_rank(config.total_rank))]
    # As many again wait beside them, in the main memory.
    flags += ["--max-loras", str(max_loras), "--max-cpu-loras", str(2 * max_loras)]
    flags += ["--max-num-seqs", str(max_batch)] if max_batch else []
    flags += ["--max-model-len", str(max_context)] if max_context else []
    flags += ["--override-generation-config", json.dumps({"max_new_tokens": max_tokens})] if max_tokens else []
    return VLLMCommand(variables, [*flags, "--host", host, "--port", str(port)])


def _served_name(name: str) -> str:
    if not name or set("@=,") & set(name) or name != name.strip():
        raise ValueError(
            f"the adapter would be called {short_repr(name)}, and requests put its preference behind an @: give it a "
            "name without @, = and commas, by --name."
        )
    return name


def _listed(adapter: Path) -> Path:
    """An adapter's folder as it can stand in a list."""
    whole = adapter.resolve()
    if "," in str(whole):
        raise ValueError(
            f"{whole} has a comma, which separates adapters for the plugin: move it, or serve a link to it."
        )
    return whole


def _rank(rank: int) -> int:
    largest = next((most for most in _RANKS if most >= rank), None)
    if largest is None:
        raise ValueError(f"the adapter's rank k + p·m is {rank}, and vLLM takes {_RANKS[-1]} at most: train a smaller.")
    return largest


def _checked_presets(path: Path, objectives: tuple[str, ...]) -> Path:
    for name, weights in read_presets(path).items():
        try:
            rounded_weights(weights, objectives, 0.01)
        except ValueError as error:
            raise ValueError(f"{path} has the preset {name!r:.80}, which is refused: {error}") from None
    return path.resolve()

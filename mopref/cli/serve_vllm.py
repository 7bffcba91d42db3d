"""``mopref serve --engine vllm``: the command for a stock vLLM, printed or run; no flag is passed over."""

import os
from collections.abc import Sequence
from typing import Any

from mopref.cli.mistakes import UsageError
from mopref.cli.output import tell
from mopref.serving.listening import check_exposure, read_token
from mopref.serving.vllm_command import vllm_command

__all__ = ["VLLM_ONLY", "given_flags", "serve_on_vllm"]

# What vLLM keeps, and what only this engine has.
VLLM_ONLY = ("--max-loras", "--python", "--run")
_KEPT = (
    "--engine", "--host", "--max-batch", "--max-context", "--max-tokens", "--name", "--port", "--presets", "--public",
    "--token-file",
)  # fmt: skip
_REMEDY = {
    "--minimum": "a bound needs mopref's own server, since vLLM answers by the base model, too",
    "--preset": "write it into a file, and give that by --presets",
}


def given_flags(arguments: Sequence[str]) -> list[str]:
    """The flags among the arguments, in order.

    Example:
        >>> given_flags(["runs/latest", "--port=1", "--public"])
        ['--port', '--public']
    """
    return [argument.partition("=")[0] for argument in arguments if argument.startswith("--")]


def serve_on_vllm(given: Any, arguments: Sequence[str]) -> None:
    """Print the command that serves an adapter on vLLM, or become it.

    Args:
        given: the parsed arguments.
        arguments: the same as they were written: what was not written is left to vLLM.

    Raises:
        UsageError: a flag that this engine cannot keep.
        ValueError, OSError: as ``vllm_command``, and an address or a token that cannot be.
    """
    flags = given_flags(arguments)
    lost = next((flag for flag in flags if flag not in (*_KEPT, *VLLM_ONLY)), None)
    if lost is not None:
        raise UsageError(f"{lost} is not kept by vLLM: {_REMEDY.get(lost, 'leave it out, or serve by transformers')}.")
    token = None if given.token_file is None else read_token(given.token_file)
    check_exposure(given.host, given.public, token)
    own = {name: getattr(given, name) for name in ("max_batch", "max_context", "max_tokens")}
    written = {name: value for name, value in own.items() if f"--{name.replace('_', '-')}" in flags}
    options = {"name": given.name, "host": given.host, "port": given.port, "presets": given.presets}
    command = vllm_command(given.folder, **options, max_loras=given.max_loras, **written)
    if not given.run:
        secrets = {} if token is None else {"VLLM_API_KEY": f'"$(cat {_quoted(given.token_file)})"'}
        print(command.text(given.python or "python", secrets))
        return
    if given.python is None:
        raise UsageError("--run needs --python: the interpreter of vLLM's environment, in which mopref is, too.")
    tell(f"vLLM starts with the model {command.arguments[3]}; requests ask for {_asked(command.environment)}@….")
    # Not among the arguments, which other users of the machine can see.
    key = {} if token is None else {"VLLM_API_KEY": token}
    os.execvpe(given.python, [given.python, *command.arguments], {**os.environ, **command.environment, **key})


def _asked(environment: dict[str, str]) -> str:
    return environment["MOPREF_ADAPTERS"].partition("=")[0]


def _quoted(path: str) -> str:
    import shlex

    return shlex.quote(path)

"""``mopref serve``: a model behind OpenAI's HTTP interface, each request under its own preference."""

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from jsonargparse import ArgumentParser

from mopref._named_weights import named_weights
from mopref.cli.arguments import command_parser, parsed
from mopref.cli.mistakes import UsageError
from mopref.cli.output import tell
from mopref.cli.serve_vllm import VLLM_ONLY, given_flags, serve_on_vllm
from mopref.serving.names import read_presets

__all__ = ["parser", "run"]

_USAGE = "RUN|ADAPTER [--port N] [--minimum NAME=X …] [--preset NAME:WEIGHTS …] [--token-file FILE] …"
_DESCRIPTION = """Answer requests over HTTP, each under its own preference, as OpenAI's chat completions.

  mopref serve runs/latest
  mopref serve runs/latest/adapter --port 8080 --minimum harmless=.3 --preset "gentle:helpful=.4,harmless=.6"

Reads the folder of a run or of an adapter, and the model that it names; what is put into the folder later plays no
part. Writes nothing. A request says "preference": {"helpful": 0.7, "harmless": 0.3}. Requests are batched, each with
its own preference; a busy server answers 503 with Retry-After. Only this machine reaches it: another --host needs
--public and --token-file. Ends by Ctrl-C. Needs pip install 'mopref[serve]'.

  mopref serve runs/latest --engine vllm

prints the command for a stock vLLM, whose requests ask for "model": "latest@helpful=0.7,harmless=0.3". With --run
--python VLLM/bin/python it is run in vLLM's environment.

  mopref serve runs/latest --page

also serves a page for browsers at / (pip install 'mopref[page]'): sliders for the preference, a chat, answers side by
side, the run's front, and eight questions that find a visitor's own preference."""


def parser() -> ArgumentParser:
    """The command's parser."""
    made = command_parser("serve", _USAGE, _DESCRIPTION)
    made.add_argument("folder", metavar="RUN|ADAPTER", help="the folder of a run or of an adapter")
    made.add_argument("--engine", choices=["transformers", "vllm"], default="transformers", help="what runs the model")
    made.add_argument("--host", default="127.0.0.1", help="the address that is listened at")
    made.add_argument("--port", type=int, default=8000, help="0 is any that is free")
    made.add_argument("--public", action="store_true", help="let other machines reach it")
    made.add_argument("--token-file", metavar="FILE", help="a file with the token that requests must bear")
    made.add_argument(
        "--minimum", metavar="NAME=X", action="append", default=[], help="the least weight of an objective"
    )
    made.add_argument(
        "--preset", metavar="NAME:WEIGHTS", action="append", default=[], help="a preference that has a name"
    )
    made.add_argument("--presets", metavar="FILE", help="a JSON file of preferences that have names")
    made.add_argument("--page", action="store_true", help="a page for browsers, too: sliders, a chat, the front")
    made.add_argument("--pairs", metavar="FILE", help="pairs that the page asks about; those of the run by default")
    made.add_argument("--name", help="the model's name; that of the folder by default")
    made.add_argument("--max-batch", type=int, default=32, help="requests that are answered at once")
    made.add_argument("--max-queue", type=int, default=128, help="requests that wait beside them")
    made.add_argument("--max-tokens", type=int, default=512, help="most tokens of an answer")
    made.add_argument("--max-context", type=int, default=4096, help="most tokens of a prompt and its answer")
    made.add_argument("--deadline", type=float, default=300.0, help="most seconds of a request, waiting included")
    made.add_argument("--max-loras", type=int, default=8, help="of vLLM: preferences in one batch")
    made.add_argument("--python", help="of vLLM: the interpreter of its environment")
    made.add_argument("--run", action="store_true", help="of vLLM: run the command, which is printed otherwise")
    return made


def run(arguments: Sequence[str]) -> None:
    """Run the command."""
    given = parsed(parser(), arguments)
    if given.engine == "vllm":
        serve_on_vllm(given, arguments)
        return
    lost = next((flag for flag in given_flags(arguments) if flag in VLLM_ONLY), None)
    if lost is not None:
        raise UsageError(f"{lost} is vLLM's: leave it out, or say --engine vllm.")
    # What can be wrong is told before the model is loaded, a missing package among it.
    for package in ("fastapi", "uvicorn", *(("gradio",) if given.page else ())):
        import_module(package)
    from mopref.serving.launch import ServerSettings, make_server
    from mopref.serving.listening import bound_socket, check_exposure, read_token, run_server

    token = None if given.token_file is None else read_token(given.token_file)
    check_exposure(given.host, given.public, token)
    settings = ServerSettings(
        rows=given.max_batch,
        waiting=given.max_queue,
        new_tokens=given.max_tokens,
        context=given.max_context,
        seconds=given.deadline,
        minimums=_weights("--minimum", ",".join(given.minimum)) if given.minimum else {},
        presets=_presets(given.preset, given.presets),
        name=given.name,
        token=token,
        page=given.page,
        pairs=given.pairs,
    )
    with bound_socket(given.host, given.port) as bound:
        server = make_server(given.folder, settings, given.host)
        # Only now, so that nobody is kept waiting by a model that is being loaded.
        bound.listen()
        address = f"{given.host}:{bound.getsockname()[1]}"
        tell(f"{server.terms.name} answers at http://{address}/v1 by {', '.join(server.terms.objectives)}.")
        if given.page:
            tell(f"Its page is at http://{address}/{', with the token as the password' if token else ''}.")
        if server.worker.most_rows < given.max_batch:
            tell("One request at a time: rows of this model cannot join a batch that is under way.")
        run_server(server.app, bound)


def _presets(texts: Sequence[str], file: str | None) -> dict[str, Any]:
    """Preferences by name, of a file and of flags."""
    presets: dict[str, Any] = {} if file is None else dict(read_presets(file))
    for name, weights in map(_preset, texts):
        if name in presets:
            raise UsageError(f"--preset names {name} twice, or once beside the file: leave one out.")
        presets[name] = weights
    return presets


def _preset(text: str) -> tuple[str, dict[str, float]]:
    name, colon, weights = text.partition(":")
    if not name.strip() or not colon:
        raise UsageError(f"--preset is {text!r}: write a name and weights, as in gentle:helpful=.4,harmless=.6.")
    return name.strip(), _weights("--preset", weights)


def _weights(flag: str, text: str) -> dict[str, float]:
    """Numbers by name, such as "helpful=.4,harmless=.6"."""
    try:
        return named_weights(text)
    except ValueError as error:
        raise UsageError(f"{flag} is {text!r}: {error}.") from None

"""The command line: ``mopref train recipe.yaml`` and its siblings, each in a file of its own.

This file imports nothing that is heavy: a command's own module is imported when the command is called.
"""

import difflib
import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version

from mopref._terminal import visible

__all__ = ["COMMANDS", "main"]

# The commands, and what the list of them says; "data inspect" and "data sample" stand in the module data.
COMMANDS = {
    "init": "write a starter recipe with a comment on every setting",
    "train": "train and evaluate what a recipe describes",
    "evaluate": "measure a run's front again, at other preferences for example",
    "generate": "answer prompts at one preference or at several, side by side",
    "export": "write a run's model for PEFT, vLLM or llama.cpp: one LoRA, several, or merged, with a model card",
    "serve": "answer requests over HTTP, each under its own preference",
    "report": "write one HTML file on a run: front, answers, curves, data, recipe",
    "compare": "put the fronts of two runs or more side by side, or train and compare the methods of a recipe",
    "push": "upload a run's adapter to the hub, with its model card",
    "data": "look at the data of a recipe (labels, conflicts, leaks, rows), or have its model write labelled pairs",
    "completion": "print the script that lets a shell complete these commands",
}

# What several processes, which a launcher starts, do together.
_ON_SEVERAL = ("train",)
# Which extra of the package has what a command imports, where it is another than "llm".
_EXTRAS = {"serve": "serve"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command of the command line.

    Returns:
        The exit code: 0 where all went right, 2 for a mistake of the user's (one sentence on standard error), and 1
        for anything else (a traceback, which ``--debug`` shows in every case).

    Raises:
        TypeError: arguments that are no list of texts.
    """
    words = list(sys.argv[1:]) if arguments is None else arguments
    if not isinstance(words, list | tuple) or not all(isinstance(word, str) for word in words):
        raise TypeError(f"arguments are of type {type(words).__name__}: give a list of texts.")
    words = list(words)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    if not words or words[0] in ("-h", "--help", "help"):
        print(_overview())
        return 0
    if words[0] in ("-V", "--version"):
        print(f"mopref {version('mopref')}")
        return 0
    command, *rest = words
    if command not in COMMANDS:
        like = difflib.get_close_matches(command, COMMANDS, n=1)
        hint = f"did you mean `mopref {like[0]}`?" if like else f"there are {', '.join(COMMANDS)}."
        _complain(f"mopref: there is no command {command!r}; {hint}")
        return 2
    return _run(command, rest, debug)


def _overview() -> str:
    lines = [f"  {name:<12}{text}" for name, text in COMMANDS.items()]
    return "\n".join(
        [
            "usage: mopref COMMAND …",
            "",
            "One language model for every balance of objectives: from preference data to a front.",
            "",
            *lines,
            "",
            "  mopref init recipe.yaml && mopref train recipe.yaml",
            "",
            "`mopref COMMAND --help` says what a command reads and writes. --debug shows the traceback of a mistake,",
            "--version the version.",
        ]
    )


def _run(command: str, arguments: list[str], debug: bool) -> int:
    try:
        return _imported_and_run(command, arguments, debug)
    except KeyboardInterrupt as error:
        # Also while modules are imported, which takes seconds.
        _complain(f"mopref {command}: interrupted.", error)
        return 1


def _imported_and_run(command: str, arguments: list[str], debug: bool) -> int:
    try:
        # Their import takes seconds: only where a command is run.
        from mopref._agreement import launched_processes
        from mopref.cli.mistakes import is_mistake
        from mopref.cli.output import quiet_libraries

        quiet_libraries()
        if (processes := launched_processes()) > 1 and command not in _ON_SEVERAL:
            _complain(f"mopref {command}: it is the work of one process, and here are {processes}: call it alone.")
            return 2
        module = import_module(f"mopref.cli.{command}")
    except ModuleNotFoundError as error:
        if debug or (error.name or "").startswith("mopref"):
            raise
        _complain(_missing(command, error))
        return 2
    try:
        module.run(arguments)
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else 0
    except BrokenPipeError:
        # Nobody reads any more, as in `mopref … | head`; the interpreter would complain about it at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except FloatingPointError as error:
        # A training that diverged says where and what to do; nobody's mistake in a setting's form.
        if debug:
            _complain(traceback.format_exc().rstrip(), error)
        _complain(f"mopref {command}: {error}", error)
        return 1
    except ModuleNotFoundError as error:
        if debug or command not in _EXTRAS or (error.name or "").startswith("mopref"):
            raise
        _complain(_missing(command, error))
        return 2
    except Exception as error:
        mistake = is_mistake(error)
        if debug or not mistake:
            _complain(traceback.format_exc().rstrip(), error)
        if mistake:
            # A sentence of the library's own; with a file's name it is the system's, which str() puts together.
            own = error.strerror if isinstance(error, OSError) and error.filename is None else None
            _complain(f"mopref {command}: {own or error}", error)
        return 2 if mistake else 1
    return 0


def _missing(command: str, error: ModuleNotFoundError) -> str:
    extra = "page" if error.name == "gradio" else _EXTRAS.get(command, "llm")
    return f"mopref {command}: the package {error.name} is missing; run pip install 'mopref[{extra}]'."


def _complain(text: str, error: BaseException | None = None) -> None:
    """Say on standard error what went wrong, on one process; the text may quote a file of a stranger's."""
    agreement = sys.modules.get("mopref._agreement")
    if agreement is None or agreement.is_first_to_tell(error):
        print(visible(text), file=sys.stderr, flush=True)

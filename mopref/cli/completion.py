"""``mopref completion``: the script by which a shell completes the commands."""

import argparse
from collections.abc import Sequence
from importlib import import_module

import shtab
from jsonargparse import ArgumentParser

from mopref.cli import COMMANDS
from mopref.cli.arguments import command_parser, parsed

__all__ = ["parser", "run"]

_DESCRIPTION = """Print the script that lets a shell complete commands and settings.

  mopref completion bash > ~/.local/share/bash-completion/completions/mopref

Reads and writes nothing."""


def parser() -> ArgumentParser:
    """The command's parser."""
    made = command_parser("completion", "SHELL", _DESCRIPTION)
    made.add_argument("shell", choices=list(shtab.SUPPORTED_SHELLS), help="the shell")
    return made


def run(arguments: Sequence[str]) -> None:
    """Run the command."""
    shell = parsed(parser(), arguments).shell
    every = argparse.ArgumentParser(prog="mopref")
    commands = every.add_subparsers(dest="command")
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text)
        for action in import_module(f"mopref.cli.{name}").parser()._actions:
            if action.option_strings and "--help" not in action.option_strings:
                takes = (
                    {"choices": action.choices, "metavar": "VALUE"} if action.nargs != 0 else {"action": "store_true"}
                )
                command.add_argument(*action.option_strings, help=_plain(action.help), **takes)  # type: ignore[arg-type]
            elif not action.option_strings:
                command.add_argument(action.dest, nargs=action.nargs, help=_plain(action.help))
    print(shtab.complete(every, shell=shell))


def _plain(text: str | None) -> str:
    return (text or "").replace("%", "%%")

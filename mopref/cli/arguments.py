"""Parsers of the commands: jsonargparse's, with help that keeps its lines, and mistakes in our words."""

import re
from argparse import RawDescriptionHelpFormatter
from collections.abc import Callable, Sequence
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser, DefaultHelpFormatter
from torch import Tensor

from mopref._named_weights import named_weights
from mopref.argument_kinds import checked_texts, checks_arguments
from mopref.cli.mistakes import UsageError
from mopref.objective_names import checked_names
from mopref.preferences import validate_preferences

__all__ = ["command_parser", "first_argument", "named_preferences", "parsed", "take_switch", "take_value"]


# As jsonargparse says that a value is of another kind, and that some are missing.
_OF_A_KIND = re.compile(r"Parser key \"(\w+)\": Expected a <class '(\w+)'>\. Got value: (.*)")
_KINDS = {"int": "a whole number", "float": "a finite number"}
_REQUIRED = "the following arguments are required: "


class _Formatter(RawDescriptionHelpFormatter, DefaultHelpFormatter):
    """Help whose description keeps its lines."""


def command_parser(command: str, usage: str, description: str) -> ArgumentParser:
    """A parser for the command of that name, whose usage goes on so."""
    return ArgumentParser(
        prog=f"mopref {command}",
        usage=f"mopref {command} {usage}",
        description=description,
        formatter_class=_Formatter,
        exit_on_error=False,
        allow_abbrev=False,
    )


def parsed(parser: ArgumentParser, arguments: Sequence[str]) -> Any:
    """What the parser makes of the arguments.

    Raises:
        UsageError: what it does not take.
    """
    try:
        return parser.parse_args(list(arguments))
    except ArgumentError as error:
        reason = _in_our_words(" ".join(str(error).split()), parser)
        raise UsageError(f"{reason}: see `{parser.prog} --help` for what it takes.") from error


def _in_our_words(reason: str, parser: ArgumentParser) -> str:
    """The parser's words for what it does not take, by the names that the help has."""
    if match := _OF_A_KIND.match(reason):
        key, kind, value = match.groups()
        return f"--{key.replace('_', '-')} is {value!r}: it must be {_KINDS.get(kind, kind)}"
    if reason.startswith(_REQUIRED):
        names = {action.dest: action.metavar for action in parser._actions if not action.option_strings}
        missing = reason.removeprefix(_REQUIRED).split(", ")
        return _REQUIRED + ", ".join(str(names.get(name) or name) for name in missing)
    return reason


def first_argument(arguments: Sequence[str], make_parser: Callable[[], ArgumentParser], what: str) -> str:
    """The first argument, which must be no flag; ``--help`` anywhere prints the help and ends the program.

    Raises:
        UsageError: there is none.
    """
    if "-h" in arguments or "--help" in arguments:
        make_parser().print_help()
        raise SystemExit(0)
    if not arguments or arguments[0].startswith("-"):
        raise UsageError(f"{what} comes first: see `{make_parser().prog} --help` for an example.")
    return arguments[0]


def take_switch(arguments: Sequence[str], name: str) -> tuple[bool, list[str]]:
    """Whether a switch is among the arguments, and the others."""
    return name in arguments, [argument for argument in arguments if argument != name]


def take_value(arguments: Sequence[str], name: str) -> tuple[str | None, list[str]]:
    """The value of a flag among the arguments, and the others.

    Raises:
        UsageError: the flag has no value.
    """
    rest = list(arguments)
    for place, argument in enumerate(rest):
        flag, is_joined, value = argument.partition("=")
        if flag != name:
            continue
        end = place + (1 if is_joined else 2)
        value = value if is_joined else "".join(rest[place + 1 : end])
        if not value:
            raise UsageError(f"{name} has no value: write it behind.")
        return value, rest[:place] + rest[end:]
    return None, rest


@checks_arguments
def named_preferences(texts: Sequence[str], names: Sequence[str]) -> Tensor:
    """Preferences such as "helpful=0.7,harmless=0.3", ``(N, m)``.

    Raises:
        UsageError: a text of another form.
        ValueError: weights that are no preference.
    """
    names, texts = checked_texts(checked_names(names), "names"), checked_texts(texts, "texts")
    share = round(1 / len(names), 2)
    example = ",".join(f"{name}={share:g}" for name in names[1:])
    example = f"{names[0]}={1 - share * (len(names) - 1):.2g}" + (f",{example}" if example else "")
    rows = []
    for text in texts:
        try:
            rows.append(named_weights(text))
        except ValueError as error:
            problem = f"--preference is {text!r}: {error}; write a weight for each objective, as in {example}."
            raise UsageError(problem) from None
    return validate_preferences(rows, names)

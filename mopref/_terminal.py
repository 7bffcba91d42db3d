r"""Texts of users and strangers as they are shown: what a terminal would obey is written out, not sent.

A name, a record, an answer or an error's message may hold anything. A terminal takes some characters as orders: it
moves, recolours, renames its window, and some write into what is typed next. Marks of writing direction make a text
look like another one.
"""

import re

__all__ = ["visible", "visible_line"]

# Control characters but tab and line feed, line and paragraph separators, marks that turn the writing direction
# (those that only accompany a letter stay), and halves of characters, which no stream can write.
_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: str) -> str:
    r"""A text of several lines with every character that a terminal would obey as an escape, such as ``\x1b``.

    Line feeds and tabs stay, and a carriage return before a line feed goes.

    Example:
        >>> print(visible("a \x1b[31mred\x07 text"))
        a \x1b[31mred\x07 text
    """
    return _OBEYED.sub(_escape, text.replace("\r\n", "\n"))


def visible_line(text: str) -> str:
    r"""The same for a text of one line, such as a name: line feeds and tabs are escapes, too.

    Example:
        >>> print(visible_line("one\ntwo"))
        one\ntwo
    """
    return _OBEYED.sub(_escape, text).replace("\n", r"\n").replace("\t", r"\t")


def _escape(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode("ascii")

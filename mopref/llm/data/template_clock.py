"""Chat templates that write the date: the same one in all rows, and whether any is written."""

import re
from datetime import datetime
from typing import Any

__all__ = ["TWO_MOMENTS", "asks_for_now", "at_moment", "clock_template"]

# They differ in every part of a date and time.
TWO_MOMENTS = (datetime(1999, 2, 3, 4, 5, 6, 7), datetime(2038, 11, 12, 13, 14, 15, 16))
_CALL = re.compile(r"\bstrftime_now\(\s*(?:format\s*=\s*)?(?P<quote>['\"])(?P<format>.*?)(?P=quote)\s*\)")


def clock_template(tokenizer: Any) -> str | None:
    """A tokenizer's chat template if it asks for the date or time of now; ``None`` if it does not."""
    if "strftime_now" not in str(getattr(tokenizer, "chat_template", None)):
        return None
    template = tokenizer.get_chat_template()
    return template if "strftime_now" in template else None


def asks_for_now(template: str) -> bool:
    """Whether a template has a call for the date or time of now, in whatever form."""
    return re.search(r"\bstrftime_now\s*\(", template) is not None


def at_moment(template: str, moment: datetime) -> str:
    """A template with one moment's date and time in the place of those of now.

    Example:
        >>> at_moment("Today is {{ strftime_now('%d %b %Y') }}.", datetime(2026, 11, 28))
        "Today is {{ '28 Nov 2026' }}."
    """
    return _CALL.sub(lambda call: repr(moment.strftime(call["format"])), template)

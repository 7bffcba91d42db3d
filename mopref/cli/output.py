"""What the commands print: results on standard output, what is being done on standard error; plain in a file.

All of it goes through here, since it may hold texts of others, which must not order a terminal about. Of several
processes the first one prints.
"""

import logging
import shutil
import sys
import warnings
from typing import Any

from mopref._agreement import is_first_process
from mopref._terminal import visible

__all__ = ["quiet_libraries", "show", "tell", "terminal_width"]


def show(text: str) -> None:
    """Print a result on standard output."""
    if is_first_process():
        print(visible(text))


def tell(line: str) -> None:
    """Say on standard error what is being done."""
    if is_first_process():
        print(visible(line), file=sys.stderr, flush=True)


def terminal_width() -> int | None:
    """The characters of a line on the terminal that results are printed on; ``None`` for a file."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def quiet_libraries() -> None:
    """Let warnings be sentences, and other libraries draw bars on a terminal only."""
    warnings.showwarning = _show_warning
    # What they say of their own files on machines that have them, and bitsandbytes at each product that it rounds.
    for name in ("torchao", "torch.utils._pytree", "bitsandbytes"):
        logging.getLogger(name).setLevel(logging.ERROR)
    if not sys.stderr.isatty():
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()


def _show_warning(message: Any, category: Any, filename: str, lineno: int, file: Any = None, line: Any = None) -> None:
    tell(f"warning: {message}")

"""Rows of the matrix, and the matrix as a Markdown table that grows by a line for each family."""

import logging
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from columns import COLUMNS, column_of
from family_inputs import Factory
from outcomes import Cell, outcome
from tiny_models import FAMILIES, PACKED_BASES, SEQUENCE_TO_SEQUENCE

__all__ = ["SYMBOLS", "add_row", "line_of", "print_matrix", "quiet_transformers", "read_factories", "row_of"]

SYMBOLS = {"right": "·", "refused": "c", "base": "b", "wrong": "**W**", "foreign": "**F**"}


def read_factories(names: Sequence[str]) -> dict[str, Factory]:
    """The factories of the families, encoder-decoders and packed bases with these names; all families for none.

    Raises:
        ValueError: a name that is none of theirs.
    """
    every = {**FAMILIES, **SEQUENCE_TO_SEQUENCE, **PACKED_BASES}
    unknown = [name for name in names if name not in every]
    if unknown:
        raise ValueError(f"unknown families {', '.join(unknown)}: choose among {', '.join(every)}.")
    return {name: every[name] for name in names or FAMILIES}


def row_of(make: Factory, columns: Sequence[str] | None = None) -> dict[str, Cell]:
    """The outcome of each column on a family."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {name: outcome(column_of(name, make)) for name in columns or COLUMNS}


def print_matrix(
    factories: Mapping[str, Factory],
    columns: Sequence[str] | None = None,
    markdown: Path | None = None,
    details: Path | None = None,
) -> int:
    """Print a line for each family as it is done; write it and the reasons to new files, where given.

    Returns:
        The number of cells that are at fault.
    """
    quiet_transformers()
    names = list(columns or COLUMNS)
    for path in (markdown, details):
        if path is not None:
            path.unlink(missing_ok=True)
    print(header_of(names))
    faults = 0
    for family, make in factories.items():
        cells = row_of(make, names)
        print(line_of(family, cells), flush=True)
        add_row(family, cells, markdown, details)
        faults += sum(cell.is_fault for cell in cells.values())
    return faults


def quiet_transformers() -> None:
    """Keep transformers' and PEFT's advice off the table."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    logging.getLogger("peft").setLevel(logging.ERROR)


def header_of(columns: Iterable[str]) -> str:
    """The first two lines of the table."""
    names = list(columns)
    return f"| family | {' | '.join(names)} |\n|{'---|' * (len(names) + 1)}"


def line_of(family: str, cells: Mapping[str, Cell]) -> str:
    """A family's line of the table."""
    return f"| {family} | {' | '.join(SYMBOLS[cell.kind] for cell in cells.values())} |"


def add_row(family: str, cells: Mapping[str, Cell], markdown: Path | None, details: Path | None) -> None:
    """Add a family's line to the table, and a line for each cell that is not right to the details.

    Several processes may write the same files: the first one to come writes the header, and a row is one write.
    """
    if markdown is not None:
        _add(markdown, header_of(cells), line_of(family, cells))
    if details is not None:
        reasons = [
            f"| {family} | {name} | {cell.text.replace('|', '/')} | {cell.place} |"
            for name, cell in cells.items()
            if cell.text != "right"
        ]
        _add(details, "| family | column | outcome | last line of mopref |\n|---|---|---|---|", *reasons)


def _add(path: Path, header: str, *lines: str) -> None:
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(f"{header}\n")
    except FileExistsError:
        pass
    with path.open("a", encoding="utf-8") as file:
        file.write("".join(f"{line}\n" for line in lines))

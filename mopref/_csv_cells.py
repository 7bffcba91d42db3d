"""The cells of a CSV text, however long they are."""

import csv
import io
import sys
from collections.abc import Iterator

__all__ = ["csv_cells"]


def csv_cells(text: str) -> Iterator[tuple[int, list[str]]]:
    """The cells of each row that is not blank, with the number of its last line, which counts from 1.

    Raises:
        ValueError: what is no CSV, such as a quote that is not closed; the line is named.
    """
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    while True:
        # The longest cell that is read is a setting of the whole process, so it is put back at once.
        longest = csv.field_size_limit(sys.maxsize)
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise ValueError(
                f"line {reader.line_num} is no CSV ({error}): double the quotes within a quoted cell."
            ) from None
        finally:
            csv.field_size_limit(longest)
        if cells:
            yield reader.line_num, cells

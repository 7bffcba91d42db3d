"""The matrix of model families: ``python tests/families/table.py [FAMILY …] [--columns dpo,lora] [--markdown FILE]``.

A line for each family as it is done. ``·`` right, ``c`` refused by mopref with a reason, ``b`` the base's own doing,
``W`` wrong number, ``F`` an error in other words than mopref's.
"""

import argparse
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))

from matrix import print_matrix, read_factories


def main() -> int:
    """Print the table and return how many cells are at fault."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("families", nargs="*", metavar="FAMILY", help="names of families; all by default")
    parser.add_argument("--columns", help="names of columns, separated by commas; all by default")
    parser.add_argument("--markdown", type=Path, help="also write the table to this file, a line at a time")
    parser.add_argument("--details", type=Path, help="also write what each cell that is not right says to this file")
    options = parser.parse_args()
    columns = None if options.columns is None else options.columns.split(",")
    return print_matrix(read_factories(options.families), columns, options.markdown, options.details)


if __name__ == "__main__":
    sys.exit(min(1, main()))

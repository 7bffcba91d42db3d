"""Lets the tests of this folder import the helper modules that lie beside them and beside the tests of families."""

import sys
from pathlib import Path

FOLDER = Path(__file__).parent
sys.path += [str(FOLDER), str(FOLDER.parent / "families")]

"""``python -m mopref``, by which launchers of several processes start the command line."""

import sys

from mopref.cli import main

__all__: list[str] = []

if __name__ == "__main__":
    sys.exit(main())

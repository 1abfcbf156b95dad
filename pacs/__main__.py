"""``python -m pacs`` is the ``pacs`` command."""

import sys

from pacs.cli import main

if __name__ == "__main__":
    sys.exit(main())

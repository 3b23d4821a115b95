"""``python -m minivi`` is the command line."""

import sys

from minivi.cli import main

sys.exit(main())

"""`python -m glade`, the same as the command `glade`."""

import sys

from .cli import main

sys.exit(main())

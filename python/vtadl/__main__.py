"""`python -m vtadl`."""

import sys

from vtadl.cli import main

sys.exit(main())

"""`python -m tpcalc VERB` is `tpcalc VERB`."""

import sys

from tpcalc.cli import main

sys.exit(main())

"""`python -m gateway` is `litfass`."""

import sys

from gateway.cli import main

sys.exit(main())

"""``python -m dfpkeras.cli`` does what the command ``dfpkeras`` does."""

import sys

from dfpkeras.cli.main import main

sys.exit(main())

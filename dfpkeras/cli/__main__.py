"""``python -m dfpkeras.cli`` does what the command ``dfpkeras`` does."""

import sys

from dfpkeras_command import main

sys.exit(main())

"""``python -m dfpkeras_command`` does what the command ``dfpkeras`` does."""

import sys

from dfpkeras_command import main

sys.exit(main())

"""`dfpkeras`, in another number format: python parity_train.py '{"weight_bits": 9}' train ..."""

import json
import sys

import dfpkeras
from dfpkeras.cli.main import main

if __name__ == "__main__":
    dfpkeras.set_number_format(**json.loads(sys.argv[1]))
    sys.exit(main(sys.argv[2:]))

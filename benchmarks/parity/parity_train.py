"""`dfpkeras` with another number format: python parity_train.py '{"weight_bits": 9}' train ..."""

import json
import sys

from dfpkeras import DFP16Policy
from dfpkeras.cli import train_policy
from dfpkeras.cli.main import main

if __name__ == "__main__":
    train_policy.POLICIES["dfp16"] = DFP16Policy(**json.loads(sys.argv[1]))
    sys.exit(main(sys.argv[2:]))

"""`make faults`: runs of the storm from the command line. `--help` says how."""

import sys

from tests.faults.storm.command import main

if __name__ == "__main__":
    sys.exit(main())

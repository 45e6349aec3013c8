"""`python -m wmcomponents.cli`, as `torchrun -m wmcomponents.cli` starts it too."""

import sys

from wmcomponents.cli import main

if __name__ == "__main__":
    sys.exit(main())

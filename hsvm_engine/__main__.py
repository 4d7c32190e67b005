"""`python -m hsvm_engine` is `hsvm`."""

import sys

from hsvm_engine.cli import main

if __name__ == "__main__":
    sys.exit(main())

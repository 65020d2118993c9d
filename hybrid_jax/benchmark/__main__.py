"""`python -m hybrid_jax.benchmark` is `hybrid-jax benchmark`."""

import sys

from hybrid_jax.cli.benchmark import COMMAND
from hybrid_jax.cli.common import start

if __name__ == "__main__":
    sys.exit(start(COMMAND))

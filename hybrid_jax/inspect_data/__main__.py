"""`python -m hybrid_jax.inspect_data` is `hybrid-jax inspect`."""

import sys

from hybrid_jax.cli.common import start
from hybrid_jax.cli.inspect import COMMAND

if __name__ == "__main__":
    sys.exit(start(COMMAND))

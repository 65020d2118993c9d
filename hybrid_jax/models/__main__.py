"""`python -m hybrid_jax.models` is `hybrid-jax models`.

Without arguments it prints the Markdown tables of the README.
"""

import gc
import sys

from hybrid_jax.cli.common import Call, start
from hybrid_jax.cli.models import COMMAND


def run(call: Call) -> int | None:
    """Runs the command; without arguments, as if --markdown was given."""
    return COMMAND.run(call._replace(arguments=call.arguments or ["--markdown"]))


if __name__ == "__main__":
    gc.disable()  # there is little, and looking for it takes a quarter of the time
    sys.exit(start(COMMAND._replace(run=run)))

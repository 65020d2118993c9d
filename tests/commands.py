"""Commands as users type them, in this process: imports and programs are shared."""

import contextlib
import io
import os
from pathlib import Path
from types import SimpleNamespace

from hybrid_jax.main import main

ROOT = Path(__file__).parents[1]


def hybrid_jax(*args, folder=ROOT) -> SimpleNamespace:
    """Runs `hybrid-jax` in a folder.

    Returns:
      As `subprocess.run`: `args`, `returncode`, `stdout` and `stderr`.
    """
    command, here = ["hybrid-jax", *map(str, args)], os.getcwd()
    out, err = io.StringIO(), io.StringIO()
    try:
        os.chdir(folder)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(command)
    finally:
        os.chdir(here)
    return SimpleNamespace(
        args=command, returncode=code, stdout=out.getvalue(), stderr=err.getvalue()
    )

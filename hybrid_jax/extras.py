"""Packages that only one data set or one command needs, installed by an extra."""

import importlib
from types import ModuleType

from hybrid_jax.errors import UserError


def import_extra(
    module: str, *, extra: str, purpose: str, alternative: str = ""
) -> ModuleType:
    """Import a package that `pip install hybrid_jax` alone does not install.

    Args:
      module: name to import, such as `h5py`.
      extra: extra of setup.py that installs it.
      purpose: what needs the package, as the subject of the error message.
      alternative: what to do without the package; empty if there is no such way.

    Raises:
      UserError: the package is not installed; the message gives the command to do so.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        if error.name != package:  # it is installed, but a package that it needs is not
            raise
        raise UserError(
            f"{purpose} needs {package}: pip install 'hybrid_jax[{extra}]'"
            + (f", or {alternative}" if alternative else "")
        ) from None

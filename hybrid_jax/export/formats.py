"""The formats that a run can be exported in. To add one, add its file and a row."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from hybrid_jax.errors import UserError, closest
from hybrid_jax.export import hub, onnx, stablehlo
from hybrid_jax.export.check import Reader
from hybrid_jax.runs.run import Run


class Format(NamedTuple):
    """A row of `FORMATS`.

    Attributes:
      write: writes a run to a path that does not exist, with a temperature.
      load: returns a reader of the path, as another program reads it. A format that
        holds a network alone takes the preparation of images from the run.
      suffix: suffix of the file that is written; empty for a folder.
      require: raises a UserError if a package is missing.
      takes_views: whether it can hold a network that averages over views.
    """

    write: Callable[[Run, Path, float], None]
    load: Callable[[Path, Run], Reader]
    suffix: str = ""
    require: Callable[[], None] = lambda: None
    takes_views: bool = True


FORMATS: dict[str, Format] = {
    "stablehlo": Format(stablehlo.write, stablehlo.load),
    "onnx": Format(onnx.write, onnx.load, suffix=".onnx", require=onnx.require),
    "hub": Format(hub.write, hub.load, takes_views=False),
}


def find_format(name: str) -> Format:
    """Return a format by its name.

    Raises:
      UserError: there is no such format; names a similar one.
    """
    if name not in FORMATS:
        raise UserError(
            f"--format={name} is not known{closest(name, FORMATS)}: take "
            f"{', '.join(FORMATS)}"
        )
    return FORMATS[name]

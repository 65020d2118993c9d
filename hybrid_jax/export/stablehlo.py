"""Write a program as StableHLO, which needs only jax to run on CPUs, GPUs and TPUs."""

import datetime
from pathlib import Path
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from hybrid_jax.export.about import describe
from hybrid_jax.export.check import Reader
from hybrid_jax.export.program import create_program, plain_operations
from hybrid_jax.json_files import write_json
from hybrid_jax.runs.run import Run

PROGRAM, ABOUT = "model.stablehlo", "model.json"
PLATFORMS = ("cpu", "cuda", "tpu")
# How long jax promises that later versions read what a version has written:
# https://docs.jax.dev/en/latest/export/export.html#compatibility-guarantees
READABLE = datetime.timedelta(days=182)


def write(run: Run, folder: Path, temperature: float) -> None:
    """Write a folder with the program and its description."""
    program = create_program(run, temperature)
    (batch,) = jax.export.symbolic_shape("N")
    images = jax.ShapeDtypeStruct((batch, *program.shape), jnp.uint8)
    with plain_operations():
        exported = jax.export.export(
            # The program takes its name from a function.
            jax.jit(lambda images: program(images)),
            platforms=PLATFORMS,
        )(images)
    folder.mkdir()
    (folder / PROGRAM).write_bytes(exported.serialize())
    write_json(folder / ABOUT, describe(run, temperature) | _format())


def load(folder: Path, run: Run) -> Reader:
    """Return a reader of the program in a folder."""
    content = bytearray((folder / PROGRAM).read_bytes())
    program = jax.export.deserialize(content)
    return Reader("jax", lambda images: np.asarray(program.call(images)))


def _format() -> dict[str, Any]:
    today = datetime.datetime.now(datetime.UTC).date()
    return {
        "format": "jax.export (StableHLO)",
        "platforms": list(PLATFORMS),
        "jax": jax.__version__,
        "exported_on": today.isoformat(),
        "readable_until": (today + READABLE).isoformat(),
        "readable_by": "versions of jax released until then, as jax promises for six "
        "months; later ones may read it, and the jax named here does",
    }

"""The program that is exported: from uint8 images to probabilities.

Shapes: N images of height h, width w and C channels; the network takes `[N, H, W, C]`.
"""

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from hybrid_jax.errors import UserError
from hybrid_jax.ops.backend import reference_implementations
from hybrid_jax.runs.derived_run import with_network
from hybrid_jax.runs.run import Run
from hybrid_jax.training.losses import LOSSES
from hybrid_jax.training.step import Network, compute_logits


@dataclass(frozen=True)
class Program:
    """A function from uint8 images to probabilities: resize, normalize, apply, softmax.

    It can be pickled, so that another process can export it.

    Attributes:
      network: the network, in float32.
      variables: variables of the network, float32 arrays by path.
      shape: `(h, w, C)` of the images.
      temperature: divides log probabilities.
      resizing: matrices `[H, h]` and `[W, w]` that resize images to the network's size;
        None where they have that size.
    """

    network: Network
    variables: dict
    shape: tuple[int, int, int]
    temperature: float = 1.0
    resizing: tuple[np.ndarray, np.ndarray] | None = None

    def __call__(self, images: jax.Array) -> jax.Array:
        """Map images uint8 `[N, h, w, C]` to probabilities float32 `[N, classes]`."""
        if self.resizing is not None:
            # `jax.image.resize` as matrix products: every format has these for any N.
            rows, columns = self.resizing
            images = jnp.einsum("nhwc,Hh->nHwc", images.astype(jnp.float32), rows)
            images = jnp.einsum("nHwc,Ww->nHWc", images, columns)
        logits = compute_logits(self.network, self.variables, images)
        scores = LOSSES[self.network.loss.name].scores(logits)
        return jax.nn.softmax(scores / self.temperature)


def create_program(run: Run, temperature: float = 1.0) -> Program:
    """Return the program of a run.

    Args:
      run: the run; a run in bfloat16 computes in float32 here.
      temperature: divides log probabilities, more than 0.

    Raises:
      UserError: the temperature is not a finite number above 0.
    """
    if not (math.isfinite(temperature) and temperature > 0):
        raise UserError(
            f"a temperature of {temperature} is not allowed: give one above 0"
        )
    network = in_float32(run).network
    shape = input_shape(run)
    resizing = None
    if shape[:2] != tuple(network.image_size):
        rows, columns = map(_resizing, shape[:2], network.image_size)
        resizing = rows, columns
    return Program(
        network=network.replace(
            mean=np.asarray(network.mean, np.float32),
            std=np.asarray(network.std, np.float32),
        ),
        variables=jax.tree.map(np.asarray, run.variables),
        shape=shape,
        temperature=float(temperature),
        resizing=resizing,
    )


def in_float32(run: Run) -> Run:
    """Return a run whose network computes in float32, without scanning over blocks."""
    model = run.model.clone(dtype=jnp.dtype(jnp.float32), scan="off")
    return with_network(run, run.network.replace(model=model))


def input_shape(run: Run) -> tuple[int, int, int]:
    """Return `(h, w, C)` of the images that a run's program takes.

    The height and width are those of the data set's images; or those of the network's
    input, if the images had several sizes or another shape.
    """
    height, width = run.form.target or run.form.size
    return height, width, run.form.channels


@contextlib.contextmanager
def plain_operations() -> Iterator[None]:
    """Trace the enclosed code with operations that every platform and format has.

    Products are in full precision: accelerators would otherwise multiply in TF32 or
    bfloat16, and give other probabilities than a CPU.
    """
    with reference_implementations(), full_precision():
        yield


def full_precision() -> contextlib.AbstractContextManager:
    """Trace the enclosed products of float32 in float32, on every platform."""
    context: contextlib.AbstractContextManager = jax.default_matmul_precision("highest")
    return context


def _resizing(old: int, new: int) -> np.ndarray:
    """Return the matrix `[new, old]` of `jax.image.resize` along an axis."""
    return np.asarray(jax.image.resize(jnp.eye(old), (new, old), "bilinear"))

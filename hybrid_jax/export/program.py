"""The program that is exported: from uint8 images to probabilities."""

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from hybrid_jax.engine.run import Run
from hybrid_jax.errors import UserError
from hybrid_jax.ops.backend import reference_implementations
from hybrid_jax.training.losses import LOSSES
from hybrid_jax.training.step import Network, compute_logits


@dataclass(frozen=True)
class Program:
    """Compute probabilities of uint8 images: resize, normalize, apply the network.

    It can be pickled, to be exported by another process.

    Attributes:
      network: in float32.
      variables: of the network, float32 arrays by path.
      shape: `(h, w, C)` of the images.
      temperature: by which log probabilities are divided.
      resizing: matrices `[H, h]` and `[W, w]` that bring images to the network's size;
        None where they have it.
    """

    network: Network
    variables: dict
    shape: tuple[int, int, int]
    temperature: float = 1.0
    resizing: tuple[np.ndarray, np.ndarray] | None = None

    def __call__(self, images: jax.Array) -> jax.Array:
        """Map images uint8 `[N, h, w, C]` to probabilities float32 `[N, classes]`."""
        if self.resizing is not None:
            # `jax.image.resize` as products, which every format has for any N.
            rows, columns = self.resizing
            images = jnp.einsum("nhwc,Hh->nHwc", images.astype(jnp.float32), rows)
            images = jnp.einsum("nHwc,Ww->nHWc", images, columns)
        logits = compute_logits(self.network, self.variables, images)
        scores = LOSSES[self.network.loss.name].scores(logits)
        return jax.nn.softmax(scores / self.temperature)


def create_program(run: Run, temperature: float = 1.0) -> Program:
    """Return the program of a run.

    Args:
      run: the run; one of bfloat16 computes in float32 here.
      temperature: by which log probabilities are divided, more than 0.

    Raises:
      UserError: the temperature is no such number.
    """
    if not (math.isfinite(temperature) and temperature > 0):
        raise UserError(f"a temperature of {temperature} is not allowed: more than 0")
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
    """Return a run whose network computes in float32, block by block."""
    model = run.model.clone(dtype=jnp.dtype(jnp.float32), scan="off")
    return Run(
        config=run.config,
        network=run.network.replace(model=model),
        classes=run.classes,
        form=run.form,
        checkpoint=run.checkpoint,
        variables=lambda: run.variables,
        splits=lambda: run.splits,
        results=run.results,
        workdir=run.workdir,
    )


def input_shape(run: Run) -> tuple[int, int, int]:
    """Return `(h, w, C)` of the images that a run's program takes.

    It is the size of the data set's images, or, where those had several sizes or
    another shape, that of the network's input.
    """
    height, width = run.form.target or run.form.size
    return height, width, run.form.channels


@contextlib.contextmanager
def plain_operations() -> Iterator[None]:
    """Trace operations that every platform and format has, in full precision.

    Accelerators would otherwise multiply in TF32 or bfloat16, and say other
    probabilities than the CPU.
    """
    with reference_implementations(), full_precision():
        yield


def full_precision() -> contextlib.AbstractContextManager:
    """Trace products of float32 that keep float32, on every platform."""
    context: contextlib.AbstractContextManager = jax.default_matmul_precision("highest")
    return context


def _resizing(old: int, new: int) -> np.ndarray:
    """Return the matrix `[new, old]` of `jax.image.resize` along an axis."""
    return np.asarray(jax.image.resize(jnp.eye(old), (new, old), "bilinear"))

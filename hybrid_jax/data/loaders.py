"""From splits to batches inside a compiled program: one interface, two loaders.

The host asks a loader for a `chunk`, which holds what a dispatch of several steps
needs, and the program takes each step's batch out of it with `pick`:

    Resident   data: all images, on the device    chunk: indices of each batch
    Stream     data: nothing                      chunk: the batches themselves

Both take the order of the images from the same function of the step, so they give the
same batches, with any number of workers, devices and hosts.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from hybrid_jax.data import Split
from hybrid_jax.data.order import share_of
from hybrid_jax.data.stream import Batches

MAX_STEPS = 64  # of one dispatch
CHUNK_BYTES = 1 << 25  # of streamed images; several chunks are in memory at a time
AXIS = "data"

Order = Callable[[int], np.ndarray]  # from a step to the indices of its batch


class Loader(Protocol):
    """Attributes:
    steps: at most, in one chunk.
    data: arrays that every dispatch is given; put on the device when first asked for.
    data_shapes: of these.
    shapes: of a chunk.
    """

    steps: int
    data: Any
    data_shapes: Any
    shapes: Any

    def chunk(self, first: int, count: int) -> Any:
        """What steps `first` to `first + count` need."""

    def pick(self, data: Any, chunk: Any, i: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Images uint8 `[B, h, w, C]`, labels `[B]` of step `i` of a chunk; traced."""


def create_loader(
    split: Split,
    order: Order,
    batch_size: int,
    workers: int = 0,
    devices: Sequence[jax.Device] | None = None,
) -> Loader:
    """The loader that suits a split.

    Args:
      split: resident or not.
      order: indices `[batch_size]` of each step.
      batch_size: over all devices and hosts.
      workers: processes that decode a stream; 0 decodes in threads.
      devices: that share each batch; of every host, in the order of the hosts. One by
        default.
    """
    mesh = Mesh(np.asarray(devices or jax.devices()[:1]), (AXIS,))
    if split.resident:
        return Resident(split, order, batch_size, mesh)
    return Stream(split, order, batch_size, mesh, workers)


class Resident:
    """A split that lies on the devices, its images spread over them.

    A small data set is a small array (CIFAR is 154 MB). Gathering a batch there, inside
    the step, costs less than handing one over would.
    """

    def __init__(self, split: Split, order: Order, batch_size: int, mesh: Mesh):
        self.steps = MAX_STEPS
        self._split, self._order = split, order
        self._rows = NamedSharding(mesh, PartitionSpec(AXIS))
        rows = -(-len(split) // mesh.size) * mesh.size
        self.data_shapes = tuple(
            jax.ShapeDtypeStruct((rows, *of), dtype, sharding=self._rows)
            for of, dtype in ((split.shape[1:], jnp.uint8), ((), jnp.int32))
        )
        self._sharding = NamedSharding(mesh, PartitionSpec(None, AXIS))
        self.shapes = jax.ShapeDtypeStruct(
            (self.steps, batch_size), jnp.int32, sharding=self._sharding
        )

    @functools.cached_property
    def data(self) -> tuple[jax.Array, jax.Array]:
        arrays = (self._split.images, self._split.labels)
        return tuple(_spread(array, self._rows) for array in arrays)

    def chunk(self, first: int, count: int) -> jax.Array:
        rows = np.stack([self._order(step) for step in range(first, first + count)])
        rows = _padded(rows, self.steps)
        return jax.make_array_from_callback(
            rows.shape, self._sharding, lambda part: rows[part]
        )

    def pick(self, data, chunk, i):
        images, labels = data
        return images[chunk[i]], labels[chunk[i]]


class Stream:
    """A split that is decoded while the device trains.

    Handing a chunk over and running it are both asynchronous, so the next chunk is on
    its way while the device is busy with the one before.
    """

    def __init__(
        self, split: Split, order: Order, batch_size: int, mesh: Mesh, workers: int
    ):
        host, hosts = jax.process_index(), len({d.process_index for d in mesh.devices})
        shape = (batch_size, *split.shape[1:])
        self.steps = int(np.clip(CHUNK_BYTES // np.prod(shape), 1, MAX_STEPS))
        self.data = self.data_shapes = ()
        self._sharding = NamedSharding(mesh, PartitionSpec(None, AXIS))
        self._batches = Batches(
            split, lambda step: share_of(order(step), host, hosts), workers
        )
        self.shapes = tuple(
            jax.ShapeDtypeStruct((self.steps, *of), dtype, sharding=self._sharding)
            for of, dtype in ((shape, jnp.uint8), ((batch_size,), jnp.int32))
        )

    def chunk(self, first: int, count: int) -> tuple[jax.Array, jax.Array]:
        batches = [self._batches[step] for step in range(first, first + count)]
        return tuple(
            jax.make_array_from_process_local_data(
                self._sharding, _padded(np.stack(parts), self.steps), shape.shape
            )
            for parts, shape in zip(
                zip(*batches, strict=True), self.shapes, strict=True
            )
        )

    def pick(self, data, chunk, i):
        images, labels = chunk
        return images[i], labels[i]


def _spread(array: np.ndarray, sharding: NamedSharding) -> jax.Array:
    """An array over all devices, filled up with zeros to a multiple of their number."""
    missing = -len(array) % sharding.mesh.size
    if missing:
        array = np.concatenate([array, np.zeros_like(array[:missing])])
    return jax.make_array_from_callback(array.shape, sharding, lambda part: array[part])


def _padded(rows: np.ndarray, steps: int) -> np.ndarray:
    """`[count, ...]` filled up to `[steps, ...]`; the rest is never looked at."""
    if len(rows) == steps:
        return rows
    padded = np.zeros((steps, *rows.shape[1:]), rows.dtype)
    padded[: len(rows)] = rows
    return padded

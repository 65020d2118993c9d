"""Loaders: batches of a split inside a compiled program.

The host asks a loader for a `chunk`, which holds what a dispatch of several steps
needs, and the program takes each step's batch out of it with `pick`:

    Resident   data: all images, on the device    chunk: indices of each batch
    Stream     data: nothing                      chunk: the batches themselves

Both take the images of a batch from one function of the step. So their batches are
equal for any number of workers, devices and hosts.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from hybrid_jax.data import Split
from hybrid_jax.data.prefetch import BatchReader, PrefetchedBatches
from hybrid_jax.data.sampler import host_share
from hybrid_jax.parallel.mesh import Devices, create_devices

MAX_STEPS = 64  # steps of one dispatch
SHARED_BYTES = 1 << 24  # of images, to which smaller splits are padded
ROUNDED_BYTES = 1 << 28  # largest split whose rows are padded, which copies it
CHUNK_BYTES = 1 << 25  # of images in a chunk; several chunks are in memory at a time

Order = Callable[[int], np.ndarray]  # from a step to the indices of its batch


class Loader(Protocol):
    """Interface of a loader, which brings batches of a split into a compiled program.

    Attributes:
      steps: largest number of steps in one chunk.
      data: arrays that every dispatch gets; put on the device at the first access.
      data_shapes: shapes of `data`.
      shapes: shapes of a chunk.
    """

    steps: int
    data_shapes: Any
    shapes: Any

    @property
    def data(self) -> Any: ...

    def chunk(self, first: int, count: int) -> Any:
        """Return what a dispatch of `count` steps from step `first` on needs."""

    def pick(self, data: Any, chunk: Any, i: jax.Array) -> tuple[jax.Array, ...]:
        """Return images uint8 `[B, h, w, C]` and labels `[B]` of step `i` of a chunk.

        Extents `[B, 2]` follow where images fill only a part of their arrays. The
        compiled program traces this method.
        """


def create_loader(
    split: Split,
    order: Order,
    batch_size: int,
    workers: int = 0,
    devices: Devices | None = None,
) -> Loader:
    """Create the loader that suits a split.

    Args:
      split: the images; `split.resident` selects the loader.
      order: function from a step to the indices `[batch_size]` of its images.
      batch_size: images of a batch over all devices and hosts; a multiple of the number
        of devices.
      workers: processes that decode a stream; 0 decodes in threads.
      devices: devices that share each batch; one device by default.
    """
    devices = devices or create_devices(count=1)
    if split.resident:
        return Resident(split, order, batch_size, devices)
    return Stream(split, order, batch_size, devices, workers)


class Resident:
    """Loader of a split that lies on the devices, sharded over them.

    A small data set fits (CIFAR is 154 MB), and gathering a batch inside the step costs
    less than a transfer from the host.
    """

    def __init__(self, split: Split, order: Order, batch_size: int, devices: Devices):
        self.steps = MAX_STEPS
        self._split, self._order, self._devices = split, order, devices
        self._rows = _rows_on_devices(split, devices.count)
        self.data_shapes = tuple(
            devices.batch_shape((self._rows, *item_shape), dtype, axis=0)
            for item_shape, dtype in _array_specs(split)
        )
        self.shapes = devices.batch_shape((self.steps, batch_size), jnp.int32, axis=1)

    @functools.cached_property
    def data(self) -> tuple[jax.Array, ...]:
        arrays = (np.asanyarray(self._split.images), *self._split.per_image_arrays)
        padded = tuple(pad_rows(array, self._rows) for array in arrays)
        return self._devices.put(padded, self.data_shapes)

    def chunk(self, first: int, count: int) -> jax.Array:
        rows = np.stack([self._order(step) for step in range(first, first + count)])
        return self._devices.put(pad_rows(rows, self.steps), self.shapes)

    def pick(
        self, data: tuple[jax.Array, ...], chunk: jax.Array, i: jax.Array
    ) -> tuple[jax.Array, ...]:
        axis = self._devices.batch_axis
        numbers = axis.all_gather(chunk[i])
        return tuple(axis.take_rows(array, numbers) for array in data)


class Stream:
    """Loader of batches from the host, which decodes them while the device is busy.

    Transfers and programs are asynchronous, so the next chunk is transferred while the
    device computes on the previous one.
    """

    def __init__(
        self,
        split: Split,
        order: Order,
        batch_size: int,
        devices: Devices,
        workers: int,
    ):
        host, hosts = jax.process_index(), devices.process_count
        shape = (batch_size, *split.shape[1:])
        self.steps = int(np.clip(CHUNK_BYTES // np.prod(shape), 1, MAX_STEPS))
        self.data = self.data_shapes = ()
        self._batch_axis = devices.batch_axis
        local = BatchReader(split, lambda step: host_share(order(step), host, hosts))
        self._batches = local if split.resident else PrefetchedBatches(local, workers)
        self.shapes = tuple(
            devices.batch_shape((self.steps, batch_size, *item_shape), dtype, axis=1)
            for item_shape, dtype in _array_specs(split)
        )

    def chunk(self, first: int, count: int) -> tuple[jax.Array, ...]:
        batches = [self._batches[step] for step in range(first, first + count)]
        columns = zip(*batches, strict=True)
        return tuple(
            self._global_array(np.stack(column), shape)
            for column, shape in zip(columns, self.shapes, strict=True)
        )

    def _global_array(
        self, local: np.ndarray, shape: jax.ShapeDtypeStruct
    ) -> jax.Array:
        """Return the global array of which `local` is this host's part."""
        local = pad_rows(local, self.steps).reshape(self.steps, -1, *shape.shape[2:])
        return jax.make_array_from_process_local_data(
            shape.sharding, local, shape.shape
        )

    def pick(
        self, data: tuple[()], chunk: tuple[jax.Array, ...], i: jax.Array
    ) -> tuple[jax.Array, ...]:
        return tuple(self._batch_axis.all_gather(array[i]) for array in chunk)


def _array_specs(split: Split) -> list[tuple[tuple[int, ...], Any]]:
    """Return the shape and type of one image's entry in each array of a split."""
    beside = [(array.shape[1:], jnp.int32) for array in split.per_image_arrays]
    return [(split.shape[1:], jnp.uint8), *beside]


def _rows_on_devices(split: Split, devices: int) -> int:
    """Return the padded number of rows of a split's arrays, a multiple of the devices.

    A program is compiled for a number of rows. Few images are padded to one size, so
    that the parts of a low-data study share their programs, and images can be added to
    a folder without compiling anew. Others are padded by at most a thirty-second, so
    that folds of a cross-validation, which differ by an image or two, share theirs.
    """
    image_bytes = math.prod(split.shape[1:])
    count = max(len(split), SHARED_BYTES // image_bytes)
    if count * image_bytes <= ROUNDED_BYTES:
        count = _round_up(count, 1 << max(count.bit_length() - 6, 0))
    return _round_up(count, devices)


def _round_up(rows: int, multiple: int) -> int:
    return -(-rows // multiple) * multiple


def pad_rows(rows: np.ndarray, length: int) -> np.ndarray:
    """Pad rows `[count, ...]` to `[length, ...]`; the padding is never read."""
    if len(rows) == length:
        return rows
    padded = np.zeros((length, *rows.shape[1:]), rows.dtype)
    padded[: len(rows)] = rows
    return padded

"""Arrays on devices, and programs for them, in two kinds behind one interface.

jit     One program on whole arrays, which XLA partitions, over a mesh with the axes
        `data` and `fsdp`. A batch is sharded over both. Weights, with their moments and
        averages, are sharded over `fsdp`, and every step all-gathers those that it
        needs (fully sharded data parallelism, Zhao et al. 2023).
pmap    The same program on every device, with a shard of the batch and a copy of the
        state. Augmentation runs on the whole batch everywhere.

Both give the numbers of one device, up to the order of summation.
"""

import abc
import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from hybrid_jax.models.weight_rule import is_weight
from hybrid_jax.ops.backend import target_devices
from hybrid_jax.ops.batch_axis import UNSHARDED, BatchAxis, ShardedAxis, Tree, use_axis

DATA, FSDP = "data", "fsdp"

# Dimensions of a weight that may be sharded over `fsdp`: the first whose size is a
# multiple of the devices is sharded. All else is replicated: vectors and tables of
# positions and tokens are a hundredth of a network's numbers.
SHARDED_DIMENSIONS = (-1, -2)


@dataclasses.dataclass(frozen=True)
class Devices(abc.ABC):
    """A mesh of devices, and the sharding of arrays and programs over it.

    Attributes:
      mesh: devices of all hosts, in the order of the hosts.
    """

    mesh: Mesh

    @property
    def count(self) -> int:
        """Number of devices that share a batch."""
        return self.mesh.size

    @property
    def process_count(self) -> int:
        """Number of processes that the devices belong to."""
        return len({device.process_index for device in self.mesh.devices.flat})

    @property
    def local_count(self) -> int:
        """Number of devices that belong to this process."""
        return len(self.mesh.local_devices)

    @property
    @abc.abstractmethod
    def batch_axis(self) -> BatchAxis:
        """The batch axis that programs are traced on."""

    def sharded_shape(self, shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
        """Return the shape in which an array is sharded along an axis."""
        return shape

    def tracer(
        self, fn: Callable, results: Any = None, donate: tuple[int, ...] = ()
    ) -> Callable[..., Any]:
        """Return a function that traces `fn` from the shapes of its arguments.

        Args:
          fn: function of arrays, or of shards in the kind `pmap`.
          results: a tree, or a prefix of one, of shapes from `state_shapes`, or None
            for replicated results.
          donate: positions of the arguments whose buffers are reused.

        Returns:
          A function whose result has a method `lower`.
        """
        traced = _on_axis(fn, self.batch_axis)
        return lambda *shapes: self._trace(
            traced, self._replicate_by_default(shapes), results, donate
        )

    @abc.abstractmethod
    def _trace(
        self, fn: Callable, shapes: tuple, results: Any, donate: tuple[int, ...]
    ) -> Any:
        """Trace a function; arguments as in `tracer`."""

    def batch_shape(
        self, shape: tuple[int, ...], dtype: jnp.dtype, axis: int
    ) -> jax.ShapeDtypeStruct:
        """Return shape, type and sharding of an array that is sharded along an axis.

        The length of that axis is a multiple of the number of devices.
        """
        return jax.ShapeDtypeStruct(
            self.sharded_shape(shape, axis), dtype, sharding=self.batch_sharding(axis)
        )

    def batch_sharding(self, axis: int) -> NamedSharding:
        """Return the sharding of an array over all devices along an axis."""
        return self._sharding(*[None] * axis, self.mesh.axis_names)

    def state_shapes(self, shapes: Tree) -> Tree:
        """Add the sharding to the shapes of a state, or of a part of one."""
        return jax.tree_util.tree_map_with_path(
            lambda path, x: self._with_sharding(x, self._state_sharding(path, x)),
            shapes,
        )

    def constrain_state(self, state: Tree) -> Tree:
        """Constrain a state inside a program to its sharding."""
        if self.mesh.size == 1:
            return state
        shardings = jax.tree.map(lambda x: x.sharding, self.state_shapes(state))
        return lax.with_sharding_constraint(state, shardings)

    def put(self, arrays: Any, shapes: Any) -> Any:
        """Put arrays, equal on all hosts, on devices in these shapes and shardings."""

        def put_array(x: Any, shape: jax.ShapeDtypeStruct) -> jax.Array:
            if isinstance(x, jax.Array) and x.sharding == shape.sharding:
                return x
            if isinstance(x, jax.Array) and not x.is_fully_addressable:
                return jax.device_put(x, shape.sharding)
            x = np.asarray(x).reshape(shape.shape)
            return jax.make_array_from_callback(
                shape.shape, shape.sharding, lambda index: x[index]
            )

        return jax.tree.map(put_array, arrays, shapes)

    def _state_sharding(self, path: Any, x: Any) -> NamedSharding:
        """Return the sharding of an array of a state."""
        return self._sharding()

    def _sharding(self, *spec: Any) -> NamedSharding:
        return NamedSharding(self.mesh, PartitionSpec(*spec))

    def _replicate_by_default(self, shapes: Any) -> Any:
        """Add a replicated sharding to shapes that have none."""
        return jax.tree.map(
            lambda x: (
                x
                if isinstance(getattr(x, "sharding", None), NamedSharding)
                else self._with_sharding(x, self._sharding())
            ),
            shapes,
        )

    @staticmethod
    def _with_sharding(x: Any, sharding: NamedSharding) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)


@dataclasses.dataclass(frozen=True)
class _MeshAxis(BatchAxis):
    """A batch that XLA shards: parameters are gathered, and gradients resharded."""

    devices: "Jit"

    def gather_params(self, params: Tree) -> Tree:
        return jax.tree_util.tree_map_with_path(self._gather, params)

    def all_gather(self, shard: jax.Array) -> jax.Array:
        return lax.with_sharding_constraint(shard, self.devices.batch_sharding(0))

    def take_rows(self, array: jax.Array, indices: jax.Array) -> jax.Array:
        return self.all_gather(array[indices])

    def _gather(self, path: Any, x: jax.Array) -> jax.Array:
        stored = self.devices._state_sharding(path, x)
        replicated = self.devices._sharding()
        return x if stored == replicated else _reshard(x, stored, replicated)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _reshard(x: jax.Array, old: NamedSharding, new: NamedSharding) -> jax.Array:
    """Constrain to a new sharding; constrain the gradient to the old one.

    Each device then reduces only the part of a gradient that it stores.
    """
    return lax.with_sharding_constraint(x, new)


_reshard.defvjp(
    lambda x, old, new: (_reshard(x, old, new), None),
    lambda old, new, _, gradient: (lax.with_sharding_constraint(gradient, old),),
)


class Jit(Devices):
    """Whole arrays, partitioned by XLA."""

    @property
    def batch_axis(self) -> BatchAxis:
        return _MeshAxis(self) if self.mesh.size > 1 else UNSHARDED

    def _trace(
        self, fn: Callable, shapes: tuple, results: Any, donate: tuple[int, ...]
    ) -> jax.stages.Traced:
        shardings = jax.tree.map(
            lambda x: self._sharding() if x is None else x.sharding,
            results,
            is_leaf=lambda x: x is None,
        )
        jitted = jax.jit(fn, donate_argnums=donate, out_shardings=shardings)
        return jitted.trace(*shapes)

    def _state_sharding(self, path: Any, x: Any) -> NamedSharding:
        parts = self.mesh.shape[FSDP]
        if parts > 1 and is_weight(getattr(path[-1], "key", ""), x.ndim):
            for axis in SHARDED_DIMENSIONS:
                if x.shape[axis] % parts == 0:
                    spec: list[str | None] = [None] * x.ndim
                    spec[axis] = FSDP
                    return self._sharding(*spec)
        return self._sharding()


class Pmap(Devices):
    """A shard on every device: the sharded axis becomes two axes, devices and rows."""

    @property
    def batch_axis(self) -> BatchAxis:
        return ShardedAxis(DATA, self.mesh.size)

    def sharded_shape(self, shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
        size = self.mesh.size
        return (*shape[:axis], size, shape[axis] // size, *shape[axis + 1 :])

    def _trace(
        self, fn: Callable, shapes: tuple, results: Any, donate: tuple[int, ...]
    ) -> "_PmapTrace":
        mapped = jax.pmap(
            fn,
            axis_name=DATA,
            in_axes=tuple(map(_sharded_axis, shapes)),
            out_axes=None,
            devices=[*self.mesh.devices.flat],
            axis_size=self.mesh.size,
            donate_argnums=donate,
        )
        return _PmapTrace(mapped, shapes)


@dataclasses.dataclass
class _PmapTrace:
    """A program of `jax.pmap`, to be lowered like a trace of `jax.jit`."""

    mapped: Any
    shapes: tuple
    out_info = None

    def lower(self) -> jax.stages.Lowered:
        if jax.process_count() == 1:
            return self.mapped.lower(*self.shapes)
        # With several processes, pmap lowers only from arrays that are on the devices.
        shardings = jax.tree.map(lambda x: x.sharding, self.shapes)

        def zeros() -> Any:
            return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), self.shapes)

        return self.mapped.lower(*jax.jit(zeros, out_shardings=shardings)())


def _on_axis(fn: Callable, axis: BatchAxis) -> Callable:
    """Return a function that is traced on a batch axis."""

    @functools.wraps(fn)  # the profiler and the cache show its name
    def traced(*arguments: Any) -> Any:
        with use_axis(axis):
            return fn(*arguments)

    del traced.__wrapped__  # jax would read its arguments
    return traced


def _sharded_axis(shapes: Any) -> int | None:
    """Return the axis along which an argument is sharded; equal for all its arrays."""
    for x in jax.tree.leaves(shapes):
        spec = x.sharding.spec
        return next((i for i, axes in enumerate(spec) if axes), None)
    return None


# Maps a row of devices, and the number of them that shard parameters, to `Devices`.
KINDS: dict[str, Callable[[np.ndarray, int], Devices]] = {
    "jit": lambda row, fsdp: Jit(Mesh(row.reshape(-1, fsdp), (DATA, FSDP))),
    "pmap": lambda row, fsdp: Pmap(Mesh(row, (DATA,))),
}


def create_devices(kind: str = "jit", count: int = 0, fsdp: int = 1) -> Devices:
    """Create the devices of a run.

    Args:
      kind: a key of `KINDS`.
      count: number of devices; 0 takes all devices of all hosts.
      fsdp: number of devices over which parameters are sharded.
    """
    return KINDS[kind](np.asarray(target_devices()[: count or None]), fsdp)

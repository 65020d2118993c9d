"""Arrays on devices, and programs for them, in two kinds behind one interface.

jit     One program about whole arrays, which XLA cuts up, over a mesh with the axes
        `data` and `fsdp`. A batch is cut over both. Weights, with their moments and
        averages, are cut over `fsdp`, and every step puts together what it needs of
        them (fully sharded data parallelism, Zhao et al. 2023).
pmap    The same program on every device, with a share of the batch and a copy of the
        state. Augmentation runs on the whole batch everywhere.

Both give the numbers of one device, up to the order in which sums are added up.
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

from hybrid_jax.models.parameters import is_weight
from hybrid_jax.ops.batch_axis import WHOLE, Place, Share, placed

DATA, FSDP = "data", "fsdp"

# Which dimension of a weight is cut over `fsdp`: the first of these whose size the
# devices divide. All else stays whole: vectors, tables of positions and tokens are a
# hundredth of a network's numbers.
CUTS = (-1, -2)


@dataclasses.dataclass(frozen=True)
class Devices(abc.ABC):
    """A mesh, and what lies where on it.

    Attributes:
      mesh: devices of all hosts, in the order of the hosts.
    """

    mesh: Mesh

    @property
    def shared_by(self) -> int:
        """How many devices share a batch."""
        return self.mesh.size

    @property
    @abc.abstractmethod
    def place(self) -> Place:
        """Where programs are traced for."""

    @abc.abstractmethod
    def cut(self, shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
        """The shape in which an array is spread along an axis, over all devices."""

    @abc.abstractmethod
    def tracer(
        self, fn: Callable, results: Any = None, donate: tuple[int, ...] = ()
    ) -> Callable[..., Any]:
        """What traces a program from the shapes of its arguments, to be lowered.

        Args:
          fn: of arrays, or of shares where this kind has them.
          results: shapes as `state` gives them, or None for what is whole on every
            device; a tree, or what begins one.
          donate: numbers of the arguments that are used up.
        """

    @property
    def hosts(self) -> int:
        """How many processes the devices belong to."""
        return len({device.process_index for device in self.mesh.devices.flat})

    @property
    def here(self) -> int:
        """How many of them are this process's."""
        return len(self.mesh.local_devices)

    def shape(
        self, shape: tuple[int, ...], dtype: jnp.dtype, axis: int
    ) -> jax.ShapeDtypeStruct:
        """Of an array that is spread over all devices along an axis, as it lies there.

        The length of that axis is a multiple of the number of devices.
        """
        return jax.ShapeDtypeStruct(
            self.cut(shape, axis), dtype, sharding=self.spread(axis)
        )

    def spread(self, axis: int) -> NamedSharding:
        """Of arrays that are spread over all devices along an axis."""
        return self._sharding(*[None] * axis, self.mesh.axis_names)

    def state(self, shapes: Any) -> Any:
        """Shapes of a state, or of part of one, with how they lie on the devices."""
        return jax.tree_util.tree_map_with_path(self._of_state, shapes)

    def laid_out(self, state: Any) -> Any:
        """A state that a program makes, as it is to lie on the devices."""
        if self.mesh.size == 1:
            return state
        shardings = jax.tree.map(lambda x: x.sharding, self.state(state))
        return lax.with_sharding_constraint(state, shardings)

    def put(self, arrays: Any, shapes: Any) -> Any:
        """Arrays, equal on all hosts, brought to where shapes have them."""

        def one(x, shape):
            if isinstance(x, jax.Array) and x.sharding == shape.sharding:
                return x
            if isinstance(x, jax.Array) and not x.is_fully_addressable:
                return jax.device_put(x, shape.sharding)
            x = np.asarray(x).reshape(shape.shape)
            return jax.make_array_from_callback(
                shape.shape, shape.sharding, lambda part: x[part]
            )

        return jax.tree.map(one, arrays, shapes)

    def _of_state(self, path, x) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=self._sharding())

    def _sharding(self, *spec) -> NamedSharding:
        return NamedSharding(self.mesh, PartitionSpec(*spec))

    def _complete(self, shapes: Any) -> Any:
        """Shapes with where they lie: on every device whole, if nothing is said."""

        def one(x):
            if isinstance(getattr(x, "sharding", None), NamedSharding):
                return x
            return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=self._sharding())

        return jax.tree.map(one, shapes)


@dataclasses.dataclass(frozen=True)
class _Mesh(Place):
    """Parameters that are cut are put together; their gradients are cut again."""

    devices: "Jit"

    def taken(self, params):
        return jax.tree_util.tree_map_with_path(self._joined, params)

    def whole(self, share):
        return lax.with_sharding_constraint(share, self.devices.spread(0))

    def rows(self, array, numbers):
        return self.whole(array[numbers])

    def _joined(self, path, x):
        cut, whole = self.devices._of_state(path, x).sharding, self.devices._sharding()
        return x if cut == whole else _moved(x, cut, whole)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _moved(x, here, there):
    return lax.with_sharding_constraint(x, there)


def _moved_back(here, there, _, gradient):
    # So that gradients are summed where they are kept, and never whole.
    return (lax.with_sharding_constraint(gradient, here),)


_moved.defvjp(lambda x, here, there: (_moved(x, here, there), None), _moved_back)


class Jit(Devices):
    """Whole arrays, cut by XLA."""

    @property
    def place(self) -> Place:
        return _Mesh(self) if self.mesh.size > 1 else WHOLE

    def cut(self, shape, axis):
        return shape

    def tracer(self, fn, results=None, donate=()):
        traced = _placed(fn, self.place)
        out = jax.tree.map(
            lambda x: self._sharding() if x is None else x.sharding,
            results,
            is_leaf=lambda x: x is None,
        )
        jitted = jax.jit(traced, donate_argnums=donate, out_shardings=out)
        return lambda *shapes: jitted.trace(*self._complete(shapes))

    def _of_state(self, path, x):
        spec, parts = [None] * x.ndim, self.mesh.shape[FSDP]
        weight = is_weight(getattr(path[-1], "key", ""), x.ndim)
        for axis in CUTS if weight else ():
            if x.shape[axis] % parts == 0:
                spec[axis] = FSDP
                break
        cut = parts > 1 and any(spec)
        sharding = self._sharding(*spec) if cut else self._sharding()
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)


class Pmap(Devices):
    """A share on every device: the axis that is cut becomes devices, and their rows."""

    @property
    def place(self) -> Place:
        return Share(DATA, self.mesh.size)

    def cut(self, shape, axis):
        size = self.mesh.size
        return (*shape[:axis], size, shape[axis] // size, *shape[axis + 1 :])

    def tracer(self, fn, results=None, donate=()):
        traced = _placed(fn, self.place)

        def trace(*shapes):
            shapes = self._complete(shapes)
            mapped = jax.pmap(
                traced,
                axis_name=DATA,
                in_axes=tuple(map(_axis, shapes)),
                out_axes=None,
                devices=[*self.mesh.devices.flat],
                axis_size=self.mesh.size,
                donate_argnums=donate,
            )
            return _Lowerable(mapped, shapes)

        return trace


@dataclasses.dataclass
class _Lowerable:
    """What `jax.pmap` is to trace."""

    mapped: Callable
    shapes: tuple
    out_info = None

    def lower(self) -> jax.stages.Lowered:
        if jax.process_count() == 1:
            return self.mapped.lower(*self.shapes)
        # Of several processes it takes nothing but arrays that are on the devices.
        places = jax.tree.map(lambda x: x.sharding, self.shapes)

        def zeros():
            return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), self.shapes)

        return self.mapped.lower(*jax.jit(zeros, out_shardings=places)())


def _placed(fn: Callable, place: Place) -> Callable:
    @functools.wraps(fn)  # the profiler and the cache show its name
    def traced(*arguments):
        with placed(place):
            return fn(*arguments)

    del traced.__wrapped__  # whose arguments jax would look at
    return traced


def _axis(shapes: Any) -> int | None:
    """Along which axis an argument's arrays are spread; all along the same."""
    for x in jax.tree.leaves(shapes):
        spec = x.sharding.spec
        return next((i for i, axes in enumerate(spec) if axes), None)
    return None


# From devices in a row, and over how many of them parameters are cut.
KINDS: dict[str, Callable[[np.ndarray, int], Devices]] = {
    "jit": lambda row, fsdp: Jit(Mesh(row.reshape(-1, fsdp), (DATA, FSDP))),
    "pmap": lambda row, fsdp: Pmap(Mesh(row, (DATA,))),
}


def create_devices(kind: str = "jit", count: int = 0, fsdp: int = 1) -> Devices:
    """The devices of a run.

    Args:
      kind: a row of `KINDS`.
      count: of devices; 0 is all of all hosts.
      fsdp: over how many of them parameters are cut.
    """
    return KINDS[kind](np.asarray(jax.devices()[: count or None]), fsdp)

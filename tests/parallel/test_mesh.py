"""Shardings of arrays, and what programs are given."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AbstractMesh, AxisType

from hybrid_jax.config.schema import Config
from hybrid_jax.errors import UserError
from hybrid_jax.ops.backend import compiling_for
from hybrid_jax.parallel.distributed import Hosts
from hybrid_jax.parallel.mesh import Jit, Pmap, create_devices
from hybrid_jax.programs.experiment import create_run_devices
from hybrid_jax.programs.programs import initialization_program
from tests.training.test_step import make_task


def meshed(kind, *sizes):
    """Devices that need not be there."""
    names = ("data", "fsdp")[: len(sizes)]
    return kind(AbstractMesh(sizes, names, axis_types=(AxisType.Auto,) * len(sizes)))


def specs(tree):
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): x.sharding.spec
        for path, x in leaves
    }


def test_kernels_their_moments_and_averages_are_cut_and_all_else_is_whole():
    task = make_task(optimizer=optax.adam(1e-3), ema_decay=0.9)
    shapes = initialization_program(create_devices(count=1), task, 1).shapes
    sharded = specs(meshed(Jit, 2, 4).state_shapes(shapes))
    for path, spec in sharded.items():
        kernel = path.endswith("/kernel")
        assert ("fsdp" in spec) == kernel, path
    kernels = [path for path in sharded if path.endswith("/kernel")]
    for part in ("params/", "opt_state/", "average/"):
        assert any(path.startswith(part) for path in kernels)


@pytest.mark.parametrize(
    ("shape", "spec"),
    [
        ((3, 3, 16, 32), (None, None, None, "fsdp")),
        ((16, 30), ("fsdp", None)),  # 4 does not divide 30 outputs
        ((3, 3, 1, 30), ()),
    ],
)
def test_a_kernel_is_sharded_along_outputs_or_else_inputs(shape, spec):
    kernel = {"kernel": jax.ShapeDtypeStruct(shape, jnp.float32)}
    found = meshed(Jit, 2, 4).state_shapes(kernel)["kernel"].sharding.spec
    assert tuple(found) == spec


def test_nothing_is_sharded_without_fsdp():
    kernel = {"kernel": jax.ShapeDtypeStruct((16, 32), jnp.float32)}
    for devices in (meshed(Jit, 8, 1), meshed(Pmap, 8)):
        assert not any(devices.state_shapes(kernel)["kernel"].sharding.spec)


def test_batches_lie_on_all_devices():
    jit = meshed(Jit, 2, 4).batch_shape((5, 16, 3), jnp.int32, axis=1)
    assert (jit.shape, tuple(jit.sharding.spec)) == (
        (5, 16, 3),
        (None, ("data", "fsdp")),
    )
    pmap = meshed(Pmap, 8).batch_shape((5, 16, 3), jnp.int32, axis=1)
    assert pmap.shape == (5, 8, 2, 3)


def test_arrays_are_put_where_shapes_have_them():
    devices = create_devices("pmap", count=1)
    shape = devices.batch_shape((4, 2), jnp.float32, axis=0)
    array = np.arange(8, dtype=np.float32).reshape(4, 2)
    put = devices.put({"x": array}, {"x": shape})["x"]
    assert put.sharding == shape.sharding
    np.testing.assert_array_equal(put, array[None])
    assert devices.put(put, shape) is put


def devices_of(hosts=None, **fields):
    config = Config.from_flat({k.replace("_", ".", 1): v for k, v in fields.items()})
    return create_run_devices(
        config.parallel,
        batch_size=config.train.batch_size,
        micro_batches=config.optim.accumulate,
        hosts=hosts or Hosts(),
    )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"parallel_devices": 99}, "config.parallel.devices=99, but there are 8 dev"),
        (
            {"parallel_fsdp": 6},
            "config.parallel.fsdp=6 does not divide the 8 devices: give "
            "--config.parallel.fsdp=2",
        ),
        (
            {"parallel_kind": "pmap", "parallel_fsdp": 2},
            "config.parallel.fsdp=2 is not possible with pmap",
        ),
        (
            {"train_batch_size": 100},
            "config.train.batch_size=100 is no multiple of 8 devices: give "
            "config.parallel.devices=5, or take 96 in a new run",
        ),
        (
            {"train_batch_size": 8, "optim_accumulate": 4},
            "8 is no multiple of 8 devices times 4 micro-batches: give "
            "config.parallel.devices=2, or take 32 in a new run",
        ),
    ],
)
def test_what_devices_cannot_share_is_refused(fields, message):
    with (
        compiling_for(8 * jax.devices()[:1]),
        pytest.raises(UserError, match=message.replace(".", r"\.")),
    ):
        devices_of(**fields)


def test_hosts_use_all_devices():
    with (
        compiling_for(8 * jax.devices()[:1]),
        pytest.raises(UserError, match="uses all their 8 devices: give 0, or start"),
    ):
        devices_of(Hosts(0, 2), parallel_devices=4)


def test_hosts_are_not_told_to_use_some_of_their_devices():
    with (
        compiling_for(8 * jax.devices()[:1]),
        pytest.raises(UserError, match=": start processes with 5 devices in all, or"),
    ):
        devices_of(Hosts(0, 2), train_batch_size=100)

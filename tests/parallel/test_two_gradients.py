"""SAM and Lookahead step alike on one device, and on several of either kind."""

import json
import subprocess
import sys
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hybrid_jax.config.schema import OptimConfig
from hybrid_jax.ops.batch_axis import current_axis
from hybrid_jax.parallel.mesh import create_devices
from hybrid_jax.training import optimizers
from hybrid_jax.training.packed_params import unpack
from hybrid_jax.training.state import create_state
from hybrid_jax.training.step import Task, train_step
from tests.parallel.runs import environment

ROOT = Path(__file__).parents[2]
KINDS = {
    "one": ("jit", 1, 1),
    "jit": ("jit", 4, 1),
    "fsdp": ("jit", 4, 2),
    "pmap": ("pmap", 4, 1),
}


class Perceptron(nn.Module):
    """Two dense layers."""

    num_classes: int = 3

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.tanh(nn.Dense(8, name="block1")(x.reshape(len(x), -1)))
        return nn.Dense(self.num_classes, name="head")(x)


def step_of_shares(task, state, images, labels):
    return train_step(
        task,
        state,
        current_axis().all_gather(images),
        current_axis().all_gather(labels),
    )


def final_weights(kind, name):
    """All parameters, and those evaluated, after three steps."""
    config = OptimConfig(
        name=name, sam_rho=0.5, lookahead_steps=2, momentum=0.5, clip_norm=0.0
    )
    optimizer = optimizers.create_optimizer(
        optimizers.OPTIMIZERS[name], optax.constant_schedule(0.05), config
    )
    task = Task(
        model=Perceptron(),
        create_optimizer=lambda rates: optimizer,
        rates=optimizers.Rates(0.0, 0.0),  # it has its own
        image_size=(4, 4),
        mean=np.float32([127]),
        std=np.float32([64]),
        accumulate=2,
    )
    devices = create_devices(*kind)
    seed = jnp.int32(0)
    state = create_state(task.model, optimizer, seed, (4, 4, 1), averaged=False)
    shapes = devices.state_shapes(jax.eval_shape(lambda: state))
    state = devices.put(state, shapes)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (16, 4, 4, 1), np.uint8)
    labels = rng.integers(0, 3, 16).astype(np.int32)
    task_shapes = devices.state_shapes(jax.eval_shape(lambda: task))
    task = devices.put(task, task_shapes)
    batch = (images, labels)
    batch_shapes = tuple(devices.batch_shape(x.shape, x.dtype, axis=0) for x in batch)
    batch = devices.put(batch, batch_shapes)
    trace = devices.tracer(step_of_shares, results=(shapes, None))
    step = trace(task_shapes, shapes, *batch_shapes).lower().compile()
    for _ in range(3):
        state, _ = step(task, state, *batch)
    trees = unpack(state.params), unpack(state.evaluated)
    return [np.asarray(x).ravel().tolist() for x in jax.tree.leaves(trees)]


@pytest.fixture(scope="module")
def weights():
    ended = subprocess.run(
        [sys.executable, "-m", "tests.parallel.test_two_gradients"],
        cwd=ROOT,
        env=environment(4),
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", ["sgd", "muon"])
@pytest.mark.parametrize("kind", ["jit", "fsdp", "pmap"])
def test_several_devices_step_as_one(weights, kind, name):
    found, expected = weights[f"{kind} {name}"], weights[f"one {name}"]
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=2e-5)


if __name__ == "__main__":
    print(
        json.dumps(
            {
                f"{label} {name}": final_weights(kind, name)
                for label, kind in KINDS.items()
                for name in ("sgd", "muon")
            }
        )
    )

"""Floating-point operations of a training step, counted where nothing is computed."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from hybrid_jax.models.summary import macs_by_part
from hybrid_jax.ops.backend import plain_operations
from hybrid_jax.training.optimizers import held
from hybrid_jax.training.packed_params import unpack
from hybrid_jax.training.state import TrainState
from hybrid_jax.training.step import Task


def flops_of_step(task: Task, state: TrainState, batch_size: int, channels: int) -> int:
    """Of the network and its gradient, for one batch.

    The count is the same on every platform: what augmentation, optimiser and all that
    is no product of matrices or convolution take is not in it, nor what a program
    computes twice or in another form.

    Args:
      task: what is trained.
      state: shapes of one.
      batch_size: images a step.
      channels: of an image.
    """
    images = jax.ShapeDtypeStruct((batch_size, *task.image_size, channels), jnp.float32)
    labels = jax.ShapeDtypeStruct((batch_size,), jnp.int32)

    model = task.model.clone(remat="none")

    def loss(params, batch_stats, images, labels):
        logits, _ = model.apply(
            unpack({"params": held(params, task.freeze), "batch_stats": batch_stats}),
            images,
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": jax.random.key(0)},
        )
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return losses.mean()

    return flops(jax.grad(loss), state.params, state.batch_stats, images, labels)


def flops(fn: Callable, *shapes) -> int:
    """2 for each multiply-accumulate of a function's matrix products and convolutions.

    Args:
      fn: may call `hybrid_jax.ops`, which it is counted with in their plain forms.
      *shapes: of its arguments.
    """
    with plain_operations():
        jaxpr = jax.make_jaxpr(fn)(*shapes)
    return 2 * macs_by_part(jaxpr.jaxpr, ()).total()

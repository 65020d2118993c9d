"""Count the floating-point operations of a training step in a traced program.

XLA counts those of the compiled program (`compiled.cost_analysis()`). That count adds
augmentation, optimizer and what rematerialization computes twice, and differs between
platforms. Model FLOPs utilization (MFU) needs the network's products alone.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from hybrid_jax.config.schema import OptimConfig
from hybrid_jax.models.cost import macs_by_part
from hybrid_jax.ops.backend import reference_implementations
from hybrid_jax.training.freezing import stop_frozen_gradients
from hybrid_jax.training.optimizers import gradients_per_step
from hybrid_jax.training.packed_params import unpack
from hybrid_jax.training.state import TrainState
from hybrid_jax.training.step import Task


def count_step_flops(
    task: Task, state: TrainState, batch_size: int, channels: int, optim: OptimConfig
) -> int:
    """Count the FLOPs of the network and its gradients for one batch.

    The count is the same on every platform. It leaves out augmentation, optimizer, and
    all that is neither a matrix product nor a convolution.

    Args:
      task: model, image size and frozen parameters.
      state: shapes of a training state.
      batch_size: images of a step.
      channels: channels of an image.
      optim: says how often a step computes the gradient.
    """
    model = task.model.clone(remat="none")

    def logit_sum(params: Any, batch_stats: Any, images: jax.Array) -> jax.Array:
        variables = {
            "params": stop_frozen_gradients(params, task.freeze),
            "batch_stats": batch_stats,
        }
        logits, _ = model.apply(
            unpack(variables),
            images,
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": jax.random.key(0)},
        )
        return logits.sum()  # a loss adds no matrix products

    images = jax.ShapeDtypeStruct((batch_size, *task.image_size, channels), jnp.float32)
    args = state.params, state.batch_stats, images
    return gradients_per_step(optim) * count_flops(jax.grad(logit_sum), *args)


def count_flops(function: Callable, *shapes: Any) -> int:
    """Count 2 FLOPs for each multiply-accumulate of matrix products and convolutions.

    Args:
      function: function to trace; its `hybrid_jax.ops` are traced in their plain forms.
      *shapes: shapes and dtypes of its arguments.
    """
    with reference_implementations():
        jaxpr = jax.make_jaxpr(function)(*shapes)
    return 2 * macs_by_part(jaxpr.jaxpr, ()).total()

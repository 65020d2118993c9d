"""Pure steps: one update of the state, one evaluation of a batch.

Both take raw uint8 images. Everything from there to logits is one program, so the host
does nothing per image.
"""

from collections.abc import Callable
from typing import Any, cast

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax import lax

from hybrid_jax.augment import augment, normalize, to_float
from hybrid_jax.augment.affine import views
from hybrid_jax.config.schema import AugmentConfig, LossConfig
from hybrid_jax.ops.batch_axis import current_axis
from hybrid_jax.training import metrics
from hybrid_jax.training.freezing import stop_frozen_gradients
from hybrid_jax.training.losses import compute_loss, weigh_and_smooth
from hybrid_jax.training.optimizers import Rates
from hybrid_jax.training.packed_params import pack_like, unpack
from hybrid_jax.training.state import TrainState


def _static(**default: Any) -> Any:
    """Return a field that is compiled into a program."""
    return flax.struct.field(pytree_node=False, **default)


class Network(flax.struct.PyTreeNode, kw_only=True):
    """A model, and how raw images come to it.

    Array fields are arguments of the compiled programs, so data sets of one shape share
    programs. All other fields are compiled in.

    Attributes:
      model: the Flax module.
      image_size: `(height, width)` of its input.
      mean, std: float32 `[channels]` of the training split, levels 0 to 255.
      fit: key of `augment.affine.CROP_BOXES`: the part of an image of another shape
        that the model sees.
      loss: names the loss, which decides how logits become probabilities.
      views: key of `augment.affine.SYMMETRIES`; logits of images that are not augmented
        are averaged over all views of an image that it makes.
    """

    model: nn.Module = _static()
    image_size: tuple[int, int] = _static()
    mean: jax.Array
    std: jax.Array
    fit: str = _static(default="crop")
    loss: LossConfig = _static(default=LossConfig(label_smoothing=0.0))
    views: str = _static(default="none")


class Task(Network, kw_only=True):
    """A network, and how it is trained: the constants of a training step.

    Attributes:
      create_optimizer: creates the optimizer from `rates`.
      rates: learning rate of each step, and weight decay, of the optimizer.
      augmentation: of training batches.
      ema_decay: of the moving averages; 0 keeps none.
      accumulate: number of micro-batches per step.
      freeze: patterns of frozen parameters.
      class_weights: float32 `[classes]`, how much the images of a class count in the
        loss; None counts all alike.
    """

    create_optimizer: Callable[[Rates], optax.GradientTransformation] = _static()
    rates: Rates
    augmentation: AugmentConfig = _static(default=AugmentConfig())
    ema_decay: float = _static(default=0.0)
    accumulate: int = _static(default=1)
    freeze: tuple[str, ...] = _static(default=())
    class_weights: jax.Array | None = None

    @property
    def optimizer(self) -> optax.GradientTransformation:
        """The optimizer that updates the parameters."""
        return self.create_optimizer(self.rates)

    @property
    def network(self) -> Network:
        """The network alone."""
        return Network(
            model=self.model,
            image_size=self.image_size,
            mean=self.mean,
            std=self.std,
            fit=self.fit,
            loss=self.loss,
        )


def train_step(
    task: Task,
    state: TrainState,
    images: jax.Array,
    labels: jax.Array,
    extents: jax.Array | None = None,
) -> tuple[TrainState, metrics.Sums]:
    """Update the state with one batch.

    Args:
      task: constants of the step.
      state: before the step.
      images: uint8 `[B, h, w, C]`, the whole batch.
      labels: int32 `[B]`.
      extents: `[B, 2]`, height and width that each image fills; None if all do.

    Returns:
      The state after the step, and the sums of the batch's metrics.
    """
    # From seed and step alone, so that a resumed run draws the same.
    key = jax.random.fold_in(jax.random.key(state.seed), state.step)
    augment_key, dropout_key = jax.random.split(key)
    batch = training_batch(task, augment_key, images, labels, extents)
    batch = current_axis().shard(batch)

    def gradients(params: dict) -> tuple[dict, dict, metrics.Sums]:
        return _gradients(task, params, state.batch_stats, batch, dropout_key)

    grads, batch_stats, sums = gradients(state.params)
    updates, opt_state = optax.with_extra_args_support(task.optimizer).update(
        grads,
        state.opt_state,
        state.params,
        # SAM's second gradient, on the same batch with the same dropout.
        grad_fn=lambda params, _: gradients(params)[0],
    )
    state = state.replace(
        step=state.step + 1,
        params=optax.apply_updates(state.params, updates),
        batch_stats=batch_stats,
        opt_state=opt_state,
    )
    if state.average is not None:
        state = state.replace(average=_move_average(state, task.ema_decay))
    return state, current_axis().psum(sums)


def compute_logits(
    network: Network,
    variables: dict,
    images: jax.Array,
    extents: jax.Array | None = None,
) -> jax.Array:
    """Return logits float32 `[B, classes]` of images that are not augmented.

    Args:
      network: the model, and how images come to it.
      variables: of the model, packed or not.
      images: uint8 `[B, h, w, C]`.
      extents: `[B, 2]`, height and width that each image fills; None if all do.
    """
    images = to_float(images, network.image_size, extents, network.fit)
    images = normalize(images, network.mean, network.std)
    variables = unpack(current_axis().gather_params(variables))
    apply = cast(Callable[..., jax.Array], network.model.apply)
    first, *others = views(images, network.views)
    logits = apply(variables, first)
    for view in others:
        logits += apply(variables, view)
    return logits / (1 + len(others)) if others else logits


def eval_step(
    network: Network,
    variables: dict,
    images: jax.Array,
    labels: jax.Array,
    mask: jax.Array,
    extents: jax.Array | None = None,
) -> metrics.Sums:
    """Return the summed metrics of one batch, summed over all devices.

    Args:
      network: the model, and how images come to it.
      variables: of the model, packed or not.
      images: uint8 `[B, h, w, C]`.
      labels: int32 `[B]`.
      mask: float32 `[B]`, 0 for padding.
      extents: `[B, 2]`, height and width that each image fills; None if all do.
    """
    batch = (images, labels, mask, extents)
    images, labels, mask, extents = current_axis().shard(batch)
    logits = compute_logits(network, variables, images, extents)
    sums = metrics.evaluation_sums(logits, labels, mask, network.loss)
    return current_axis().psum(sums)


def training_batch(
    task: Task,
    key: jax.Array,
    images: jax.Array,
    labels: jax.Array,
    extents: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Return a batch as the network sees it, augmented and normalized.

    Args:
      task: constants of the step.
      key: random key of augmentation.
      images: uint8 `[B, h, w, C]`.
      labels: int32 `[B]`.
      extents: `[B, 2]`, height and width that each image fills; None if all do.

    Returns:
      Images float32 `[B, H, W, C]`, and shares of the classes in each, float32
      `[B, classes]`, before label smoothing.
    """
    images, shares = augment(
        key,
        images,
        jax.nn.one_hot(labels, task.model.num_classes),
        task.augmentation,
        task.image_size,
        extents,
        task.fit,
    )
    return normalize(images, task.mean, task.std), shares


def _gradients(
    task: Task,
    params: dict,
    batch_stats: dict,
    batch: tuple[jax.Array, jax.Array],
    key: jax.Array,
) -> tuple[dict, dict, metrics.Sums]:
    """Return the gradient of the mean loss, new batch statistics, and summed metrics.

    Images go to the micro-batches in turn, so that each micro-batch, like the batch, is
    evenly distributed over the devices.

    Args:
      task: constants of the step.
      params: at which the gradient is taken.
      batch_stats: before the step.
      batch: this program's shard of images `[B, H, W, C]` and shares `[B, classes]`.
      key: random key of dropout and drop-path.
    """
    gradient = jax.grad(_mean_loss, argnums=1, has_aux=True)
    if task.accumulate == 1:
        grads, (batch_stats, sums) = gradient(task, params, batch_stats, batch, key)
        return current_axis().pmean(grads), batch_stats, sums

    def add_micro_batch(carry: tuple, micro_batch: tuple) -> tuple[tuple, None]:
        grads, batch_stats, sums = carry
        new_grads, (batch_stats, new_sums) = gradient(
            task, params, batch_stats, *micro_batch
        )
        grads, sums = jax.tree.map(jnp.add, (grads, sums), (new_grads, new_sums))
        return (grads, batch_stats, sums), None

    count = task.accumulate
    micro_batches = jax.tree.map(
        lambda x: jnp.moveaxis(x.reshape(-1, count, *x.shape[1:]), 1, 0), batch
    )
    no_grads = jax.tree.map(jnp.zeros_like, params)
    no_sums = metrics.zeros(task.model.num_classes, training=True)
    (grads, batch_stats, sums), _ = lax.scan(
        add_micro_batch,
        (no_grads, batch_stats, no_sums),
        (micro_batches, jax.random.split(key, count)),
    )
    grads = jax.tree.map(lambda g: g / count, grads)
    return current_axis().pmean(grads), batch_stats, sums


def _mean_loss(
    task: Task,
    params: dict,
    batch_stats: dict,
    batch: tuple[jax.Array, jax.Array],
    key: jax.Array,
) -> tuple[jax.Array, tuple[dict, metrics.Sums]]:
    """Return the mean loss of a batch, with new batch statistics and summed metrics."""
    images, shares = batch
    params = current_axis().gather_params(stop_frozen_gradients(params, task.freeze))
    logits, updated = task.model.apply(
        unpack({"params": params, "batch_stats": batch_stats}),
        images,
        train=True,
        mutable=["batch_stats"],
        rngs={"dropout": key},
    )
    targets = weigh_and_smooth(shares, task.class_weights, task.loss.label_smoothing)
    loss = compute_loss(logits, targets, task.loss)
    sums = metrics.training_sums(logits, shares, loss, task.loss)
    # A network without batch norms has no statistics.
    batch_stats = pack_like(updated.get("batch_stats", {}), batch_stats)
    return loss.mean(), (batch_stats, sums)


def _move_average(state: TrainState, decay: float) -> dict:
    """Return the averages a step closer to the weights.

    The first steps are longer, since the first weights are soon outdated.
    """
    if not decay:  # Lookahead's slow weights are evaluated as they are
        return state.averaged
    step = state.step.astype(jnp.float32)
    rate = 1 - jnp.minimum(decay, (1 + step) / (10 + step))
    # In this form, the average of a constant weight stays exactly equal to it.
    return jax.tree.map(
        lambda old, new: old + rate * (new - old),
        state.average,
        state.averaged,
    )

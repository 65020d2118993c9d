"""The pure steps: one update of the state, one evaluation of a batch.

Both take raw uint8 images; the way from there to logits is jitted whole, so the host
does nothing per image.
"""

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax import lax

from hybrid_jax.augment import augment, normalize, to_float
from hybrid_jax.config.schema import AugmentConfig
from hybrid_jax.ops.batch_axis import place
from hybrid_jax.training import metrics
from hybrid_jax.training.optimizers import held
from hybrid_jax.training.packed_params import rebundled, unbundled
from hybrid_jax.training.state import TrainState


def _fixed(**default):
    """A field that is compiled into a program."""
    return flax.struct.field(pytree_node=False, **default)


class Network(flax.struct.PyTreeNode, kw_only=True):
    """A model, and how raw images come to it.

    Its arrays are arguments of the compiled programs, so that other data of the same
    shape share them; all else is compiled in.

    Attributes:
      model: the Flax module.
      image_size: `(height, width)` of its input.
      mean, std: of each channel of the training split, levels 0 to 255.
      fit: row of `augment.affine.CROP_BOXES`: what the model sees of an image of
        another shape.
    """

    model: nn.Module = _fixed()
    image_size: tuple[int, int] = _fixed()
    mean: jax.Array
    std: jax.Array
    fit: str = _fixed(default="crop")


class Task(Network, kw_only=True):
    """A network, and how it is trained: the constants of a training step.

    Attributes:
      optimiser: updates the parameters.
      augmentation: of training batches.
      label_smoothing: share of a label's mass that is spread over all classes.
      ema_decay: of the moving averages; 0 keeps none.
      accumulate: micro-batches a step.
      freeze: patterns of parameters that are kept.
      class_weights: `[classes]`, of each class's part of the loss; None weighs all
        alike.
    """

    optimiser: optax.GradientTransformation = _fixed()
    augmentation: AugmentConfig = _fixed(default=AugmentConfig())
    label_smoothing: float = _fixed(default=0.0)
    ema_decay: float = _fixed(default=0.0)
    accumulate: int = _fixed(default=1)
    freeze: tuple[str, ...] = _fixed(default=())
    class_weights: jax.Array | None = None

    @property
    def network(self) -> Network:
        """The network alone."""
        return Network(
            model=self.model,
            image_size=self.image_size,
            mean=self.mean,
            std=self.std,
            fit=self.fit,
        )


def train_step(
    task: Task,
    state: TrainState,
    images: jax.Array,
    labels: jax.Array,
    extents: jax.Array | None = None,
) -> tuple[TrainState, metrics.Sums]:
    """One update from one batch.

    Args:
      task: the constants.
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
    grads, batch_stats, sums = _gradients(
        task, state, *place().share(batch), dropout_key
    )
    grads, sums = place().averaged(grads), place().summed(sums)
    updates, opt_state = task.optimiser.update(grads, state.opt_state, state.params)
    state = state.replace(
        step=state.step + 1,
        params=optax.apply_updates(state.params, updates),
        batch_stats=batch_stats,
        opt_state=opt_state,
    )
    if state.average is not None:
        state = state.replace(average=_moved_average(state, task.ema_decay))
    return state, sums


def compute_logits(
    network: Network,
    variables: dict,
    images: jax.Array,
    extents: jax.Array | None = None,
) -> jax.Array:
    """Logits float32 `[B, classes]` of images that are not augmented.

    Args:
      network: the constants.
      variables: of the model, bundled or not.
      images: uint8 `[B, h, w, C]`.
      extents: `[B, 2]`, height and width that each image fills; None if all do.
    """
    images = to_float(images, network.image_size, extents, network.fit)
    images = normalize(images, network.mean, network.std)
    variables = unbundled(place().taken(variables))
    return network.model.apply(variables, images)


def eval_step(
    network: Network,
    variables: dict,
    images: jax.Array,
    labels: jax.Array,
    mask: jax.Array,
    extents: jax.Array | None = None,
) -> metrics.Sums:
    """Sums of the metrics of one whole batch, padded.

    Args:
      network: the constants.
      variables: of the model.
      images: uint8 `[B, h, w, C]`.
      labels: int32 `[B]`.
      mask: `[B]`, 0 for padding.
      extents: `[B, 2]`, height and width that each image fills; None if all do.
    """
    batch = (images, labels, mask, extents)
    images, labels, mask, extents = place().share(batch)
    logits = compute_logits(network, variables, images, extents)
    return place().summed(metrics.evaluation_sums(logits, labels, mask))


def training_batch(
    task: Task,
    key: jax.Array,
    images: jax.Array,
    labels: jax.Array,
    extents: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """What the network sees: images `[B, H, W, C]`, targets `[B, classes]`."""
    targets = jax.nn.one_hot(labels, task.model.num_classes)
    targets = optax.smooth_labels(targets, task.label_smoothing)
    images, targets = augment(
        key,
        images,
        targets,
        task.augmentation,
        task.image_size,
        extents,
        task.fit,
    )
    return normalize(images, task.mean, task.std), targets


def _gradients(task, state, images, targets, key):
    """Mean gradients over micro-batches, the last batch statistics, summed metrics.

    Images go to the micro-batches in turn, so that each of those, like the batch, is
    spread evenly over the devices.
    """

    def loss_fn(params, batch_stats, images, targets, key):
        params = place().taken(held(params, task.freeze))
        logits, updated = task.model.apply(
            unbundled({"params": params, "batch_stats": batch_stats}),
            images,
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": key},
        )
        weighted = targets
        if task.class_weights is not None:
            weighted = targets * task.class_weights
        loss = optax.softmax_cross_entropy(logits, weighted)
        sums = metrics.training_sums(logits, targets, loss)
        # A network without batch norms has no statistics.
        batch_stats = rebundled(updated.get("batch_stats", {}), batch_stats)
        return loss.mean(), (batch_stats, sums)

    def of_piece(batch_stats, images, targets, key):
        grads, (batch_stats, sums) = jax.grad(loss_fn, has_aux=True)(
            state.params, batch_stats, images, targets, key
        )
        return grads, batch_stats, sums

    def add_piece(carry, piece):
        grads, batch_stats, sums = carry
        new_grads, batch_stats, new_sums = of_piece(batch_stats, *piece)
        grads, sums = jax.tree.map(jnp.add, (grads, sums), (new_grads, new_sums))
        return (grads, batch_stats, sums), None

    pieces = task.accumulate
    if pieces == 1:
        return of_piece(state.batch_stats, images, targets, key)
    split = [
        jnp.moveaxis(x.reshape(-1, pieces, *x.shape[1:]), 1, 0)
        for x in (images, targets)
    ]
    zeros = jax.tree.map(jnp.zeros_like, state.params)
    start = (zeros, state.batch_stats, metrics.zeros(metrics.TRAINING))
    (grads, batch_stats, sums), _ = lax.scan(
        add_piece, start, (*split, jax.random.split(key, pieces))
    )
    return jax.tree.map(lambda g: g / pieces, grads), batch_stats, sums


def _moved_average(state: TrainState, decay: float) -> dict:
    """Moves the averages, faster in the first steps, which are soon outdated."""
    step = state.step.astype(jnp.float32)
    decay = jnp.minimum(decay, (1 + step) / (10 + step))
    # In this form what does not change stays exactly what it is.
    return jax.tree.map(
        lambda old, new: old + (1 - decay) * (new - old),
        state.average,
        state.variables,
    )

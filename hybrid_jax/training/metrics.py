"""Metrics: what a device sums up for each batch, and the numbers that users see.

Sums over any number of batches add up to the sums over all images, so a metric never
depends on how a split was cut into batches. To add a metric, add a row to `METRICS`.

Shapes: B images of a batch, C classes.
"""

from collections.abc import Callable, Container, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hybrid_jax.config.schema import LossConfig
from hybrid_jax.training.losses import LOSSES, compute_loss

Sums = dict[str, jax.Array]
Number = float | list[float | None]

IMAGES = "images"  # key of the number of images, among the sums
TOP = 5
COLDEST, HOTTEST = 0.05, 20.0  # bounds of a fitted temperature
TEMPERATURES = np.geomspace(COLDEST, HOTTEST, 49).astype(np.float32)


class Predictions(NamedTuple):
    """A network's predictions for a batch, with labels and loss.

    Attributes:
      logits: float32 `[B, C]`.
      log_probabilities: float32 `[B, C]`, natural logarithms of the probabilities that
        the loss computes from logits.
      labels: int32 `[B]`; of mixed images, the class with the largest share.
      loss: float32 `[B]`, nats.
      mask: float32 `[B]`, 0 for padding and 1 for images.
    """

    logits: jax.Array
    log_probabilities: jax.Array
    labels: jax.Array
    loss: jax.Array
    mask: jax.Array


class Metric(NamedTuple):
    """A row of `METRICS`.

    Attributes:
      sums: maps a batch to the sums to add up over batches: a number or an array, such
        as one number per class.
      value: maps the sums over all batches, and the number of images, to what users
        see. A list has None where there is no number.
      title: name in tables; empty leaves the metric out of them.
      is_share: whether tables show it in percent.
      training: whether it is computed for training batches.
    """

    sums: Callable[[Predictions], jax.Array]
    value: Callable[[np.ndarray, float], Number]
    title: str = ""
    is_share: bool = True
    training: bool = False


def _mean(sums: np.ndarray, images: float) -> float:
    return float(sums / images)


def _is_right(batch: Predictions) -> jax.Array:
    return batch.logits.argmax(-1) == batch.labels


def _is_in_top(batch: Predictions) -> jax.Array:
    top = jax.lax.top_k(batch.logits, min(TOP, batch.logits.shape[-1]))[1]
    return (top == batch.labels[:, None]).any(-1)


def class_sums(batch: Predictions) -> jax.Array:
    """Return correct predictions and images of each class, float32 `[2, C]`."""
    images = batch.mask[:, None] * jax.nn.one_hot(batch.labels, batch.logits.shape[-1])
    return jnp.stack([(images * _is_right(batch)[:, None]).sum(0), images.sum(0)])


def class_accuracy(sums: np.ndarray, images: float) -> list[float | None]:
    """Return the accuracy of each class, 0 to 1; None for a class without images."""
    return [float(r / n) if n else None for r, n in zip(*sums, strict=True)]


def balanced_accuracy(sums: np.ndarray, images: float) -> float:
    """Return the mean of `class_accuracy` over the classes that have images."""
    return float(np.mean([a for a in class_accuracy(sums, images) if a is not None]))


def losses_at_temperatures(batch: Predictions) -> jax.Array:
    """Return the summed loss in nats at each of `TEMPERATURES`, float32 `[49]`."""
    scaled = batch.log_probabilities[:, None] / TEMPERATURES[:, None]
    labels = batch.labels[:, None, None]
    right = jnp.take_along_axis(scaled, labels, axis=2)[..., 0]
    losses = jax.nn.logsumexp(scaled, axis=2) - right
    return batch.mask @ losses


def best_temperature(sums: np.ndarray, images: float) -> float:
    """Return the temperature of the least loss, by a parabola through three losses.

    The temperature is 1 if a label has probability 0, whose loss is always infinite.

    Source: Guo et al. 2017, On calibration of modern neural networks.
    """
    middle = int(np.clip(np.argmin(sums), 1, len(sums) - 2))
    before, least, after = sums[middle - 1 : middle + 2]
    if not np.isfinite([before, least, after]).all():
        return 1.0
    curvature = before - 2 * least + after
    shift = (before - after) / (2 * curvature) if curvature > 0 else 0.0
    step = np.log(TEMPERATURES[1] / TEMPERATURES[0])
    return float(TEMPERATURES[middle] * np.exp(np.clip(shift, -1, 1) * step))


METRICS: dict[str, Metric] = {
    "loss": Metric(
        sums=lambda batch: (batch.mask * batch.loss).sum(),
        value=_mean,
        title="loss",
        is_share=False,
        training=True,
    ),
    "accuracy": Metric(
        sums=lambda batch: (batch.mask * _is_right(batch)).sum(),
        value=_mean,
        title="accuracy",
        training=True,
    ),
    "top5": Metric(
        sums=lambda batch: (batch.mask * _is_in_top(batch)).sum(),
        value=_mean,
        title="top-5 accuracy",
    ),
    "balanced_accuracy": Metric(
        sums=class_sums, value=balanced_accuracy, title="balanced accuracy"
    ),
    "class_accuracy": Metric(sums=class_sums, value=class_accuracy),
    "temperature": Metric(
        sums=losses_at_temperatures, value=best_temperature, is_share=False
    ),
}


def with_titles(measured: Container[str], classes: int) -> dict[str, Metric]:
    """Return the rows of metrics that tables show.

    Args:
      measured: names of metrics; earlier versions had fewer.
      classes: number of classes. Top-5 accuracy says nothing of five or fewer.
    """
    return {
        name: row
        for name, row in METRICS.items()
        if row.title and name in measured and not (classes <= TOP and name == "top5")
    }


def names(*, training: bool) -> tuple[str, ...]:
    """Return the metrics of training, or those of an evaluation, which are all."""
    return tuple(n for n, row in METRICS.items() if row.training or not training)


def batch_sums(batch: Predictions, *, training: bool) -> Sums:
    """Return the sums of a batch, and how many images it has."""
    rows = {name: METRICS[name].sums(batch) for name in names(training=training)}
    return {IMAGES: batch.mask.sum(), **rows}


def training_sums(
    logits: jax.Array, shares: jax.Array, loss: jax.Array, config: LossConfig
) -> Sums:
    """Return the sums of a training batch.

    An image counts as right when the class with the largest share is predicted.

    Args:
      logits: float32 `[B, C]`.
      shares: float32 `[B, C]`, of the classes.
      loss: float32 `[B]`.
      config: names the loss.
    """
    batch = Predictions(
        logits=logits,
        log_probabilities=LOSSES[config.name].log_probabilities(logits),
        labels=shares.argmax(-1),
        loss=loss,
        mask=jnp.ones(len(logits)),
    )
    return batch_sums(batch, training=True)


def evaluation_sums(
    logits: jax.Array, labels: jax.Array, mask: jax.Array, config: LossConfig
) -> Sums:
    """Return the sums of a padded batch, without label smoothing and class weights.

    Args:
      logits: float32 `[B, C]`.
      labels: int32 `[B]`.
      mask: float32 `[B]`, 0 for padding.
      config: names the loss.
    """
    targets = jax.nn.one_hot(labels, logits.shape[-1])
    loss = compute_loss(logits, targets, config)
    batch = Predictions(
        logits=logits,
        log_probabilities=LOSSES[config.name].log_probabilities(logits),
        labels=labels,
        loss=loss,
        mask=mask,
    )
    return batch_sums(batch, training=False)


def zeros(classes: int, *, training: bool, steps: tuple[int, ...] = ()) -> Sums:
    """Return sums over no images.

    Args:
      classes: number of classes.
      training: True for the metrics of training, False for those of an evaluation.
      steps: leading axes, for the sums of each of several steps.
    """
    empty = Predictions(
        logits=jnp.zeros((1, classes)),
        log_probabilities=jnp.zeros((1, classes)),
        labels=jnp.zeros(1, jnp.int32),
        loss=jnp.zeros(1),
        mask=jnp.zeros(1),
    )
    shapes = jax.eval_shape(lambda: batch_sums(empty, training=training))
    return jax.tree.map(lambda x: jnp.zeros((*steps, *x.shape), x.dtype), shapes)


def means(*sums: Mapping[str, Any]) -> dict[str, Number]:
    """Return the numbers that users see: loss in nats, accuracies from 0 to 1.

    Args:
      *sums: of batches, or arrays of the sums of several steps.
    """
    added = total(*sums)
    images = added.pop(IMAGES)
    return {
        name: METRICS[name].value(np.asarray(value), images)
        for name, value in added.items()
    }


def total(*sums: Mapping[str, Any]) -> dict[str, Any]:
    """Return sums, added up in double precision, as floats and lists; empty for none.

    Args:
      *sums: of batches, or arrays of the sums of several steps.
    """
    added: dict[str, Any] = {}
    for part in jax.device_get(sums):
        # Sums of several steps have the axis of the steps in front.
        steps = tuple(range(np.ndim(part[IMAGES])))
        for name, value in part.items():
            row = np.sum(np.asarray(value), axis=steps, dtype=np.float64)
            added[name] = added.get(name, 0.0) + row
    return {name: np.asarray(value).tolist() for name, value in added.items()}


def scalars(values: Mapping[str, Any]) -> dict[str, float]:
    """Return the metrics that are one number."""
    return {name: v for name, v in values.items() if not isinstance(v, list)}

"""Losses, and how much the images of each class count in them.

A row of `LOSSES` says what training minimizes, and how logits become probabilities.
To add a loss, add a row.

Shapes: B images, C classes.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
import optax

from hybrid_jax.config.schema import LossConfig


class Loss(NamedTuple):
    """A row of `LOSSES`.

    Attributes:
      per_image: maps logits float32 `[B, C]`, targets float32 `[B, C]` and the config
        to losses float32 `[B]` in nats. Targets are those of `weigh_and_smooth`. They
        sum to the weight of the image, which is 1 without class weights.
      scores: maps logits `[B, C]` to scores `[B, C]`. Probabilities are their softmax.
    """

    per_image: Callable[[jax.Array, jax.Array, LossConfig], jax.Array]
    scores: Callable[[jax.Array], jax.Array]

    def probabilities(self, logits: jax.Array) -> jax.Array:
        """Return probabilities `[B, C]` that sum to 1."""
        return jax.nn.softmax(self.scores(logits))

    def log_probabilities(self, logits: jax.Array) -> jax.Array:
        """Return natural logarithms of the probabilities, `[B, C]`."""
        return jax.nn.log_softmax(self.scores(logits))


def softmax_cross_entropy(
    logits: jax.Array, targets: jax.Array, config: LossConfig
) -> jax.Array:
    """Return cross-entropy over classes that exclude each other."""
    return optax.softmax_cross_entropy(logits, targets)


def sigmoid_cross_entropy(
    logits: jax.Array, targets: jax.Array, config: LossConfig
) -> jax.Array:
    """Return binary cross-entropy of each class, summed over classes.

    Source: Beyer et al. 2020, Are we done with ImageNet?; Wightman et al. 2021, ResNet
    strikes back (which takes the mean over classes instead of the sum).
    """
    weights = targets.sum(-1)
    binary = optax.sigmoid_binary_cross_entropy(logits, targets / weights[:, None])
    return weights * binary.sum(-1)


def focal(logits: jax.Array, targets: jax.Array, config: LossConfig) -> jax.Array:
    """Return binary cross-entropy times `(1 - p_t) ** gamma`, summed over classes.

    `p_t` is the probability of the right answer. For a soft target `t` it is
    `t p + (1 - t) (1 - p)`, so the factor of a smoothed label never reaches 0.

    Source: Lin et al. 2017, Focal Loss for Dense Object Detection, without its alpha,
    which `config.loss.class_weights` replaces.
    """
    weights = targets.sum(-1)
    binary = optax.sigmoid_focal_loss(
        logits, targets / weights[:, None], gamma=config.focal_gamma
    )
    return weights * binary.sum(-1)


def exclusive_scores(logits: jax.Array) -> jax.Array:
    """Return the logits themselves as scores: probabilities are their softmax."""
    return logits


# An image has one class, so its probabilities sum to 1, as those of scikit-learn's
# `OneVsRestClassifier` do: the sigmoids of the image divided by their sum.
LOSSES: dict[str, Loss] = {
    "softmax": Loss(softmax_cross_entropy, exclusive_scores),
    "sigmoid": Loss(sigmoid_cross_entropy, jax.nn.log_sigmoid),
    "focal": Loss(focal, jax.nn.log_sigmoid),
}


def compute_loss(
    logits: jax.Array, targets: jax.Array, config: LossConfig
) -> jax.Array:
    """Return the losses float32 `[B]` in nats, by the row that the config names."""
    return LOSSES[config.name].per_image(logits, targets, config)


def weigh_and_smooth(
    shares: jax.Array, class_weights: jax.Array | None, smoothing: float
) -> jax.Array:
    """Return targets: the shares times class weights, smoothed.

    Smoothing comes last, so that a class with a large weight gets no larger part of
    other classes' images. The weight of an image of one class is that of its class.

    Args:
      shares: float32 `[B, C]`, shares of the classes in each image, which sum to 1.
      class_weights: float32 `[C]`, or None.
      smoothing: share of an image's weight that all classes get in equal parts.
    """
    weighted = shares if class_weights is None else shares * class_weights
    everywhere = weighted.mean(-1, keepdims=True)
    return (1 - smoothing) * weighted + smoothing * everywhere


def balanced_weights(labels: np.ndarray, classes: int) -> np.ndarray:
    """Return weights float32 `[classes]`, inverse to the number of images per class.

    Their mean over images is 1, so a learning rate means the same as without them.
    A class without images has weight 0.
    """
    from sklearn.utils.class_weight import compute_class_weight  # a slow import

    present = np.unique(labels)
    weights = np.zeros(classes, np.float32)
    weights[present] = compute_class_weight("balanced", classes=present, y=labels)
    return weights


# Maps labels `[N]` and the number of classes to the weight of each class in the loss.
CLASS_WEIGHTS: dict[str, Callable[[np.ndarray, int], np.ndarray | None]] = {
    "none": lambda labels, classes: None,
    "balanced": balanced_weights,
}

"""The numbers that users see, summed on the device and divided in one place.

Sums over any number of batches add up to the sums over all images, so a metric never
depends on how a split was cut into batches.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

Sums = dict[str, jax.Array]

TOP = 5

TRAINING = ("images", "loss", "accuracy")
EVALUATION = ("images", "loss", "accuracy", "top5")


def zeros(names: tuple[str, ...], shape: tuple[int, ...] = ()) -> Sums:
    """Sums over no images."""
    return {name: jnp.zeros(shape) for name in names}


def training_sums(logits: jax.Array, targets: jax.Array, loss: jax.Array) -> Sums:
    """Of one training batch: logits and mixed targets `[B, classes]`, losses `[B]`.

    An image counts as right when the heaviest class of its target is predicted.
    """
    right = logits.argmax(-1) == targets.argmax(-1)
    return {
        "images": jnp.float32(len(logits)),
        "loss": loss.sum(),
        "accuracy": right.sum(dtype=jnp.float32),
    }


def evaluation_sums(logits: jax.Array, labels: jax.Array, mask: jax.Array) -> Sums:
    """Of one padded batch: logits `[B, classes]`, labels and mask (0 or 1) `[B]`."""
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    top = jax.lax.top_k(logits, min(TOP, logits.shape[-1]))[1]
    return {
        "images": mask.sum(),
        "loss": (mask * loss).sum(),
        "accuracy": (mask * (top[:, 0] == labels)).sum(),
        "top5": (mask * (top == labels[:, None]).any(-1)).sum(),
    }


def means(*sums: Sums) -> dict[str, float]:
    """Sums, added up, as means over images: loss in nats, accuracies from 0 to 1."""
    added = total(*sums)
    images = added.pop("images")
    return {name: value / images for name, value in added.items()}


def total(*sums: Sums) -> dict[str, float]:
    """Sums, and arrays of sums, added up in double precision; empty without any."""
    added: dict[str, float] = {}
    for part in jax.device_get(sums):
        for name, value in part.items():
            added[name] = added.get(name, 0.0) + float(np.sum(value, dtype=np.float64))
    return added

"""Published rules that choose a few training images of each class, by their order.

Random subsets differ from paper to paper; these subsets are fixed by publications.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from hybrid_jax.config.schema import DataConfig
from hybrid_jax.errors import UserError, plural


class Protocol(NamedTuple):
    """Sizes of a published subset.

    Attributes:
      per_class: images of each class, for training and validation together.
      validation: share of these images for validation; the last ones are taken.
    """

    per_class: int
    validation: float


PROTOCOLS: dict[str, Protocol] = {
    # Brigato et al. 2021, Tune It or Don't Use It: 30 images a class to train and 20 to
    # validate on; then training on all 50.
    "deic": Protocol(per_class=50, validation=0.4),
}


def select(
    labels: np.ndarray, classes: Sequence[str], config: DataConfig
) -> tuple[np.ndarray, np.ndarray]:
    """Select the images of a protocol, by their order in each class.

    `config.per_class` takes fewer or more images than the protocol: smaller subsets are
    the first images of larger ones. Each further `config.split_seed` begins as many
    images later as the protocol or `per_class` takes. `config.validation` is a share, a
    fold in the order of the images, or 0; its default stands for the protocol's share.

    Args:
      labels: int32 `[N]` of the training images, in their order.
      classes: class names, in the order of the labels.
      config: data set configuration; names the protocol.

    Returns:
      Masks of the training and the validation images, bool `[N]` each.

    Raises:
      UserError: a class has too few images, or one of the two parts would be empty.
    """
    protocol = PROTOCOLS[config.protocol]
    per_class = config.per_class or protocol.per_class
    start = config.split_seed * max(per_class, protocol.per_class)
    counts = np.bincount(labels, minlength=len(classes))
    for label in np.flatnonzero((counts > 0) & (counts < start + per_class)).tolist():
        raise UserError(
            f"config.data.protocol={config.protocol} takes images {start + 1} to "
            f"{start + per_class} of each class, and class {classes[label]!r} has "
            f"{plural(counts[label], 'training image')}: "
            f"{_way_out(int(counts[counts > 0].min()), protocol, config)}"
        )
    ranks = np.empty(len(labels), np.int64)
    for label in np.flatnonzero(counts).tolist():
        ranks[labels == label] = np.arange(counts[label])
    ranks -= start
    is_selected = (ranks >= 0) & (ranks < per_class)
    begin, end = _validation_ranks(config.validation, per_class, protocol)
    is_validation = is_selected & (ranks >= begin) & (ranks < end)
    return is_selected & ~is_validation, is_validation


def _way_out(fewest: int, protocol: Protocol, config: DataConfig) -> str:
    """Return what to do if the smallest class has too few images, in words."""
    most = fewest // (config.split_seed + 1)
    if most < protocol.per_class:
        most = fewest - config.split_seed * protocol.per_class
    needed = 1 if config.validation == 0 else 2
    ways = ["lower config.data.split_seed"] if config.split_seed else []
    if most >= needed:
        ways.insert(0, f"set config.data.per_class to {most} or fewer")
    return " or ".join(ways or ["add images"])


def _validation_ranks(
    requested: float | str, per_class: int, protocol: Protocol
) -> tuple[int, int]:
    """Return the range of validation ranks in each class: the first, one past the last.

    Raises:
      UserError: nothing would be left to train on, or to validate on.
    """
    if requested == 0:
        return per_class, per_class
    if isinstance(requested, str):
        number, folds = map(int, requested.split("/"))
        begin, end = per_class * (number - 1) // folds, per_class * number // folds
    else:
        share = protocol.validation
        share = share if requested == DataConfig.validation else requested
        begin, end = per_class - round(share * per_class), per_class
    if not 0 < end - begin < per_class:
        raise UserError(
            f"config.data.validation={requested} validates on {end - begin} and trains "
            f"on {per_class - end + begin} of {per_class} images of each class: raise "
            "config.data.per_class, or give another share"
        )
    return begin, end

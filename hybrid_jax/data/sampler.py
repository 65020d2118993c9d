"""Order of the images: batch `t` is a pure function of the seed and `t`.

Training concatenates endless epochs, each as long as the split, and batch `t` is the
`t`-th block of the result. So every image is used once an epoch whatever the batch
size, and resuming needs no state but the step.
"""

import numpy as np


def uniform_epoch(seed: int, epoch: int, labels: np.ndarray) -> np.ndarray:
    """Return the index of every image once, in random order, `[N]`."""
    return np.random.default_rng([seed, epoch]).permutation(len(labels))


def balanced_epoch(seed: int, epoch: int, labels: np.ndarray) -> np.ndarray:
    """Return `[N]` indices with every class equally often (within one image), shuffled.

    Each class has an endless sequence of permutations, over all epochs: no image is
    used again before all others of its class have been.
    """
    size, classes = len(labels), np.unique(labels)
    parts = []
    for i, label in enumerate(classes):
        rows = np.flatnonzero(labels == label)
        # floor((x + i) / k) over all i from 0 to below k adds up to x.
        start, stop = ((e * size + i) // len(classes) for e in (epoch, epoch + 1))
        for lap in range(start // len(rows), -(-stop // len(rows))):
            permuted = np.random.default_rng([seed, lap, label, 1]).permutation(rows)
            first = lap * len(rows)
            parts.append(permuted[max(start - first, 0) : stop - first])
    order = np.concatenate(parts)
    return np.random.default_rng([seed, epoch]).permutation(order)


SAMPLINGS = {"uniform": uniform_epoch, "balanced": balanced_epoch}


class TrainingOrder:
    """The image indices of every training step; can be pickled.

    Attributes:
      skipped: batches to leave out, counted from 0; later batches move up.
    """

    def __init__(
        self, labels: np.ndarray, batch_size: int, seed: int, sampling: str = "uniform"
    ):
        """Store the arguments.

        Args:
          labels: label of each image, `[N]`.
          batch_size: images of a batch.
          seed: seed of the order.
          sampling: row of `SAMPLINGS`.
        """
        self.batch_size = batch_size
        self.skipped: tuple[int, ...] = ()
        self._labels, self._seed = np.asarray(labels), seed
        self._sampling = sampling
        self._epochs: dict[int, np.ndarray] = {}  # the latest two

    def __call__(self, step: int) -> np.ndarray:
        """Return indices int32 `[batch_size]` of the images of a step."""
        position, missing = self.batch(step) * self.batch_size, self.batch_size
        parts = []
        while missing:
            epoch, start = divmod(position, len(self._labels))
            part = self._epoch(epoch)[start : start + missing]
            parts.append(part)
            position, missing = position + len(part), missing - len(part)
        return np.concatenate(parts)

    def batch(self, step: int) -> int:
        """Return the index of the batch that a step trains on, past skipped batches."""
        batch = step
        for skipped in sorted(self.skipped):
            batch += skipped <= batch
        return batch

    def _epoch(self, epoch: int) -> np.ndarray:
        epochs = self._epochs  # other threads may replace it
        if epoch not in epochs:
            order = SAMPLINGS[self._sampling](self._seed, epoch, self._labels)
            latest = dict(sorted(epochs.items())[-1:])
            epochs = latest | {epoch: order.astype(np.int32)}
            self._epochs = epochs
        return epochs[epoch]


class EvaluationOrder:
    """The image indices of an evaluation: every image once, in order.

    The last batch is padded with image 0. The steps of a second evaluation follow those
    of the first, so a stream continues.
    """

    def __init__(self, size: int, batch_size: int):
        self.size, self.batch_size = size, batch_size

    def __len__(self) -> int:
        """Return the number of batches of one evaluation."""
        return -(-self.size // self.batch_size)

    def __call__(self, step: int) -> np.ndarray:
        """Return indices int32 `[batch_size]` of the images of a batch."""
        rows = self._rows(step)
        return np.where(rows < self.size, rows, 0).astype(np.int32)

    def mask(self, step: int) -> np.ndarray:
        """Return float32 `[batch_size]`: 1 for each image of a batch, 0 for padding."""
        return (self._rows(step) < self.size).astype(np.float32)

    def _rows(self, step: int) -> np.ndarray:
        first = step % len(self) * self.batch_size
        return np.arange(first, first + self.batch_size)


def host_share(rows: np.ndarray, host: int, hosts: int) -> np.ndarray:
    """Return the rows of a batch that one of several hosts reads."""
    return np.split(rows, hosts)[host]

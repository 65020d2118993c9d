"""Run a trained network: its programs are compiled when they are first needed."""

import functools
import numbers
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

from hybrid_jax import runtime
from hybrid_jax.config.schema import Config
from hybrid_jax.data import Split
from hybrid_jax.data.prefetch import BatchReader, PrefetchedBatches
from hybrid_jax.data.sampler import EvaluationOrder
from hybrid_jax.errors import UserError, escape, plural
from hybrid_jax.parallel.mesh import Devices, create_devices
from hybrid_jax.programs.compile import compiler_threads
from hybrid_jax.programs.programs import Evaluator, Predictor
from hybrid_jax.training import metrics
from hybrid_jax.training.step import Network


class Inference:
    """A network with its weights on the devices, and a program for each shape."""

    def __init__(self, config: Config, network: Network, variables: dict):
        """Store the arguments; devices and programs are set up when first needed.

        Args:
          config: says which devices to use, and how images are read.
          network: the model, and how images are normalized.
          variables: parameters and batch statistics.
        """
        self._config, self._network, self._variables = config, network, variables
        self._evaluators: dict[tuple, Evaluator] = {}
        self._predictors: dict[tuple, Predictor] = {}

    def evaluate(self, split: Split) -> dict[str, metrics.Number]:
        """Return the metrics of a split.

        Raises:
          UserError: the logits of an image are not finite.
        """
        most = self._config.train.eval_batch_size
        key = (split.shape[1:], split.extents is None, min(len(split), most))
        with compiler_threads() as threads:
            if key not in self._evaluators:
                self._evaluators[key] = Evaluator(
                    threads,
                    self._devices,
                    self._network,
                    self._shapes,
                    [split],
                    most,
                    self._config.data.workers,
                )
            evaluator = self._evaluators[key]
            try:
                found = evaluator(self._network, self._on_devices, split)
            finally:
                evaluator.forget(split)
        if not np.isfinite(np.asarray(found["loss"])):
            self.split_logits(split)  # which names the image
        return found

    def split_logits(self, split: Split) -> np.ndarray:
        """Return logits float32 `[N, classes]` of a split, streamed or in memory.

        Args:
          split: images in the run's form.

        Raises:
          UserError: those of an image are not finite.
        """
        size = batch_size_for(self._config.train.eval_batch_size, len(split))
        batches = read_batches(split, size, self._config.data.workers)
        parts = [
            self.logits(images, extents, size, range(row * size, len(split)))
            for row, (images, _, extents) in enumerate(batches)
        ]
        return np.concatenate(parts)[: len(split)]

    def logits(
        self,
        images: np.ndarray,
        extents: np.ndarray | None,
        batch_size: int,
        names: Sequence[int | str],
    ) -> np.ndarray:
        """Return logits float32 `[n, classes]` of a batch in the run's form.

        Args:
          images: uint8 `[n, h, w, C]`, at most `batch_size` of them.
          extents: int32 `[n, 2]`, height and width that each image fills; None if all
            images fill their arrays.
          batch_size: batch size of the program.
          names: number or name of each image, for errors; images beyond are not looked
            at, nor are names beyond.

        Raises:
          UserError: the logits of an image are not finite.
        """
        key = (images.shape[1:], extents is None, batch_size)
        if key not in self._predictors:
            with compiler_threads() as threads:
                self._predictors[key] = Predictor(
                    threads,
                    self._devices,
                    self._network,
                    self._shapes,
                    images.shape[1:],
                    extents is not None,
                    batch_size,
                )
        predictor = self._predictors[key]
        logits = predictor(self._network, self._on_devices, images, extents)
        check_finite(logits, names)
        return logits

    @functools.cached_property
    def _devices(self) -> Devices:
        runtime.set_up(self._config.compilation_cache)
        return create_devices(count=self._config.parallel.devices)

    @functools.cached_property
    def _on_devices(self) -> dict:
        """Return the variables, on the devices."""
        return self._devices.put(self._variables, self._shapes)

    @functools.cached_property
    def _shapes(self) -> dict:
        shapes = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(np.shape(x), x.dtype), self._variables
        )
        return self._devices.state_shapes(shapes)


def check_finite(logits: np.ndarray, names: Sequence[int | str]) -> None:
    """Refuse logits that are not finite, whose largest would be the first class.

    Raises:
      UserError: names the first such image.
    """
    bad = np.flatnonzero(~np.isfinite(logits[: len(names)]).all(1))
    if len(bad):
        name, count = names[bad[0]], min(len(logits), len(names))
        is_number = isinstance(name, int)
        which = f"image {name:,}, counted from 0," if is_number else escape(name)
        raise UserError(
            f"the logits of {which} are not finite, like those of {len(bad):,} of the "
            f"{plural(count, 'image')} of its batch: leave it out, give another "
            "checkpoint, or train again at a lower learning rate"
        )


def read_batches(
    split: Split, batch_size: int, workers: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray | None]]:
    """Yield a split once, in order; the last batch is padded with image 0.

    Args:
      split: streamed or in memory.
      batch_size: images per batch.
      workers: processes that decode streamed images; 0 decodes in threads.

    Yields:
      Images uint8 `[B, h, w, C]`, labels `[B]`, and extents `[B, 2]` or None.
    """
    order = EvaluationOrder(len(split), batch_size)
    batches: Any = BatchReader(split, order)
    if not split.resident:
        batches = PrefetchedBatches(batches, workers)
    for step in range(len(order)):
        images, labels, *extents = batches[step]
        yield images, labels, extents[0] if extents else None


def batch_size_for(batch_size: int, count: int) -> int:
    """Return the batch size for `count` images: a power of two up to `batch_size`.

    Each batch size needs its own program, so few different ones are used.

    Raises:
      UserError: `batch_size` is no whole number above 0.
    """
    if not isinstance(batch_size, numbers.Integral) or batch_size < 1:
        raise UserError(f"batch_size={batch_size!r} is not a whole number above 0")
    return min(int(batch_size), 1 << max(count - 1, 0).bit_length())

"""Decoded batches by step, made ahead of time in threads or processes (grain)."""

import contextlib
import math
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable

import numpy as np
from absl import flags

from hybrid_jax.data import Split

AHEAD = 2  # batches, for each thread or process
MOST_THREADS = 16  # beyond them they wait for each other
BYTES_AHEAD = 1 << 30  # of batches that threads have ready
UNTAKEN = "ignore:resource_tracker:UserWarning"


class Batches:
    """Batch `t` at `[t]`, made ahead where steps are asked for one after the other."""

    def __init__(self, rows: "Rows", workers: int = 0):
        """Begins with nothing.

        Args:
          rows: gives the batch of any step.
          workers: processes that decode; 0 decodes in threads.
        """
        self._rows, self._workers = rows, workers
        self._next, self._ready = None, None

    def __getitem__(self, step: int) -> tuple[np.ndarray, ...]:
        """Images uint8 `[B, h, w, C]`, labels int32 `[B]`, maybe extents `[B, 2]`."""
        if step != self._next:
            self._ready = self._from(step)
        self._next = step + 1
        return next(self._ready)

    def _from(self, step: int):
        import grain  # takes a fifth of a second

        batches = grain.MapDataset.range(step, 2**31).map(self._rows.__getitem__)
        if not self._workers:
            threads = min(os.cpu_count(), MOST_THREADS)
            room = BYTES_AHEAD // self._rows.batch_bytes(step)
            ahead = max(min(AHEAD * threads, room), 1)
            options = grain.ReadOptions(threads, prefetch_buffer_size=ahead)
            return iter(batches.to_iter_dataset(options))
        if not flags.FLAGS.is_parsed():  # grain's processes are handed the flags
            flags.FLAGS.mark_as_parsed()
        # Batches that nobody took lie in shared memory, where Python's tracker removes
        # them at the end, and would complain. It takes its filters from here.
        if UNTAKEN not in sys.warnoptions:
            sys.warnoptions.append(UNTAKEN)
        options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=AHEAD)
        processes = grain.MultiprocessingOptions(self._workers, AHEAD)
        return iter(batches.to_iter_dataset(options).mp_prefetch(processes))


class Rows:
    """Batch `t` at `[t]`, made when it is asked for; can go to other processes."""

    def __init__(self, split: Split, order: Callable[[int], np.ndarray]):
        self._split, self._order = split, order

    def batch_bytes(self, step: int) -> int:
        """Size of the images of a batch."""
        return len(self._order(step)) * math.prod(self._split.images.shape[1:])

    def __setstate__(self, state: dict) -> None:
        self.__dict__ = state
        if parent := multiprocessing.parent_process():
            _end_quietly_with(parent)

    def __getitem__(self, step: int) -> tuple[np.ndarray, ...]:
        rows, split = self._order(step), self._split
        return split.images[rows], *(array[rows] for array in split.beside_images)


def _end_quietly_with(parent) -> None:
    """Has this process of grain's live as long as its parent, who is told to end."""

    def wait():
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
    with contextlib.suppress(ValueError):  # in a thread, which gets no signals
        # They reach a whole group.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)

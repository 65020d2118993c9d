"""Decoded batches by step, which grain prefetches in threads or processes."""

import contextlib
import math
import multiprocessing
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess

import numpy as np
from absl import flags

from hybrid_jax.data import Split
from hybrid_jax.data.cores import usable_cores
from hybrid_jax.errors import ProcessDied

PREFETCH_BATCHES = 2  # batches, for each thread or process
MAX_THREADS = 16  # more threads wait for each other
PREFETCH_BYTES = 1 << 30  # of all prefetched batches
WARNING_FILTER = "ignore:resource_tracker:UserWarning"
WORKER_DIED = re.compile(r"Worker process .* exit code (-?\d+)")  # as grain says it


class PrefetchedBatches:
    """Batches by step: `[t]` is batch `t`, prefetched while steps are consecutive."""

    def __init__(self, rows: "BatchReader", workers: int = 0):
        """Store the arguments; decoding starts at the first step.

        Args:
          rows: reader of the batch of any step.
          workers: processes that decode; 0 decodes in threads.
        """
        self._rows, self._workers = rows, workers
        self._next_step: int | None = None
        self._iterator: Iterator[tuple[np.ndarray, ...]] = iter(())

    def __getitem__(self, step: int) -> tuple[np.ndarray, ...]:
        """Return images `[B, h, w, C]`, labels `[B]` and maybe extents `[B, 2]`.

        Raises:
          ProcessDied: a worker process was killed, or could not start.
        """
        if step != self._next_step:
            self._iterator = self._batches_from(step)
        self._next_step = step + 1
        try:
            return next(self._iterator)
        except RuntimeError as error:
            died = WORKER_DIED.search(str(error))
            if not died:
                raise
            raise _process_died(int(died[1])) from None

    def _batches_from(self, step: int) -> Iterator[tuple[np.ndarray, ...]]:
        import grain  # takes a fifth of a second

        batches = grain.MapDataset.range(step, 2**31).map(self._rows.__getitem__)
        if not self._workers:
            threads = min(usable_cores(), MAX_THREADS)
            budget = PREFETCH_BYTES // self._rows.batch_bytes(step)
            prefetch = max(min(PREFETCH_BATCHES * threads, budget), 1)
            read_options = grain.ReadOptions(threads, prefetch_buffer_size=prefetch)
            return iter(batches.to_iter_dataset(read_options))
        if not flags.FLAGS.is_parsed():  # grain passes the flags to its processes
            flags.FLAGS.mark_as_parsed()
        # Unread batches lie in shared memory. Python's resource tracker removes them at
        # the end with a warning; it inherits its filters from here.
        if WARNING_FILTER not in sys.warnoptions:
            sys.warnoptions.append(WARNING_FILTER)
        read_options = grain.ReadOptions(
            num_threads=1, prefetch_buffer_size=PREFETCH_BATCHES
        )
        processes = grain.MultiprocessingOptions(self._workers, PREFETCH_BATCHES)
        return iter(batches.to_iter_dataset(read_options).mp_prefetch(processes))


def _process_died(code: int) -> ProcessDied:
    if code < 0:
        end = (
            f"by {signal.Signals(-code).name}: run the same command to resume, with "
            "fewer of them if the memory was full"
        )
    else:
        end = (
            f"with exit code {code}, for the reason that it printed. A script of your "
            'own has to start the run behind `if __name__ == "__main__":`'
        )
    return ProcessDied(
        f"a process that decodes images (config.data.workers) ended {end}"
    )


class BatchReader:
    """Batches by step: `[t]` reads and decodes batch `t`; can be pickled."""

    def __init__(self, split: Split, order: Callable[[int], np.ndarray]):
        self._split, self._order = split, order

    def batch_bytes(self, step: int) -> int:
        """Return the size of a batch's images in bytes."""
        return len(self._order(step)) * math.prod(self._split.images.shape[1:])

    def __setstate__(self, state: dict) -> None:
        self.__dict__ = state
        if parent := multiprocessing.parent_process():
            _exit_with_parent(parent)

    def __getitem__(self, step: int) -> tuple[np.ndarray, ...]:
        rows, split = self._order(step), self._split
        return split.images[rows], *(array[rows] for array in split.per_image_arrays)


def _exit_with_parent(parent: BaseProcess) -> None:
    """End this worker process with its parent, and leave signals to the parent."""

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
    with contextlib.suppress(ValueError):  # outside of the main thread
        # The terminal and schedulers signal the whole process group.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)

"""Prints what loaders give, as one of several processes or with several devices.

    python -m tests.data.loading FOLDER WORKERS [PORT PROCESS PROCESSES]

One line of JSON: a digest of each training batch, of both loaders.
"""

import hashlib
import json
import sys

import jax
import numpy as np

from hybrid_jax import data
from hybrid_jax.data.loaders import create_loader
from hybrid_jax.data.order import TrainingOrder

BATCH, STEPS, FIRST = 8, 5, 3


def digests(path: str, loader: str, workers: int) -> list[str]:
    """Of batches `FIRST` to `FIRST + STEPS`, the last two of them asked for apart."""
    splits = data.load("folder", path + ".kept", path=path, loader=loader)
    order = TrainingOrder(splits.train.labels, BATCH, seed=1)
    made = create_loader(splits.train, order, BATCH, workers, jax.devices())

    def batches(chunk, count):
        pick = jax.jit(made.pick)
        return [pick(made.data, chunk, i) for i in range(count)]

    taken = batches(made.chunk(FIRST, 3), 3) + batches(made.chunk(FIRST + 3, 2), 2)
    found = []
    for images, labels in taken:
        whole = (gathered(images), gathered(labels))
        assert whole[0].shape == (BATCH, 24, 24, 1)
        found.append(hashlib.sha256(b"".join(x.tobytes() for x in whole)).hexdigest())
    return found


def gathered(array: jax.Array) -> np.ndarray:
    """All of an array, of which this process may hold a part."""
    if array.is_fully_addressable:
        return np.asarray(array)
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(array, tiled=True))


def main() -> None:
    path, workers, *processes = sys.argv[1:]
    if processes:
        port, process, count = map(int, processes)
        jax.distributed.initialize(f"localhost:{port}", count, process)
    found = {
        loader: digests(path, loader, int(workers)) for loader in ("resident", "stream")
    }
    print(json.dumps(found | {"devices": len(jax.devices())}), flush=True)


if __name__ == "__main__":
    main()

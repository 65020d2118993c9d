"""Prints what loaders give, as one of several processes or with several devices.

    python -m tests.data.loading FOLDER WORKERS [PORT PROCESS PROCESSES]
    python -m tests.data.loading FOLDER wait

One line of JSON: a digest of each training batch, of both loaders; or the processes of
a stream, which then waits.
"""

import hashlib
import json
import sys
import time

import jax
import numpy as np
import psutil

from hybrid_jax import data
from hybrid_jax.config.schema import DataConfig
from hybrid_jax.data.loader import create_loader
from hybrid_jax.data.sampler import TrainingOrder
from hybrid_jax.parallel.mesh import create_devices

BATCH, STEPS, FIRST = 8, 5, 3


def digests(path: str, loader: str, workers: int) -> list[str]:
    """Of batches `FIRST` to `FIRST + STEPS`, the last two of them asked for apart."""
    splits = data.load(
        DataConfig("folder", path + ".kept", path=path, loader=loader, validation=0)
    )
    order = TrainingOrder(splits.train.labels, BATCH, seed=1)
    made = create_loader(splits.train, order, BATCH, workers, create_devices())

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


def wait_with_workers(path: str) -> None:
    """Prints the processes of a stream, and waits to be killed."""
    splits = data.load(
        DataConfig("folder", path + ".kept", path=path, loader="stream", validation=0)
    )
    order = TrainingOrder(splits.train.labels, BATCH, seed=1)
    loader = create_loader(splits.train, order, BATCH, workers=2)
    loader.chunk(0, 1)
    children = [child.pid for child in psutil.Process().children(recursive=True)]
    print(json.dumps(children), flush=True)
    time.sleep(600)


def main() -> None:
    path, workers, *processes = sys.argv[1:]
    if workers == "wait":
        wait_with_workers(path)
        return
    if processes:
        port, process, count = map(int, processes)
        jax.distributed.initialize(f"localhost:{port}", count, process)
    found = {
        loader: digests(path, loader, int(workers)) for loader in ("resident", "stream")
    }
    print(json.dumps(found | {"devices": len(jax.devices())}), flush=True)


if __name__ == "__main__":
    main()

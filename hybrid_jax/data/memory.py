"""Whether a data set lies on the device whole, or is streamed to it."""

import math
from collections.abc import Iterable

import jax
import psutil

from hybrid_jax.data.encoded import Encoded

SHARE = 0.25  # of the memory, for pixels; the rest is the network's


def is_resident(loader: str, splits: Iterable[Encoded]) -> bool:
    """Row of `config.data.loader`: `resident`, `stream`, or by size what fits."""
    if loader != "auto":
        return loader == "resident"
    return sum(math.prod(images.shape) for images in splits) <= SHARE * memory()


def memory() -> int:
    """Bytes of the device; on a CPU, of the machine."""
    of_device = jax.local_devices()[0].memory_stats() or {}
    return of_device.get("bytes_limit", psutil.virtual_memory().total)

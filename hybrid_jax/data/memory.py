"""Whether a data set lies on the device whole, or is streamed to it."""

import math
from collections.abc import Iterable
from pathlib import Path

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
    """Bytes of the device; on a CPU, of the machine, or what of it we may have."""
    of_device = jax.local_devices()[0].memory_stats() or {}
    total = psutil.virtual_memory().total
    return of_device.get("bytes_limit") or int(min(_allowed(), total))


def _allowed() -> float:
    """Bytes that a container or a scheduler's job may have (Linux's cgroups)."""
    groups = (line.split(":", 2) for line in _text("/proc/self/cgroup").splitlines())
    limits = [
        _text(f"/sys/fs/cgroup/{controllers}{path}/{file}")
        for _, controllers, path in groups
        for file in ("memory.max", "memory.limit_in_bytes")
    ]
    limits.append(_text("/sys/fs/cgroup/memory.max"))  # as a container sees its own
    return min((int(limit) for limit in limits if limit.isdigit()), default=math.inf)


def _text(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
